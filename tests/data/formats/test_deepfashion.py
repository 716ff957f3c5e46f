"""DeepFashion's lists, with the files that stand beside them."""

import numpy as np
import pytest
from tables import check_stream, held, write

from modiste.data.manifest import Manifest
from modiste.data.tables import read_table
from modiste.errors import ManifestError


def deepfashion(tmp_path):
    anno, evaluation = tmp_path / "Anno", tmp_path / "Eval"
    anno.mkdir()
    evaluation.mkdir()
    photos = ["img/Red Dress".replace(" ", "_") + f"/{k}.jpg" for k in range(4)]
    values = ["-1  1", " 1 -1", "-1 -1", " 0  1"]
    lines = [f"{photo}      {value}" for photo, value in zip(photos, values, strict=True)]
    write(anno, "list_attr_img.txt", "\n".join(["4", "image_name  attribute_labels", *lines]) + "\n")
    write(anno, "list_attr_cloth.txt", "2\nattribute_name  attribute_type\na-line     3\noff the shoulder    3\n")
    categories = [f"{photo}   {k % 2 + 1}" for k, photo in enumerate(photos)]
    write(anno, "list_category_img.txt", "\n".join(["4", "image_name  category_label", *categories]) + "\n")
    write(anno, "list_category_cloth.txt", "3\ncategory_name  category_type\nDress  3\nTee  1\nCoat  1\n")
    splits = [f"{photo}    {split}" for photo, split in zip(photos, ["train", "val", "test", "train"], strict=True)]
    write(evaluation, "list_eval_partition.txt", "\n".join(["4", "image_name  evaluation_status", *splits]) + "\n")
    return anno, evaluation


def test_deepfashion(tmp_path):
    anno, evaluation = deepfashion(tmp_path)
    manifest = Manifest.read(anno / "list_attr_img.txt")
    assert manifest.label_set.ids == ("a-line", "off the shoulder")
    np.testing.assert_array_equal(manifest.targets, [[0, 1], [1, 0], [0, 0], [-1, 1]])
    assert manifest.frame["split"].to_list() == ["train", "val", "test", "train"]
    categories = Manifest.read(anno / "list_category_img.txt")
    assert list(held(categories).values()) == [{"Dress"}, {"Tee"}, {"Dress"}, {"Tee"}]
    check_stream(anno / "list_attr_img.txt")
    with pytest.raises(ManifestError, match="splits alone"):
        Manifest.read(evaluation / "list_eval_partition.txt")
    (anno / "list_attr_cloth.txt").unlink()
    unnamed = Manifest.read(anno / "list_attr_img.txt")
    assert unnamed.label_set.ids == ("attribute 1", "attribute 2") and "list_attr_cloth.txt" in " ".join(unnamed.notes)


def test_deepfashion_with_a_wrong_line_is_refused(tmp_path):
    anno, _ = deepfashion(tmp_path)
    path = anno / "list_attr_img.txt"
    path.write_text(path.read_text().replace(" 0  1", " 0"))
    with pytest.raises(ManifestError, match=r"row 6 of .* to be a photo and 2 numbers"):
        read_table(path)
