"""COCO's annotations, joined."""

import pytest
from tables import check_stream, held, write

from modiste.data.manifest import Manifest
from modiste.data.tables import read_table
from modiste.errors import ManifestError

COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}, {"id": 9, "file_name": "c.jpg"}],
    "categories": [{"id": 1, "name": "dress"}, {"id": 2, "name": "shoes"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]},
        {"id": 2, "image_id": 7, "category_id": 2},
        {"id": 3, "image_id": 7, "category_id": 2},
        {"id": 4, "image_id": 8, "category_id": 2},
    ],
}


def test_coco(tmp_path):
    path = write(tmp_path, "coco.json", COCO)
    assert held(Manifest.read(path)) == {"a.jpg": {"dress", "shoes"}, "b.jpg": {"shoes"}, "c.jpg": set()}
    check_stream(path)
    one = {**COCO, "annotations": [COCO["annotations"][0], COCO["annotations"][3]]}
    manifest = Manifest.read(write(tmp_path, "one.json", one))
    assert held(manifest) == {"a.jpg": {"dress"}, "b.jpg": {"shoes"}, "c.jpg": None}
    assert "category" in manifest.label_set.exclusive


@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_coco_that_names_nothing_is_refused(tmp_path, key):
    wrong = {**COCO, "annotations": [{**COCO["annotations"][0], key: 99}]}
    with pytest.raises(ManifestError, match=f"got {key} 99"):
        read_table(write(tmp_path, "coco.json", wrong))
