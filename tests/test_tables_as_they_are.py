"""Tables as shops and data sets have them go through check, train and tag, and what was guessed is told."""

import csv
import io
import json
import shutil

import pytest
from tables import held

from modiste.config import DataConfig
from modiste.data.manifest import Manifest

COUNT = 24
TAGS = [["red", "dress"], ["blue", "coat"], ["red"], ["blue", "dress"]] * 6
KINDS = ["dress", "coat", "dress", "shirt"] * 6

ONE_STEP = """
name = "step"
[data]
min_positives = 1
val_fraction = 0.3
test_fraction = 0
[image]
size = 16
[model]
backbone = "test_byobnet"
weights = "none"
[[stages]]
name = "locked"
epochs = 1
lr = 1e-2
unlock = "none"
[train]
batch_size = 24
workers = 0
cache = "off"
[decide]
policy = "fixed:0.5"
calibration = "none"
"""


def rows(header, cells):
    """A CSV with a photo and what stands behind it in each row."""
    text = io.StringIO()
    csv.writer(text).writerows([header, *([f"photos/{k}.jpg", *row] for k, row in enumerate(cells))])
    return text.getvalue()


def lists(spell):
    return rows(["image", "labels"], [[spell(tags)] for tags in TAGS])


def flags(yes, no, blank=None):
    """Two labels a photo; every fifth cell of the first is blank where a word for that is given."""
    cells = [["red" in tags, "dress" in tags] for tags in TAGS]
    words = [[yes if one else no for one in row] for row in cells]
    if blank is not None:
        for row in words[::5]:
            row[0] = blank
    return rows(["image", "red", "dress"], words)


TAGGED = [set(tags) for tags in TAGS]
FLAGGED = [{name for name in ("red", "dress") if name in tags} for tags in TAGS]
KIND = [{kind} for kind in KINDS]
MISSING = ["NaN", "None", "NULL", "N/A", "NA", "-"]
CHINESE = {"dress": "连衣裙", "coat": "外套", "shirt": "衬衫"}
PLAIN = rows(["image", "class"], [[kind] for kind in KINDS])
SPELT = ["Red", "red", "red ", "RED"]

# name -> content, its suffix, options, labels of each photo, what is told
CASES = {
    "repr of lists": (lists(repr), ".csv", [], TAGGED, "holds lists such as"),
    "JSON lists": (lists(json.dumps), ".csv", [], TAGGED, "holds lists such as"),
    "choices of Label Studio": (lists(lambda tags: json.dumps({"choices": tags})), ".csv", [], TAGGED, "holds lists"),
    "tuples": (lists(lambda tags: repr(tuple(tags))), ".csv", [], TAGGED, "holds lists such as"),
    "words for unknown": (
        rows(
            ["image", "colour"],
            [[word] for pair in zip(["red", "blue"] * 6, MISSING * 2, strict=True) for word in pair],
        ),
        ".csv",
        ["--labels", "colour"],
        [None if k % 2 else {["red", "blue"][k // 2 % 2]} for k in range(COUNT)],
        "12 cells hold",
    ),
    "spellings": (
        rows(["image", "class"], [[SPELT[k % 4] if k % 3 else "blue"] for k in range(COUNT)]),
        ".csv",
        [],
        None,
        "in other spellings",
    ),
    "yes and no": (flags("yes", "no", ""), ".csv", [], None, "'no' is no and a blank is unknown"),
    "Y and N": (flags("Y", "N"), ".csv", [], FLAGGED, "'N' is no"),
    "on and off": (flags("on", "off"), ".csv", [], FLAGGED, "'off' is no"),
    "x and blank": (flags("x", ""), ".csv", [], FLAGGED, "A blank beside 'x' is no"),
    "1 and -1": (flags("1", "-1"), ".csv", [], FLAGGED, "-1 is no"),
    "a category that is named": (
        rows(["image", "garment", "note"], [[kind, f"text {k}"] for k, kind in enumerate(KINDS)]),
        ".csv",
        ["--labels", "garment"],
        KIND,
        "garment (one of 3): dress 12, coat 6, shirt 6",
    ),
    "a row a label": (
        "image,label\n" + "".join(f"photos/{k}.jpg,{tag}\n" for k, tags in enumerate(TAGS) for tag in tags),
        ".csv",
        [],
        TAGGED,
        "taken for a list",
    ),
    "lines of commas": (
        PLAIN.replace("photos/4.jpg", ",,\n\nphotos/4.jpg", 1) + ",,,\n,,\n",
        ".csv",
        [],
        KIND,
        "class (one of 3)",
    ),
    "objects": (
        json.dumps([{"image": f"photos/{k}.jpg", "labels": tags} for k, tags in enumerate(TAGS)]),
        ".json",
        [],
        TAGGED,
        "labels (any of 4)",
    ),
    "Excel's text": (
        PLAIN.replace(",", "\t").encode("utf-16"),
        ".txt",
        [],
        KIND,
        "class (one of 3)",
    ),
    "GBK": (
        rows(["image", "class"], [[CHINESE[kind]] for kind in KINDS]).encode("gbk"),
        ".csv",
        [],
        [{CHINESE[kind]} for kind in KINDS],
        "isn't UTF-8: read as gb18030",
    ),
    "an inch mark": (
        "image,title,class\n" + "".join(f'photos/{k}.jpg,"a {k}" heel",{kind}\n' for k, kind in enumerate(KINDS)),
        ".csv",
        [],
        KIND,
        "Quotes that aren't doubled are read as they stand",
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_table_goes_through_check_train_and_tag(kind, modiste, drawn, tmp_path, monkeypatch):
    content, suffix, options, expected, told = CASES[kind]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for k, photo in enumerate(sorted((drawn.parent / "photos").iterdir())[:COUNT]):
        shutil.copy(photo, tmp_path / "photos" / f"{k}.jpg")
    path, recipe = tmp_path / f"shop{suffix}", tmp_path / "step.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    recipe.write_text(ONE_STEP)
    config = DataConfig(label_columns=tuple(options[1].split(",")) if options else None)
    manifest = Manifest.read(path, config)
    if expected is not None:
        assert held(manifest) == {f"photos/{k}.jpg": labels for k, labels in enumerate(expected)}
    for command in (("check", path), ("train", path, "-o", "run", "--recipe", recipe)):
        code, _, err = modiste(*command, *options)
        assert code == 0, err
        assert told in err, err
    code, _, err = modiste("tag", path, "-m", "run", "-o", "tags.csv")
    assert code == 0, err
    with (tmp_path / "tags.csv").open(newline="") as file:
        tagged = list(csv.DictReader(file))
    assert len(tagged) == len(manifest)
    assert all(not row.get("error") for row in tagged)


def test_spellings_and_blanks_of_the_tables_above(tmp_path):
    """What the two tables without a list of labels there hold."""
    for name in ("spellings", "yes and no"):
        (tmp_path / f"{name}.csv").write_text(CASES[name][0])
    spelt = Manifest.read(tmp_path / "spellings.csv")
    assert sorted(name.lower() for name in spelt.label_set.ids) == ["blue", "red"]
    blank = Manifest.read(tmp_path / "yes and no.csv")
    assert (blank.targets[::5, 0] == -1).all() and (blank.targets[:, 1] != -1).all()
