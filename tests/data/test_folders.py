"""Folders of photos: which are splits, which are classes, and what is said where it can't be told."""

import pytest
from PIL import Image

from modiste.data.folders import read_folder
from modiste.data.manifest import Manifest
from modiste.errors import ManifestError

PLAIN = [
    f"{split}/{garment}/{k}.jpg"
    for split, garments in (("train", "dress pants shoes t-shirt"), ("val", "dress pants"), ("test", "dress shoes"))
    for garment in garments.split()
    for k in range(2)
]


def photos(root, *names):
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 2 * number, 99)).save(path, "JPEG")
    return root


def read(root):
    """Split and class of each photo, and the notes."""
    table = read_folder(root)
    split = table.frame["split"] if "split" in table.frame.columns else [None] * len(table.frame)
    return dict(zip(table.frame["path"], zip(split, table.frame["class"], strict=True), strict=True)), table.notes


def wanted(names):
    return {name: tuple(name.split("/")[:2]) for name in names}


EXTRAS = {
    "plain": [],
    "macosx": ["__MACOSX/train/dress/._0.jpg", "__MACOSX/0.jpg"],
    "eadir": ["@eaDir/0.jpg"],
    "thumbs": ["train/dress/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg"],
    "hidden": [".cache/0.jpg"],
    "recycled": ["#recycle/0.jpg", "lost+found/1.jpg"],
}


@pytest.mark.parametrize("extra", EXTRAS)
def test_folders_that_systems_make_are_neither_splits_nor_classes(tmp_path, extra):
    rows, notes = read(photos(tmp_path, *PLAIN, *EXTRAS[extra]))
    assert rows == wanted(PLAIN)
    assert notes == ()
    manifest = Manifest.read(tmp_path)
    assert manifest.label_set.ids == ("dress", "pants", "shoes", "t-shirt")
    assert set(manifest.frame["split"]) == {"train", "val", "test"}


@pytest.mark.parametrize("other", ["docs/readme.md", "runs/first/recipe.toml", "labels.csv", "empty/"])
def test_folders_without_photos_do_not_count(tmp_path, other):
    photos(tmp_path, *PLAIN)
    (tmp_path / other).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / other).mkdir() if other.endswith("/") else (tmp_path / other).write_text("x")
    assert read(tmp_path) == (wanted(PLAIN), ())


@pytest.mark.parametrize("other", ["query/0.jpg", "extra/dress/0.jpg"])
def test_a_folder_of_photos_that_is_no_split_is_named(tmp_path, other):
    photos(tmp_path, *PLAIN, other)
    name = other.partition("/")[0]
    with pytest.raises(ManifestError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"Expected folders of photos in {tmp_path} to be all splits or all classes, but got '{name}' beside 'test', "
        "'train', 'val'. Try moving it out, or naming it train, val or test."
    )
    (tmp_path / name).rename(tmp_path.parent / f"{tmp_path.name}-moved")
    assert read(tmp_path)[0] == wanted(PLAIN)


@pytest.mark.parametrize(
    "names",
    [
        ("training_set", "validation_set", "test_set"),
        ("Train", "VALID", "testset"),
        ("train-images", "dev", "Test Data"),
    ],
)
def test_splits_have_many_names(tmp_path, names):
    spelt = dict(zip(("train", "val", "test"), names, strict=True))
    photos(tmp_path, *(f"{spelt[name.split('/')[0]]}/{name.split('/', 1)[1]}" for name in PLAIN))
    frame = Manifest.read(tmp_path).frame
    folders = {path.split("/")[0]: split for path, split in zip(frame["path"], frame["split"], strict=True)}
    assert folders == {name: split for split, name in spelt.items()}


@pytest.mark.parametrize("around", ["archive", "archive/dataset"])
@pytest.mark.parametrize("names", [PLAIN, ["dress/0.jpg", "pants/1.jpg"]])
def test_a_single_folder_around_all_others_is_stepped_into(tmp_path, around, names):
    inside = {name: read_as for name, read_as in wanted(names).items()}
    if names is not PLAIN:
        inside = {"dress/0.jpg": (None, "dress"), "pants/1.jpg": (None, "pants")}
    rows, notes = read(photos(tmp_path, *(f"{around}/{name}" for name in names), "__MACOSX/archive/1.jpg"))
    assert rows == {f"{around}/{name}": read_as for name, read_as in inside.items()}
    assert notes == (f"'{around}' is the only folder of folders of photos: stepped into.",)
    assert Manifest.read(tmp_path).photo(0).is_file()


def test_one_folder_of_photos_is_a_class(tmp_path):
    assert read(photos(tmp_path, "dress/0.jpg", "dress/1.jpg")) == (
        {f"dress/{k}.jpg": (None, "dress") for k in range(2)},
        (),
    )


@pytest.mark.parametrize("name", ["unlabeled", "Unlabelled"])
def test_photos_without_labels_are_unused_beside_splits(tmp_path, name):
    rows, notes = read(photos(tmp_path, *PLAIN, f"{name}/0.jpg", f"{name}/deep/1.jpg"))
    assert rows == {**wanted(PLAIN), f"{name}/0.jpg": ("", ""), f"{name}/deep/1.jpg": ("", "")}
    assert notes == ("2 photos lie outside the split folders: without split and class, so unused.",)


def test_photos_without_labels_have_no_class_beside_classes(tmp_path):
    rows, notes = read(photos(tmp_path, "dress/0.jpg", "pants/1.jpg", "unlabeled/2.jpg"))
    assert rows["unlabeled/2.jpg"] == (None, "")
    assert notes == ("1 photo lies outside class folders: the class is unknown.",)


def test_a_photo_beside_the_splits_is_told(tmp_path):
    rows, notes = read(photos(tmp_path, *PLAIN, "sample.jpg"))
    assert rows == {**wanted(PLAIN), "sample.jpg": ("", "")}
    assert notes == ("1 photo lies outside the split folders: without split and class, so unused.",)


def test_splits_inside_of_classes_are_splits(tmp_path):
    names = [
        f"{garment}/{split}/{k}.jpg" for garment in ("dress", "pants") for split in ("train", "test") for k in (1, 2)
    ]
    rows, notes = read(photos(tmp_path, *names))
    assert rows == {name: (name.split("/")[1], name.split("/")[0]) for name in names}
    assert notes == ("'test', 'train' in the class folders are taken for splits.",)


@pytest.mark.parametrize("inner", [("train", "test"), ("images", "images")])
def test_folders_around_all_classes_of_a_split_are_stepped_into(tmp_path, inner):
    names = {}
    for split, around in zip(("train", "test"), inner, strict=True):
        names |= {f"{split}/{around}/{garment}/1.jpg": (split, garment) for garment in ("dress", "pants")}
    rows, notes = read(photos(tmp_path, *names))
    assert rows == names
    assert len(notes) == 1 and "stepped into" in notes[0]


def test_what_cannot_be_read_is_a_note(tmp_path):
    photos(tmp_path, "coat/0.jpg", "dress/1.jpg")
    for k in range(5):
        (tmp_path / f"coat/IMG_{k}.HEIC").write_bytes(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic")
    rows, notes = read(tmp_path)
    assert len(rows) == 2
    assert notes == (f"5 HEIC files in {tmp_path} can't be read and are left out: convert them to JPEG.",)
    assert notes[0] in Manifest.read(tmp_path).notes
    for path in tmp_path.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(
        ManifestError, match=r"hold folders of photos, but got only 5 HEIC files\. Try converting to JPEG"
    ):
        read(tmp_path)
