"""Photos as a stream: whatever names them, in parts that hold the same photos every time."""

import csv
import json
import os

import polars as pl
import pytest
from web import Web, answer

from modiste.errors import ModisteError, PhotoError, UsageError
from modiste.fetching.config import FetchConfig
from modiste.inputs.arguments import InputPhoto, Inputs, Url
from modiste.inputs.urls import fetched


def found(*arguments, **settings):
    return list(Inputs.of([str(a) for a in arguments], **settings).items())


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.JPG", "a-b/z.png", "a/y.webp", "a.txt", "c.tif"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "in"


def test_a_folder_is_walked_in_the_order_of_paths(folder):
    wanted = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".txt")
    assert [item.source for item in found(folder)] == wanted
    assert [item.id for item in found(folder)] == [str(path) for path in wanted]
    assert Inputs.of([str(folder)]).count() == 5


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_parts_are_the_whole_and_the_same_each_time(folder, tmp_path, size):
    table = tmp_path / "list.csv"
    table.write_text("path\n" + "\n".join(f"{k}.jpg" for k in range(7)) + "\n")
    stock = Inputs.of([str(folder), str(table), str(folder / "b.jpg")])
    parts = [list(load()) for load in stock.parts(size)]
    assert [item for part in parts for item in part] == list(stock.items())
    assert [list(load()) for load in stock.parts(size)] == parts
    assert all(len(part) <= size for part in parts)
    assert stock.count() == 13


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_names_paths_or_urls(folder, kind):
    rows = [
        {"id": "1", "image": "b.jpg", "url": "http://x.org/1.jpg"},
        {"id": "2", "image": "gone.jpg", "url": "http://x.org/2.jpg"},
        {"id": "3", "image": "", "url": "http://x.org/3.jpg"},
        {"id": "4", "image": "gone.jpg", "url": ""},
    ]
    said = found(write(folder / f"list.{kind}", rows))
    urls = [Url(f"http://x.org/{k}.jpg") for k in (2, 3)]
    assert said == [
        InputPhoto("1", folder / "b.jpg"),
        InputPhoto("2", urls[0]),
        InputPhoto("3", urls[1]),
        InputPhoto("4", folder / "gone.jpg"),
    ]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_says_which_product_a_photo_shows(folder, kind):
    rows = [
        {"sku": "7", "image": "b.jpg", "url": ""},
        {"sku": "8", "image": "", "url": "http://x.org/2.jpg"},
        {"sku": "", "image": "a.JPG", "url": ""},
        {"sku": "7", "image": "", "url": ""},
    ]
    table = write(folder / f"list.{kind}", rows)
    said = found(table, product_column="sku")
    assert [(item.id, item.product) for item in said] == [
        ("b.jpg", "7"),
        ("http://x.org/2.jpg", "8"),
        ("a.JPG", ""),
        ("row 5" if kind in ("csv", "tsv") else "row 4", "7"),  # the line of a text file, whose header is line 1
    ]
    assert isinstance(said[3].source, PhotoError)
    assert [item.product for item in found(table)] == [""] * 4
    (refused,) = fetched([InputPhoto("a", Url("http://127.0.0.1/a.jpg"), "7")], FetchConfig())
    assert isinstance(refused.source, PhotoError) and refused.product == "7"


def test_a_parquet_file_of_photos_says_which_product_each_shows(tmp_path):
    pl.DataFrame({"id": ["a", "b"], "bytes": [b"a", b"b"], "sku": [5, None]}).write_parquet(tmp_path / "x.parquet")
    said = found(tmp_path / "*.parquet", product_column="sku")
    assert said == [InputPhoto("a", b"a", "5"), InputPhoto("b", b"b", "")]
    with pytest.raises(ModisteError, match=r"column 'handle' in .*x\.parquet, but got only 'id', 'sku'"):
        found(tmp_path / "x.parquet", product_column="handle")


def test_products_come_from_tables_that_name_them(folder):
    table = write(folder / "list.csv", [{"image": "b.jpg", "colour": "red"}])
    with pytest.raises(ModisteError, match=r"column 'sku' in .*list\.csv, but got only 'image', 'colour'"):
        found(table, product_column="sku")
    with pytest.raises(UsageError, match=r"tables with a column 'sku' for --by, but got '.*in', which is none"):
        found(table, folder, product_column="sku")


def test_a_blank_row_is_an_error_of_its_own(folder):
    table = write(folder / "list.csv", [{"image": "b.jpg", "note": "x"}, {"image": "", "note": "y"}])
    good, bad = found(table)
    assert good.source == folder / "b.jpg"
    assert isinstance(bad.source, PhotoError)
    assert "row 3" in str(bad.source)  # its line


def test_root_and_image_column_are_obeyed(folder, tmp_path):
    table = write(tmp_path / "list.csv", [{"where": "b.jpg", "image": "other"}])
    assert found(table, image_column="where", root=str(folder))[0].source == folder / "b.jpg"
    with pytest.raises(ModisteError, match="column 'nowhere'"):
        found(table, image_column="nowhere")


def test_the_challenges_list_takes_photos_where_they_are(tmp_path):
    (tmp_path / "test.txt").write_text("1,http://x.org/1.jpg\n2,http://x.org/2.jpg\n")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/1.jpg").write_bytes(b"x")
    said = found(tmp_path / "test.txt", root=str(tmp_path / "photos"))
    assert said == [InputPhoto("1", tmp_path / "photos/1.jpg"), InputPhoto("2", Url("http://x.org/2.jpg"))]


@pytest.mark.parametrize("nested", [False, True])
def test_bytes_in_parquet_are_read_a_part_at_a_time(tmp_path, nested):
    data = [f"photo {k}".encode() for k in range(10)]
    data[4] = None
    cells = [{"bytes": one, "path": f"{k}.jpg"} for k, one in enumerate(data)] if nested else data
    pl.DataFrame({"image": cells}).write_parquet(tmp_path / "photos.parquet", row_group_size=4)
    stock = Inputs.of([str(tmp_path / "photos.parquet")])
    assert stock.count() == 10
    parts = [list(load()) for load in stock.parts(3)]
    items = [item for part in parts for item in part]
    assert [len(part) for part in parts] == [3, 3, 3, 1]
    assert [item.source for item in items if isinstance(item.source, bytes)] == [one for one in data if one]
    assert items[4].source == tmp_path / "4.jpg" if nested else isinstance(items[4].source, PhotoError)
    assert items[7].id == ("7.jpg" if nested else f"{tmp_path}/photos.parquet, row 8")


@pytest.mark.parametrize("column", ["id", "Name", "url"])
def test_photos_in_parquet_are_called_by_what_stands_beside_them(tmp_path, column):
    rows = {"image": [b"x", b"y"], column: ["coat", None]}
    pl.DataFrame(rows).write_parquet(tmp_path / "photos.parquet")
    assert [item.id for item in found(tmp_path / "photos.parquet")] == ["coat", f"{tmp_path}/photos.parquet, row 2"]


def test_a_pattern_of_tables_names_the_tables(tmp_path):
    for name in ("b", "a"):
        pl.DataFrame({"id": [name], "image": [name.encode()]}).write_parquet(tmp_path / f"{name}.parquet")
    assert found(tmp_path / "*.parquet") == [InputPhoto("a", b"a"), InputPhoto("b", b"b")]


def test_a_table_that_is_not_there_is_no_photo(tmp_path):
    for name in ("milions.parquet", "*.csv"):
        with pytest.raises(UsageError, match="a table of photos at"):
            found(tmp_path / name)


def test_a_struct_without_bytes_names_a_path(tmp_path):
    cells = [{"bytes": None, "path": "a.jpg"}, {"bytes": b"x", "path": "b.jpg"}]
    table = tmp_path / "a[1].parquet"
    pl.DataFrame({"image": cells}, schema={"image": pl.Struct({"bytes": pl.Binary, "path": pl.String})}).write_parquet(
        table
    )
    assert found(table) == [InputPhoto("a.jpg", tmp_path / "a.jpg"), InputPhoto("b.jpg", b"x")]


def test_a_damaged_parquet_is_one_sentence(tmp_path):
    table = tmp_path / "photos.parquet"
    pl.DataFrame({"id": list(range(2000)), "bytes": [os.urandom(50) for _ in range(2000)]}).write_parquet(table)
    content = bytearray(table.read_bytes())
    content[200:60_000] = bytes(59_800)
    table.write_bytes(content)
    with pytest.raises(ModisteError, match="to be a Parquet file"):
        found(table)


def test_urls_in_an_image_column_are_fetched(tmp_path):
    table = write(tmp_path / "list.csv", [{"image": "https://x.org/a.jpg"}])
    assert found(table)[0].source == Url("https://x.org/a.jpg")


def test_photos_of_one_product_keep_names_of_their_own(tmp_path):
    rows = [{"product_id": "5", "image": name} for name in ("a.jpg", "b.jpg")]
    assert [item.id for item in found(write(tmp_path / "list.csv", rows))] == ["a.jpg", "b.jpg"]


def test_a_name_that_is_too_long_is_not_there(tmp_path):
    table = write(tmp_path / "list.csv", [{"id": "x" * 300, "url": "http://x.org/1.jpg"}])
    assert found(table)[0].source == Url("http://x.org/1.jpg")
    assert found("y" * 5000, table)[0].id == "y" * 5000


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", "", "no rows|empty"),
        ("list.csv", "colour\nred\n", "a column of photo paths or URLs"),
        ("list.parquet", "no parquet", "to be a Parquet file"),
        ("list.jsonl", "[1]", "to be a JSON object"),
    ],
)
def test_a_table_without_photos_is_one_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(ModisteError, match=words) as caught:
        found(tmp_path / name)
    assert str(caught.value).startswith("Expected")


def test_a_pattern_gives_photos_by_name(tmp_path, monkeypatch):
    names = [f"{k}.jpg" for k in range(4)]
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setattr("glob.iglob", lambda *_, **__: (str(tmp_path / name) for name in (names[2:] + names[:2])))
    assert [item.source.name for item in Inputs.of([f"{tmp_path}/*.jpg"]).items()] == names


def test_folders_and_patterns_without_photos_are_told_at_once(tmp_path):
    for argument in (tmp_path, tmp_path / "*.jpg"):
        with pytest.raises(ModisteError, match="none"):
            Inputs.of([str(argument)])


def test_urls_become_bytes_in_order_and_failures_errors():
    def flaky(path):
        async def send(writer, before):
            again = answer(path.encode()) if before else answer(status=503)
            await again(writer, before)

        return answer(status=404) if path == "missing" else send

    with Web(flaky) as web:
        names = ["a", "missing", "b", "c"]
        items = [InputPhoto(name, Url(web.url(name))) for name in names] + [InputPhoto("file", b"here")]
        said = list(fetched(iter(items), FetchConfig(allow_private=True)))
    assert [item.id for item in said] == [*names, "file"]
    assert [item.source for item in said if item.id != "missing"] == [b"a", b"b", b"c", b"here"]
    assert "status 404" in str(said[1].source)


def test_private_addresses_are_refused_unless_allowed():
    with Web(lambda path: answer(b"secret")) as web:
        (said,) = fetched([InputPhoto("a", Url(web.url("a")))], FetchConfig())
    assert "not public" in str(said.source)
    assert not web.asked


def test_a_folder_is_walked_as_in_training_and_what_cannot_be_read_is_told(tmp_path):
    jpeg, heic = b"\xff\xd8\xff\xe0", b"\0\0\0\x24ftypheic\0\0\0\0mif1heic"
    files = {"a.jpg": jpeg, "noext": jpeg, "._a.jpg": b"", ".hidden.jpg": jpeg, "@eaDir/t.jpg": jpeg, "Thumbs.db": b""}
    for name, content in {**files, "IMG_1.HEIC": heic, "deep/IMG_2.HEIC": heic}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    inputs = Inputs.of([str(tmp_path)])
    assert inputs.count() == 2
    wanted = [f"2 HEIC files in {tmp_path} can't be read and are left out: convert them to JPEG."]
    assert inputs.notes() == wanted
    assert [item.source.name for item in inputs.items()] == ["a.jpg", "noext"]
    assert inputs.notes() == wanted  # counted anew, not twice
    assert [item.source.name for item in found(f"{tmp_path}/**/*.jpg")] == ["a.jpg"]
    assert [item.source.name for item in found(f"{tmp_path}/@eaDir/*.jpg")] == ["t.jpg"]


def test_a_folder_of_heic_alone_says_so(tmp_path):
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic")
    with pytest.raises(UsageError, match=r"but got only 1 HEIC file, which can't be read\. Try converting to JPEG"):
        found(tmp_path)


def test_urls_are_photos_in_their_place(folder):
    urls = ["https://x.org/a.jpg?v=[1]*", "HTTP://x.org/b"]
    assert found(urls[0], folder / "b.jpg", urls[1]) == [
        InputPhoto(urls[0], Url(urls[0])),
        InputPhoto(str(folder / "b.jpg"), folder / "b.jpg"),
        InputPhoto(urls[1], Url(urls[1])),
    ]


@pytest.mark.parametrize("url", ["https://x.org/list.csv", "https://x.org/list.parquet?key=1"])
def test_a_url_of_a_table_is_refused(url):
    with pytest.raises(UsageError, match=r"the URL of a table, .* Try downloading it first"):
        found(url)


def test_paths_of_which_none_is_there_are_refused_and_one_among_others_is_an_error_of_its_own(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match=r"a photo, a folder or a table at 'gone\.jpg', but got no such file\."):
        found("gone.jpg")
    with pytest.raises(UsageError, match=r"at 'gone\.jpg' and 1 other path, but got no such files\."):
        found("gone.jpg", "too")
    assert [item.id for item in found("gone.jpg", "b.jpg")] == ["gone.jpg", "b.jpg"]
    assert [item.id for item in found("gone.jpg", "https://x.org/a.jpg")] == ["gone.jpg", "https://x.org/a.jpg"]


def test_standard_input_stands_where_it_is_named(folder):
    read = [InputPhoto("x", Url("https://x.org/x")), InputPhoto("y", folder / "c.tif")]
    said = found(folder / "b.jpg", "-", stdin=read)
    assert said == [InputPhoto(str(folder / "b.jpg"), folder / "b.jpg"), *read]
    with pytest.raises(UsageError, match="standard input, once"):
        found("-", "-")


def test_where_two_columns_hold_urls_the_one_that_is_parted_is_the_one_that_is_read(folder):
    urls = ["https://x.example/1.jpg", "https://x.example/2.jpg"]
    path = folder / "shop.csv"
    path.write_text(f"image,url\n{'|'.join(urls)},https://x.example/page\n")
    assert [item.source.address for item in Inputs.of([str(path)]).items()] == urls
