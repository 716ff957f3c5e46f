"""A folder of tags has its products too: the same as one file of products, night after night."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal


@pytest.fixture
def shop(photos, tmp_path):
    """Five photos by id: product A has three, one of them broken; B two; and one of no product."""
    (tmp_path / "broken.jpg").write_bytes(b"GIF")
    rows = [("1", photos[0], "A"), ("2", photos[1], "B"), ("3", photos[2], "A"), ("4", tmp_path / "broken.jpg", "A")]
    return write(tmp_path / "shop.csv", [*rows, ("5", photos[3], ""), ("6", photos[4], "B")])


def write(path, rows):
    path.write_text("id,image,sku\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def products(folder):
    return pl.read_parquet(folder / "products.parquet")


def as_one_file(table, model, modiste):
    out = table.with_name("products.parquet")
    modiste("tag", table, "-m", model, "--by", "sku", "-o", out, "--overwrite")
    return pl.read_parquet(out)


@pytest.mark.parametrize("shards", [1, 3])
def test_products_of_a_folder_are_those_of_one_file(shards, trained, shop, photos, modiste):
    tags, wanted = shop.with_name("tags"), as_one_file(shop, trained, modiste)
    assert wanted.select("product", "photos", "failed").rows() == [("A", 2, 1), ("B", 2, 0), ("5", 1, 0)]

    def night():
        for number in range(1, shards + 1):
            shard = [] if shards == 1 else ["--shard", f"{number}/{shards}"]
            code, out, err = modiste("tag", shop, "-m", trained, "--by", "sku", "-o", tags, *shard)
            assert code in (0, 1) and "Expected the" not in err
        return out

    assert "products.parquet: 3 products" in night()
    assert_frame_equal(products(tags), wanted, check_exact=False)
    rows = [("1", photos[0], "B"), ("6", photos[4], "B"), ("7", photos[5], "C"), ("3", photos[2], "A")]
    write(shop, rows)  # one is another product's now, others are gone or new
    night()
    wanted = as_one_file(shop, trained, modiste)
    assert wanted["product"].to_list() == ["B", "C", "A"]
    assert_frame_equal(products(tags), wanted, check_exact=False)


def test_a_round_that_asks_for_none_leaves_none_that_are_out_of_date(trained, shop, tmp_path, modiste):
    tags = tmp_path / "tags"
    modiste("tag", shop, "-m", trained, "-o", tags)
    assert not (tags / "products.parquet").exists()
    code, out, _ = modiste("tag", shop, "-m", trained, "--by", "sku", "-o", tags)
    assert code == 1 and "6 of them earlier" in out
    assert_frame_equal(products(tags), as_one_file(shop, trained, modiste), check_exact=False)
    modiste("tag", shop, "-m", trained, "-o", tags)
    assert not (tags / "products.parquet").exists()


def test_products_of_photos_of_one_row_and_of_one_photo_in_two_products(trained, photos, tmp_path, modiste):
    rows = [("1", photos[0], "A"), ("1", photos[0], "B"), ("2", photos[1], "B")]
    shop, tags = write(tmp_path / "shop.csv", rows), tmp_path / "tags"
    assert modiste("tag", shop, "-m", trained, "--by", "sku", "-o", tags)[0] == 0
    assert products(tags).select("product", "photos").rows() == [("A", 1), ("B", 2)]
    assert_frame_equal(products(tags), as_one_file(shop, trained, modiste), check_exact=False)


def test_a_table_on_standard_input_fills_no_folder_with_products(shop, tmp_path, modiste):
    code, out, err = modiste("tag", "-", "--by", "sku", "-o", tmp_path / "tags")
    assert (code, out) == (2, "")
    assert "a table in a file for --by with a folder as -o, but got standard input. Try its path." in err
    assert not (tmp_path / "tags").exists()
