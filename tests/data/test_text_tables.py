"""Delimited text: what others write is read as they mean it, and a stray quote never swallows a row."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modiste.data import text_tables
from modiste.data.text_tables import TextTable
from modiste.errors import ManifestError


def table(tmp_path, content, name="a.csv", encoding=None):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return TextTable.open(path, encoding)


def cells(opened):
    """Rows by both ways of reading, which must agree: all at once, and as a stream."""
    frame, lines, notes = opened.frame()
    told: list[str] = []
    numbered = list(opened.rows(told))
    stripped = [[cell.strip() for cell in row] for _, row in numbered]
    assert [[(cell or "").strip() for cell in row] for row in frame.rows()] == stripped
    assert lines.tolist() == [line for line, _ in numbered]
    assert notes == told
    return stripped


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), max_size=8)


@given(
    rows=st.lists(st.lists(WORDS, min_size=3, max_size=3), min_size=1, max_size=8), separator=st.sampled_from(",;\t|")
)
def test_what_the_standard_library_writes_is_read_by_both_ways(tmp_path_factory, rows, separator):
    text = io.StringIO()
    csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([["id", "image", "word"], *rows])
    opened = table(tmp_path_factory.mktemp("t"), text.getvalue())
    assert opened.separator == separator
    meant = [[cell.strip() for cell in row] for row in rows]
    try:
        assert cells(opened) == [row for row in meant if any(row)]
    except ManifestError as error:  # a cell whose lines look like rows of their own is told, never guessed
        assert "to close the quotes" in str(error) and any("\n" in cell for row in rows for cell in row)


LETTERS = st.text(st.sampled_from('ab "'), max_size=6)


@given(
    rows=st.lists(st.lists(st.tuples(LETTERS, st.booleans()), min_size=3, max_size=3), min_size=1, max_size=9),
)
def test_quotes_that_nobody_doubled_never_cost_a_row(tmp_path_factory, rows):
    """Cells as careless programs write them: as they are, or between quotes without doubling those inside."""
    lines = [",".join(f'"{cell}"' if quoted else cell for cell, quoted in row) for row in rows]
    opened = table(tmp_path_factory.mktemp("t"), "\n".join(["x,y,z", *lines, ""]))
    try:
        read = cells(opened)
    except ManifestError as error:
        assert str(opened.path) in str(error) and "row " in str(error)
        return
    filled = [line for line in lines if any(map(str.strip, next(iter([line.split(",")]))))]
    assert len(read) <= len(filled)
    meant = [line.replace('"', "").replace(" ", "") for line in filled]
    found = [",".join(row).replace('"', "").replace(" ", "") for row in read]
    assert [one for one in found if one.strip(",")] == [one for one in meant if one.strip(",")]


BARE = {
    "inside a bare cell": ('heel 4" high', 'heel 4" high'),
    "inside a quoted cell": ('"heel 4" high"', 'heel 4" high'),
    "at the end of a quoted cell": ('"size 5""', 'size 5"'),
    "behind a backslash": ('"heel 4\\" high"', 'heel 4" high'),
    "around the first word": ('"Boss" tee', '"Boss" tee'),
}


@pytest.mark.parametrize("kind", BARE)
@pytest.mark.parametrize("rows", [(3,), (3, 4), (3, 7), (0, 11), tuple(range(12))])
@pytest.mark.parametrize("last", [False, True])
def test_an_inch_mark_swallows_no_rows(tmp_path, kind, rows, last):
    written, meant = BARE[kind]
    titles = [written if k in rows else "plain tee" for k in range(12)]
    kinds = ["t-shirt", "pants", "dress", "shoes"] * 3
    lines = [f"{k}.jpg,{kinds[k]},{t}" if last else f"{k}.jpg,{t},{kinds[k]}" for k, t in enumerate(titles)]
    opened = table(tmp_path, "\n".join(["image,kind,title" if last else "image,title,kind", *lines]))
    at = 1 if last else 2
    read = cells(opened)
    assert [row[at] for row in read] == kinds
    assert [row[3 - at] for row in read] == [meant if k in rows else "plain tee" for k in range(12)]


def test_a_mended_row_is_named(tmp_path):
    opened = table(tmp_path, 'image,title\n1.jpg,"a 5" heel"\n2.jpg,plain\n')
    assert opened.frame()[2] == ["Quotes that aren't doubled are read as they stand: row 2 of a.csv."]


@pytest.mark.parametrize("text", ['a,b\n1,"x, 5" y"\n', 'a,b,c\n1,"x,y\n2,z,"w"\n', 'a,b\n1,"open\n'])
def test_what_could_be_read_in_two_ways_is_refused_with_its_row(tmp_path, text):
    with pytest.raises(ManifestError, match=r"row 2 of .*doubling each quote"):
        table(tmp_path, text).frame()


def test_cells_of_several_lines_stay_whole(tmp_path):
    text = 'image,body,kind\n1.jpg,"<p>Nice, and\nsoft</p>",dress\n2.jpg,"He said ""no""\n\nand left",coat\n'
    assert cells(table(tmp_path, text)) == [
        ["1.jpg", "<p>Nice, and\nsoft</p>", "dress"],
        ["2.jpg", 'He said "no"\n\nand left', "coat"],
    ]


GARMENTS = ["Jupe d'été", "Robe", "Chaussure", "Été"] * 5


@pytest.mark.parametrize(
    ("encoding", "words", "same"),
    [
        ("utf-8", GARMENTS, True),
        ("utf-8-sig", GARMENTS, True),
        ("utf-16", GARMENTS, True),
        ("utf-16-le", GARMENTS, True),
        ("utf-16-be", GARMENTS, True),
        ("cp1252", GARMENTS, False),
        ("gb18030", ["连衣裙", "外套", "衬衫", "裤子"] * 5, False),
        ("big5", ["連衣裙", "外套", "襯衫", "褲子"] * 5, False),
        ("cp932", ["ドレス", "コート", "シャツ", "ズボン"] * 5, False),
        ("cp1251", ["платье", "пальто", "рубашка", "брюки"] * 5, False),
    ],
)
@pytest.mark.parametrize("separator", [",", "\t"])
def test_encodings_of_spreadsheets(tmp_path, encoding, words, same, separator):
    text = f"image{separator}kind\n" + "".join(f"{k}.jpg{separator}{word}\n" for k, word in enumerate(words))
    opened = table(tmp_path, text.encode(encoding))
    assert [row[1] for row in cells(opened)] == words
    assert (opened.notes == ()) == same
    if not same:
        assert "isn't UTF-8" in opened.notes[0] and "--encoding" in opened.notes[0]


def test_the_encoding_that_is_asked_for_counts(tmp_path):
    content = "image,kind\na.jpg,\u00e9t\u00e9\n".encode("cp1252")
    assert cells(table(tmp_path, content, encoding="cp1251"))[0][1] == "\u0439t\u0439"
    with pytest.raises(ManifestError, match="--encoding"):
        table(tmp_path, content, encoding="utf-8").frame()
    with pytest.raises(ManifestError, match="--encoding to be known"):
        table(tmp_path, content, encoding="utf-99")


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("image;kind;note (a, b, c)\n1.jpg;dress;x\n2.jpg;coat;y\n", ";"),
        ("image;price, EUR;kind\n1.jpg;12,50;dress\n2.jpg;9,95;coat\n", ";"),
        ("image|kind\n1.jpg|dress\n2.jpg|coat\n", "|"),
        ("sep=;\nimage;kind\n1.jpg;dress\n2.jpg;coat\n", ";"),
        ("image,kind\r1.jpg,dress\r2.jpg,coat\r", ","),
        ("\n,,\nimage,kind,\n1.jpg,dress,\n\n2.jpg,coat,\n,,\n,,\n", ","),
        ('image, kind\n1.jpg, "dress"\n2.jpg, "coat"\n', ","),
    ],
)
def test_tables_as_spreadsheets_save_them(tmp_path, text, separator):
    opened = table(tmp_path, text)
    assert opened.separator == separator
    at = opened.names.index("kind")
    assert [row[at] for row in cells(opened)] == ["dress", "coat"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,kind\n1.jpg,dress\n2.jpg,coat,blue\n", "row 3 of .*to have 2 fields like its header, but got 3"),
        ("image,kind\n1.jpg,dress\n2.jpg,co\0at\n", "row 3 of .*NUL"),
        ("image,image\n1.jpg,dress\n", "'image' twice"),
        ("\n\n,,\n", "no rows"),
    ],
)
def test_refusals_name_the_row(tmp_path, text, words):
    with pytest.raises(ManifestError, match=words):
        table(tmp_path, text).frame()


def test_well_quoted_files_take_the_quick_way(tmp_path, monkeypatch):
    monkeypatch.setattr(text_tables._Reader, "rows", lambda *_, **__: pytest.fail("read line by line"))
    opened = table(tmp_path, 'image,title\n1.jpg,"a, ""b"""\n2.jpg,\n"",""\n3.jpg,""""""\n')
    assert opened.frame()[0].rows() == [("1.jpg", 'a, "b"'), ("2.jpg", None), ("3.jpg", '""')]
