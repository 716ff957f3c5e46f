"""What a person is told of a table before anything else happens."""

from tables import write

from modiste.config import DataConfig
from modiste.data.manifest import Manifest
from modiste.data.summary import describe, unused_label_columns

TABLE = "product,image,kind,colour,note,n\n" + "".join(
    f"p{k // 2},{k}.jpg,{['dress', 'coat', 'Dress'][k % 3]},{['red', 'NA'][k % 2]},text number {k},{k}\n"
    for k in range(12)
)


def test_photos_products_groups_guesses_and_what_is_not_used(tmp_path):
    path = write(tmp_path, "shop.csv", TABLE)
    lines = list(describe(Manifest.read(path, DataConfig(label_columns=("kind",)))))
    assert lines[0] == f"{path}: 12 photos in 6 groups that stay in one split, 2 labels."
    assert lines[1].strip() in ("kind (one of 2): Dress 8, coat 4", "kind (one of 2): dress 8, coat 4")
    assert any("read as one" in line for line in lines)
    assert not any("'NA'" in line for line in lines)  # of a column that isn't used


def test_unknown_photos_are_counted(tmp_path):
    manifest = Manifest.read(write(tmp_path, "shop.csv", TABLE), DataConfig(label_columns=("colour",)))
    lines = list(describe(manifest))
    assert lines[1].strip() == "colour (one of 1; unknown for 6 photos): red 6"
    assert any("6 cells hold 'NA' in 'colour': unknown; --keep-as-label NA" in line for line in lines)
    assert unused_label_columns(manifest) == {"kind": 3}
    assert any("Not taken for labels: 'kind' (3 values)" in line for line in lines)
