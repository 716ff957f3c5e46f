"""Products become photos: exports of shops, feeds, several URLs in a cell."""

import csv

import pytest
from tables import check_stream, held, write

from modiste.config import DataConfig
from modiste.data.manifest import Manifest
from modiste.data.tables import open_rows, read_table

SHOPIFY = """Handle,Title,Type,Tags,Published,Option1 Name,Option1 Value,Image Src,Image Position
shirt,A shirt,Shirts,"casual, summer",true,Size,S,http://x.example/s-1.jpg,1
shirt,,,,,,M,http://x.example/s-2.jpg,2
shirt,,,,,,L,,
coat,A coat,Coats,winter,true,Size,S,http://x.example/c-1.jpg,1
"""


def test_an_export_of_shopify(tmp_path):
    path = write(tmp_path, "products.csv", SHOPIFY)
    manifest = Manifest.read(path)
    assert manifest.frame["id"].to_list() == ["shirt-1", "shirt-2", "coat-1"]
    assert manifest.frame["url"].to_list() == [
        "http://x.example/s-1.jpg",
        "http://x.example/s-2.jpg",
        "http://x.example/c-1.jpg",
    ]
    assert manifest.frame["group"].to_list() == ["shirt", "shirt", "coat"]
    assert list(held(manifest).values()) == [{"casual", "summer"}, {"casual", "summer"}, {"winter"}]
    assert any("1 row of a variant" in note and "'Image Src'" in note for note in manifest.notes)
    typed = Manifest.read(path, DataConfig(label_columns=("Type",)))
    assert list(held(typed).values()) == [{"Shirts"}, {"Shirts"}, {"Coats"}]
    check_stream(path)


FEED = (
    "id\ttitle\tlink\timage_link\tadditional_image_link\tcolor\tproduct_type\n"
    "S1\tA\thttp://x.example/p/1\thttp://x.example/1.jpg\thttp://x.example/1b.jpg,http://x.example/1c.jpg\tRed"
    "\tApparel > Tops\n"
    "S2\tB\thttp://x.example/p/2\thttp://x.example/2.jpg\t\tBlue\tApparel > Tops\n"
)


def test_a_feed_for_google_merchant(tmp_path):
    path = write(tmp_path, "feed.tsv", FEED)
    manifest = Manifest.read(path, DataConfig(label_columns=("color", "product_type")))
    assert manifest.frame["url"].to_list() == [f"http://x.example/{name}.jpg" for name in ("1", "1b", "1c", "2")]
    assert manifest.frame["id"].to_list() == ["S1", "S1-2", "S1-3", "S2"]
    assert manifest.frame["group"].to_list() == ["S1", "S1", "S1", "S2"]
    assert list(held(manifest).values()) == [{"color=Red", "product_type=Apparel > Tops"}] * 3 + [
        {"color=Blue", "product_type=Apparel > Tops"}
    ]
    check_stream(path)


@pytest.mark.parametrize("between", [",", ", ", ";", "|", " ", "\n"])
def test_several_urls_in_one_cell(tmp_path, between):
    urls = ["http://x.example/a,b.jpg?w=1,2", "HTTPS://x.example/2.jpg"]
    path = write(tmp_path, "a.csv", f'id,url,kind\n1,"{between.join(urls)}",dress\n2,http://x.example/3.jpg,coat\n')
    manifest = Manifest.read(path, DataConfig(label_columns=("kind",)))
    assert manifest.frame["url"].to_list() == [*urls, "http://x.example/3.jpg"]
    assert manifest.frame["group"].to_list() == ["1", "1", "2"]
    check_stream(path)


def test_rows_of_photos_are_read_again_as_they_are(tmp_path):
    """As fetch writes them: expanding twice changes nothing."""
    for name, content in (("products.csv", SHOPIFY), ("feed.tsv", FEED)):
        table = read_table(write(tmp_path, name, content))
        table.frame.write_csv(tmp_path / "again.csv")
        again = read_table(tmp_path / "again.csv")
        assert again.frame.equals(table.frame) and again.roles == table.roles


@pytest.mark.parametrize("spelt", ['["{}", "{}"]', "['{}', '{}']", "{}|{}"])
def test_urls_that_a_cell_spells_as_a_list_are_photos_of_their_row(tmp_path, spelt):
    urls = ["https://x.example/1.jpg?a=1,2", "https://x.example/2.jpg"]
    path = tmp_path / "shop.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "photos", "colour"], ["A", spelt.format(*urls), "red"], ["B", urls[1], ""]])
    table = read_table(path)
    assert table.frame["photos"].to_list() == [*urls, urls[1]]
    assert table.frame["product"].to_list() == ["A", "A", "B"]
    check_stream(path)


def test_photos_of_a_row_keep_its_number(tmp_path):
    cells = ["https://x.example/1.jpg|https://x.example/2.jpg", "", "https://x.example/3.jpg"]
    path = write(tmp_path, "shop.csv", "url,id\n" + "".join(f"{cell},{k}\n" for k, cell in enumerate(cells)))
    assert [row.number for row in open_rows(path).read()] == [2, 2, 3, 4]  # the header is line 1
