"""`modiste check` and `modiste split` as they are typed; what a split keeps whole, and how even it is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from modiste.audit.split_balance import label_spread, measure_balance
from modiste.config import DataConfig
from modiste.data.groups import group_numbers, keep_together
from modiste.data.manifest import Manifest
from modiste.labels import UNKNOWN, LabelSet


@pytest.fixture
def modiste(modiste, monkeypatch, tmp_path):
    """Run one command in an empty folder -> exit code, stdout, stderr."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return modiste


def made_of(targets, groups=None, **columns):
    """A manifest of photos that are nowhere."""
    frame = {"id": [f"{k}.jpg" for k in range(len(targets))], "path": [f"{k}.jpg" for k in range(len(targets))]}
    if groups is not None:
        frame["group"] = groups
    labels = LabelSet.free("set", [f"l{k}" for k in range(targets.shape[1])])
    return Manifest(labels, pl.DataFrame({**frame, **columns}), targets, Path(), "made.csv")


# check


def test_check_of_good_photos_ends_well_and_names_its_page(modiste, drawn):
    code, out, err = modiste("check", drawn, "--min-side", 32)
    assert code == 0
    assert "240 photos, 240 of them on disk" in out
    assert "missing" in out.partition("none: ")[2]
    assert "report: labels-check/index.html" in err
    assert sorted(path.name for path in Path("labels-check").iterdir()) == [
        "check.json",
        "fingerprints.sqlite",
        "index.html",
    ]


def test_check_answers_with_one_document_and_mends_what_it_found(modiste, drawn):
    rows = pl.read_csv(drawn, infer_schema=False).head(30)
    rows = rows.with_columns(pl.format(f"{drawn.parent}/{{}}", "image").alias("image"))
    gone = pl.concat([rows.head(1).with_columns(image=pl.lit(f"gone{k}.jpg")) for k in range(25)])
    label = rows.columns[-1]
    others = rows.head(2).with_columns(pl.col(label).replace({"0": "1", "1": "0"}))  # they contradict the first two
    pl.concat([rows, others, gone]).write_csv("photos.csv")
    code, out, err = modiste("check", "photos.csv", "-o", "found", "--fix", "clean.csv", "--min-side", 32, "--json")
    answer = json.loads(out)
    assert code == 1
    assert answer == json.loads(Path("found/check.json").read_text(encoding="utf-8"))
    assert len(answer["missing"]) == 25
    assert [one["rows"] for one in answer["repeated"]] == [[1, 31], [2, 32]]
    assert sum(line.startswith("modiste: Expected ") for line in err.splitlines()) == 20
    assert "modiste: and 5 more" in err
    assert "25 of 57 photos failed" in err
    assert answer["fix"]["photos"] == len(Manifest.read("clean.csv")) <= 30
    code, out, _ = modiste("check", "clean.csv", "--min-side", 32, "--fix", "again.csv")
    assert code == 0
    assert "again.csv" in out
    assert Manifest.read("again.csv").frame["id"].to_list() == Manifest.read("clean.csv").frame["id"].to_list()


def test_neither_torch_nor_matplotlib_is_needed(drawn, tmp_path):
    code = f"import sys; from modiste.cli.app import app; app(['check', {str(drawn)!r}], standalone_mode=False)\n"
    code += "assert not {'torch', 'matplotlib', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


def test_lists_without_photos_are_checked_for_their_labels(modiste, shared):
    code, out, err = modiste("check", shared / "data" / "jd2018" / "train-k-fold.txt")
    assert code == 1
    assert "54,908 photos, 0 of them on disk; 13 labels" in out
    assert "Only the labels were checked." in err
    assert err.count("modiste: ") == 1
    found = json.loads(Path("train-k-fold-check/check.json").read_text(encoding="utf-8"))
    assert sorted(found["labels"][0]["parts"]) == [f"fold {k}" for k in range(1, 6)]
    assert found["labels"][0]["measured_on"] == "all"
    assert np.shape(found["association"]["phi"]) == (13, 13)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "gone.csv"), "to exist"),
        (("check", "good.csv", "-o", "good.csv"), "to be a folder"),
        (("check", "good.csv", "--fix", "good.csv"), "one that this command reads"),
        (("check", "good.csv", "--fix", "clean.jpg"), "clean.jpg"),
        (("check", "good.csv", "--labels", "nothing"), "column 'nothing'"),
        (("check", "good.csv", "--fix", "none.csv"), "to be left"),
        (("split", "gone.csv", "-o", "new.csv"), "to exist"),
        (("split", "good.csv", "-o", "good.csv"), "one that this command reads"),
        (("split", "good.csv", "-o", "new.txt"), "new.txt"),
        (("split", "good.csv", "-o", "new.csv", "--folds", 1), "at least 2 folds"),
        (("split", "good.csv", "-o", "new.csv", "--folds", 3, "--val", 0.2), "--folds"),
        (("split", "good.csv", "-o", "new.csv", "--val", 0.6, "--test", 0.6), "photos to train on"),
        (("split", "good.csv", "-o", "new.csv", "--stratify", "season"), "column 'season'"),
        (("split", "good.csv", "-o", "new.csv", "--group-column", "product"), "column 'product'"),
    ],
)
def test_wrong_use_is_one_sentence(modiste, arguments, words):
    Image.new("RGB", (80, 80)).save("blank.png")
    Path("good.csv").write_text("image,red\nblank.png,1\n")
    code, out, err = modiste(*arguments)
    sentences = [line for line in err.splitlines() if line.startswith("modiste: ")]
    assert (code, out, len(sentences)) == (2, "", 1), err
    assert words in sentences[0]
    assert ", but got " in sentences[0]
    assert not Path("new.csv").exists()
    assert not Path("none.csv").exists()


# split


def test_split_keeps_copies_and_groups_together_and_says_how_even_it_is(modiste, drawn):
    rows = pl.read_csv(drawn, infer_schema=False).drop("split")
    rows = rows.with_columns(pl.format(f"{drawn.parent}/{{}}", "image").alias("image"))
    Path("copies").mkdir()
    copies = []
    for k in range(0, 60, 2):
        Image.open(rows["image"][k]).resize((96, 96)).save(f"copies/{k}.png")
        copies.append(rows[k].with_columns(image=pl.lit(f"copies/{k}.png")))
    rows = pl.concat([rows, *copies])
    rows = rows.with_columns(product=pl.Series([f"p{k // 3}" if k < 90 else "" for k in range(len(rows))]))
    rows.write_csv("photos.csv")
    code, out, err = modiste("split", "photos.csv", "-o", "split.csv", "--test", 0.2, "--json")
    assert code == 0, err
    answer, split = json.loads(out), Manifest.read("split.csv")
    part = split.frame["split"].to_list()
    for k in range(0, 60, 2):
        assert part[k] == part[240 + k // 2]
        assert split.frame["group"][k] == split.frame["group"][240 + k // 2] != ""
    assert all(len(set(part[k : k + 3])) == 1 for k in range(0, 90, 3))
    assert answer["sizes"] == {name: part.count(name) for name in ("test", "train", "val")}
    spread = label_spread(split.targets, np.unique(part, return_inverse=True)[1])
    assert (answer["largest"], answer["mean"]) == pytest.approx(spread)
    assert answer["mean"] < answer["random_mean"]
    assert (
        modiste("split", "photos.csv", "-o", "same.csv", "--test", 0.2, "--seed", 0, "--check", "photos-check")[0] == 0
    )
    assert Path("same.csv").read_text() == Path("split.csv").read_text()
    assert "train" in modiste("split", "photos.csv", "-o", "other.csv", "--no-near-duplicates")[1]
    assert "like " not in Path("other.csv").read_text()


def test_split_keeps_mirrored_copies_together(modiste):
    generator = np.random.default_rng(0)
    for k in range(15):
        coarse = Image.fromarray(generator.integers(0, 256, (9, 7, 3), np.uint8))
        photo = coarse.resize((120, 150), Image.Resampling.BICUBIC)
        photo.save(f"{k}.png")
        ImageOps.mirror(photo).save(f"{k}-mirrored.png")
    lines = [f"{k}{copy}.png,{k % 2}\n" for k in range(15) for copy in ("", "-mirrored")]
    Path("photos.csv").write_text("image,red\n" + "".join(lines))
    code, out, err = modiste("split", "photos.csv", "-o", "split.csv", "--val", 0.3, "--test", 0.3, "--json")
    assert code == 0, err
    assert json.loads(out)["kept_together"] == 15
    part = Manifest.read("split.csv").frame["split"].to_list()
    assert part[::2] == part[1::2]
    assert set(part) == {"train", "val", "test"}


def test_split_makes_splits_anew_and_folds_leave_test_photos_out(modiste):
    lines = "".join(f"{k}.jpg,{'test' if k % 4 == 0 else ''},{k % 2}\n" for k in range(200))
    Path("photos.csv").write_text("image,split,red\n" + lines)
    code, _, err = modiste("split", "photos.csv", "-o", "split.csv")
    assert code == 0
    assert "no photo is there" in err
    counted = Manifest.read("split.csv").frame["split"].value_counts().sort("split")["count"].to_list()
    assert counted == [20, 160, 20]
    assert modiste("split", "photos.csv", "-o", "all.csv", "--folds", 3)[0] == 0
    folds = Manifest.read("all.csv")
    named = Manifest.read("photos.csv").parts == "test"
    assert (folds.frame["fold"].to_numpy()[named] == -1).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.data())
def test_groups_and_copies_are_merged_over_each_other_and_stay_whole(n, data):
    named = data.draw(st.lists(st.sampled_from(["", "a", "b", "c", "like 3.jpg"]), min_size=n, max_size=n))
    alike = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, 2 * n)))
    targets = data.draw(hnp.arrays(np.int8, (n, 3), elements=st.integers(-1, 1)))
    merged = keep_together(made_of(targets, named), alike)
    group = group_numbers(merged)
    same = (alike[:, None] == alike) | np.array([[one == other != "" for other in named] for one in named])
    _, reached = connected_components(coo_array(same), directed=False)
    np.testing.assert_array_equal(group[:, None] == group, reached[:, None] == reached)
    fold = merged.with_folds(3, 0).frame["fold"].to_numpy()
    assert (fold[:, None] == fold)[same].all()


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.int8, st.tuples(st.integers(2, 50), st.integers(1, 4)), elements=st.integers(-1, 1)), st.data())
def test_evenness_is_what_numpy_says(targets, data):
    parts = data.draw(hnp.arrays("<U5", len(targets), elements=st.sampled_from(["train", "val", "test", ""])))
    parts[:2] = "train", "val"
    found = measure_balance(made_of(targets), parts, 0)
    spreads = []
    for column in targets.T:
        shares = [np.mean(column[(parts == part) & (column != UNKNOWN)] == 1)
                  for part in ("train", "val", "test") if ((parts == part) & (column != UNKNOWN)).any()]  # fmt: skip
        if len(shares) > 1:
            spreads.append(max(shares) - min(shares))
    assert found.largest == pytest.approx(max(spreads, default=0))
    assert found.mean == pytest.approx(np.mean(spreads) if spreads else 0)
    assert found.sizes == {part: int((parts == part).sum()) for part in np.unique(parts) if part}


def test_random_splits_keep_groups_and_sizes():
    generator = np.random.default_rng(0)
    targets = (generator.random((900, 2)) < 0.3).astype(np.int8)
    targets[:300, 0] = 1  # one group of a third of the photos, all with the label
    manifest = made_of(targets, ["big"] * 300 + [""] * 600)
    parts = np.array(["train"] * 600 + ["test"] * 300)
    found = measure_balance(manifest, parts, 0)
    whole = measure_balance(made_of(targets), parts, 0)
    assert found.random_largest > 0.3 > whole.random_largest


def test_real_photos_are_split_evenly_with_copies_together(modiste, shared):
    code, out, _ = modiste("split", shared / "data" / "ccp" / "labels.csv", "-o", "ccp.csv", "--folds", 5,
                           "--stratify", "annotation", "--json")  # fmt: skip
    assert code == 0
    answer = json.loads(out)
    assert 10 <= answer["kept_together"] <= 20
    assert answer["largest"] < answer["random_largest"] / 4
    folds = Manifest.read("ccp.csv")
    where = {name: (fold, group) for name, fold, group in folds.frame.select("id", "fold", "group").iter_rows()}
    assert where["photos/0025.jpg"] == where["photos/1707.jpg"]
    assert where["photos/0025.jpg"][1] == "like photos/0025.jpg"
    labelled = Manifest.read(shared / "data" / "ccp" / "labels.csv", DataConfig())
    np.testing.assert_array_equal(folds.targets, labelled.targets)
