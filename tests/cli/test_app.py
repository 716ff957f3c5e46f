"""Wrong use of the command line: one sentence on stderr, the right exit code, nothing broken behind it."""

import io
import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from modiste.cli import progress
from modiste.data.manifest import Manifest
from modiste.runs.run import Run

VERBS = ("check", "split", "train", "evaluate", "tune", "blend", "tag", "demo")


@pytest.fixture
def refused(modiste):
    """Run a command that must fail -> its one sentence."""

    def run(*arguments: object, code: int = 2) -> str:
        exit_code, out, err = modiste(*arguments)
        sentences = [line for line in err.splitlines() if line.startswith("modiste: ")]
        assert (exit_code, out, len(sentences)) == (code, "", 1), err
        assert "Traceback" not in err
        assert sentences[0].startswith("modiste: Expected ") and ", but got " in sentences[0]
        assert ". Try " in sentences[0] and sentences[0].endswith(".")
        return sentences[0]

    return run


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of the finished run, to break."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def table(drawn, tmp_path):
    """Write a changed copy of the drawn garments' labels.csv, its photos still found."""
    rows = pl.read_csv(drawn, infer_schema=False)
    rows = rows.with_columns(pl.format(f"{drawn.parent}/{{}}", "image").alias("image"))

    def write(change=lambda rows: rows, name: str = "photos.csv") -> Path:
        change(rows).write_csv(tmp_path / name)
        return tmp_path / name

    return write


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cell(column: str, row: int, value: str):
    """Change one cell."""
    here = pl.int_range(pl.len()) == row
    return lambda rows: rows.with_columns(pl.when(here).then(pl.lit(value)).otherwise(column).alias(column))


def every(column: str, value: str):
    return lambda rows: rows.with_columns(pl.lit(value).alias(column))


@pytest.mark.parametrize("verb", [(), *((verb,) for verb in VERBS)])
def test_help_goes_to_stdout(verb, modiste):
    code, out, err = modiste(*verb, "--help")
    assert (code, err) == (0, "")
    assert " Usage: " in out
    assert all(word in out for word in (verb and ("--json", "Examples" if verb != ("demo",) else "Draw")) or VERBS)


def test_version(modiste):
    assert modiste("--version") == (0, f"modiste {version('modiste')}\n", "")


MANIFESTS = {
    "unreadable label": (cell("l2", 4, "2"), 2, ("'casual' in row 6", "1, 0 or blank", "'2'")),
    "word as label": (cell("l2", 4, "maybe"), 2, ("'casual' in row 6", "'maybe'")),
    "missing photo": (cell("image", 2, "no.jpg"), 2, ("no.jpg", "1 of 167 missing")),
    "blank photo": (cell("image", 2, ""), 2, ("row 4", "to name a photo")),
    "photo twice": (
        lambda rows: pl.concat([rows, rows[3:4].with_columns(l1=pl.col("l1").replace({"0": "1", "1": "0"}))]),
        2,
        ("00004.jpg' in row 5 and row 242, which don't",),
    ),
    "unknown split": (cell("split", 7, "dev2"), 2, ("'split' in row 9", "'dev2'")),
    "no training photos": (every("split", "test"), 2, ("split 'train'", "240 of 'test'")),
    "no positives": (
        lambda rows: rows.with_columns(pl.lit("0").alias(f"l{k}") for k in range(1, 14)),
        2,
        ("1 training photo,", "--min-positives"),
    ),
    "nothing known": (lambda rows: rows.with_columns(pl.lit("").alias(f"l{k}") for k in range(1, 14)), 2, ()),
    "no labels": (lambda rows: rows.select("image", "split"), 2, ("label columns", "adding a column of labels")),
    "no rows": (lambda rows: rows[:0], 2, ("to list photos",)),
}


@pytest.mark.parametrize("wrong", MANIFESTS)
def test_a_wrong_manifest_names_row_and_column_and_makes_no_run(wrong, refused, table, tiny, tmp_path):
    change, code, words = MANIFESTS[wrong]
    path = table(change)
    sentence = refused("train", path, "-o", tmp_path / "run", "--recipe", tiny, code=code)
    assert all(word in sentence for word in (*words, "photos.csv" if code == 2 else ".jpg"))
    assert [p.name for p in tmp_path.iterdir()] == ["photos.csv"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_table_of_another_encoding(encoding, refused, table, tiny, tmp_path):
    path = table(cell("image", 0, "é.jpg"))
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    assert "é.jpg" in refused("train", path, "-o", tmp_path / "run", "--recipe", tiny)  # read, and missing


SETTINGS = {
    "augment.flop=1": ("'augment.flop'", "flip, translate"),
    "stages.7.lr=1": ("'stages.7.lr'", "stages.0.lr"),
    "train.batch_size=many": ("'train.batch_size'", "'many'"),
    "augment.flip=nan": ("'augment.flip'", "nan"),
    "augment.crop_scale=[2, 1]": ("augment.crop_scale must rise, got [2.0, 1.0]. Try",),
    "batch_size": ("key=value", "'batch_size'"),
    "model.backbone=resnet999": ("'resnet999'", "resnet18"),
    "stages.0.unlock=99": ("99", "a smaller number"),
    "model.weights=no.safetensors": ("no.safetensors", "No such file"),
    "data.fold=2": ("fold 2", "no folds"),
    "data.label_columns=['l1', 'shoes']": ("column", "Try --labels"),
    "data.root=nowhere": ("167 of 167 missing, first nowhere/photos/00001.jpg", "--root"),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_wrong_setting_is_named_and_makes_no_run(setting, refused, drawn, tiny, tmp_path):
    sentence = refused("train", drawn, "-o", tmp_path / "run", "--recipe", tiny, "--set", setting)
    assert all(word in sentence for word in SETTINGS[setting])
    assert len(sentence) < 400
    assert not list(tmp_path.iterdir())


def test_a_wrong_recipe_file(refused, drawn, tiny, tmp_path):
    path = tmp_path / "mine.toml"
    for text, word in ((tiny.read_text() + "[augment]\nflop = 1\n", "'augment.flop'"), ("[[[", "line 1")):
        path.write_text(text)
        sentence = refused("train", drawn, "-o", tmp_path / "run", "--recipe", path)
        assert "mine.toml" in sentence and word in sentence
    assert "jd2018" in refused("train", drawn, "-o", tmp_path / "run", "--recipe", "jd2081")


def test_weights_that_are_broken_of_another_network_or_out_of_reach(refused, trained, drawn, tiny, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"x" * 100)
    train = ("train", drawn, "-o", tmp_path / "run", "--recipe", tiny, "--weights")
    assert "broken.safetensors" in refused(*train, broken)
    assert "test_byobnet" in refused(*train, trained / "model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert "--weights FILE" in refused(*train, "hub")
    assert not (tmp_path / "run").exists()


def test_train_needs_a_manifest_or_a_run_and_a_new_folder(refused, run, drawn, tiny, tmp_path):
    before = content(run)
    assert "neither" in refused("train")
    assert "both" in refused("train", drawn, "--resume", run)
    assert "-o runs/first" in refused("train", drawn)
    for option in (
        ("--seed", 1),
        ("--epochs", 3),
        ("-o", tmp_path / "other"),
        ("--recipe", tiny),
        ("--set", "train.batch_size=8"),
    ):
        assert "--resume RUN alone" in refused("train", "--resume", run, *option)
    assert f"--resume {run}" in refused("train", drawn, "-o", run, "--recipe", tiny)
    assert "no such file" in refused("train", tmp_path / "no.csv", "-o", tmp_path / "new", "--recipe", tiny)
    assert content(run) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("verb", ["evaluate", "tag", "train"])
def test_what_is_no_run_folder(verb, refused, drawn, photos, tmp_path):
    for folder, got in ((tmp_path, "without recipe.toml"), (tmp_path / "no", "no such folder")):
        arguments = {"evaluate": (folder,), "tag": (photos[0], "-m", folder), "train": ("--resume", folder)}
        sentence = refused(verb, *arguments[verb])
        assert str(folder) in sentence and got in sentence


BROKEN = {
    "model.safetensors": ((b"", b"garbage"), ("tag", "evaluate", "train")),
    "recipe.toml": ((b"[[[", b"\xff\xfe", b"name = 1\n"), ("tag", "evaluate", "train")),
    "labels.json": ((b"{", b"{}", b"[1]"), ("tag", "evaluate", "train")),
    "decision.json": ((b"{", b"[]", b'{"sports": 0.5}'), ("tag", "evaluate", "train")),
    "manifest.parquet": ((b"", b"PAR1garbage"), ("evaluate", "train")),
    "metrics.json": ((b"{", b"[1]"), ("evaluate",)),
    "checkpoint.pt": ((b"", b"garbage", b"PK\3\4garbage"), ("train",)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_in_a_run_folder_is_named(name, refused, run, photos):
    arguments = {"tag": (photos[0], "-m", run), "evaluate": (run,), "train": ("--resume", run)}
    for bytes_ in BROKEN[name][0]:
        (run / name).write_bytes(bytes_)
        for verb in BROKEN[name][1]:
            assert f"{run}/{name}" in refused(verb, *arguments[verb])
            assert (run / name).read_bytes() == bytes_
    if name not in ("metrics.json", "checkpoint.pt", "decision.json"):  # without the last, the paper's rule holds
        (run / name).unlink()
        for verb in set(BROKEN[name][1]) - {"train"}:
            refused(verb, *arguments[verb])


def test_labels_and_recipe_of_another_run(refused, run, photos):
    labels = json.loads((run / "labels.json").read_text())
    del labels["groups"][0]["labels"][0]
    (run / "labels.json").write_text(json.dumps(labels))
    assert "sports" in refused("tag", photos[0], "-m", run)
    decision = json.loads((run / "decision.json").read_text())
    del decision["thresholds"]["sports"]
    (run / "decision.json").write_text(json.dumps(decision))
    assert "13 labels, sports, casual" in refused("tag", photos[0], "-m", run)


def test_a_recipe_of_another_backbone(refused, run, photos):
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace("test_byobnet", "test_resnet"))
    assert "test_resnet of recipe.toml" in refused("tag", photos[0], "-m", run)
    assert "test_resnet of recipe.toml" in refused("evaluate", run)


def test_a_manifest_of_other_labels(refused, run, photos, tmp_path):
    before = content(run)
    hot, words = tmp_path / "hot.csv", tmp_path / "words.csv"
    hot.write_text(f"image,split,cat\n{photos[0]},test,1\n")
    words.write_text(f"image,split,labels\n{photos[0]},test,sports\n{photos[1]},test,cat\n")
    assert "'cat'" in refused("evaluate", run, hot)
    assert "row 3" in (sentence := refused("evaluate", run, words)) and "'cat'" in sentence
    hot.write_text(f"image,split,sports\n{photos[0]},train,1\n")
    assert "1 of 'train'" in refused("evaluate", run, hot)
    assert content(run) == before


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("evaluate", "RUN", "--views", "many"), "--views"),
        (("evaluate", "RUN", "--split", "dev"), "--split"),
        (("tune", "RUN", "--calibration", "magic"), "--calibration"),
        (("blend", "RUN"), "--output"),
        (("tag", "x.jpg", "-m", "RUN", "--format", "xml"), "--format"),
        (("export", "RUN"), "--output"),
        (("train", "x.csv", "--devices", "0"), "--devices"),
        (("train", "x.csv", "--no-such"), "--no-such"),
        (("tagg",), "tag"),
    ],
)
def test_typing_errors_are_usage_errors(arguments, word, modiste):
    code, out, err = modiste(*arguments)
    assert (code, out) == (2, "")
    assert word in err and "Traceback" not in err


def test_some_photos_fail_and_each_is_named(modiste, run, photos, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8garbage")
    bad = [tmp_path / "no.jpg", tmp_path / "broken.jpg"]
    for option, rows in (((), 12), (("--format", "csv"), 13), (("--format", "jsonl"), 12)):
        code, out, err = modiste("tag", bad[0], *photos, bad[1], "-m", run, *option)
        assert (code, len(out.splitlines())) == (1, rows)
        assert all(str(path) in err and str(path) in out for path in bad)
        assert err.endswith("modiste: 2 of 12 photos failed\n")
    code, out, err = modiste("tag", *bad, "-m", run, "--json")
    assert code == 1
    assert [bool(photo["error"]) for photo in json.loads(out)["photos"]] == [True, True]
    assert not [line for line in err.splitlines() if "Traceback" in line]


def test_tag_refuses_before_it_reads_a_photo(refused, run, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    tag = ("tag", photos[0], "-m", run)
    assert "photos in folder" in refused("tag", tmp_path / "empty", "-m", run)
    assert "files that match" in refused("tag", tmp_path / "*.jpg", "-m", run)
    assert "'.xml'" in refused(*tag, "-o", tmp_path / "a.xml")
    assert "a folder" in refused(*tag, "-o", tmp_path / "empty", "--format", "csv")
    assert "--json alone" in refused(*tag, "-o", tmp_path / "a.csv", "--json")
    assert "-o FILE" in refused(*tag, "--format", "parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "run"]


def test_a_full_disk_leaves_earlier_results(refused, run, photos, tmp_path, monkeypatch):
    old = tmp_path / "tags.csv"
    old.write_text("old")
    before = content(run)

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    assert "No space" in refused("evaluate", run)
    assert f"{old} to be written" in refused("tag", photos[0], "-m", run, "-o", old, "--overwrite")
    assert old.read_text() == "old"
    assert content(run) == before


def test_a_full_disk_leaves_no_half_made_run(refused, drawn, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Manifest, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert "No space" in refused("train", drawn, "-o", tmp_path / "run", "--recipe", tiny)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_behind_stdout(modiste, run, photos, monkeypatch):
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    code, _, err = modiste("tag", photos[0], "-m", run)
    assert code == 2
    assert "modiste: Expected " in err and "No space left" in err


def test_photos_under_odd_names(modiste, run, photos, tmp_path):
    names = ["a b.jpg", "连衣裙.jpg", "new\nline.jpg", "-m.jpg", "[1].jpg", "a'\"b.jpg"]
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in names:
        shutil.copy(photos[0], folder / name)
    code, out, _ = modiste("tag", folder, "-m", run, "--json")
    tagged = json.loads(out)["photos"]
    assert (code, {photo["photo"] for photo in tagged}) == (0, {str(folder / name) for name in names})
    assert len({json.dumps(photo["probs"]) for photo in tagged}) == 1
    pl.DataFrame({"image": names, "sports": [1, 0, 1, 0, 1, 0]}).write_csv(folder / "odd.csv")
    code, out, _ = modiste("evaluate", run, folder / "odd.csv", "--split", "all", "--json")
    assert (code, json.loads(out)["photos"]) == (0, 6)


def test_evaluate_prints_scores_on_stdout_and_words_on_stderr(modiste, run):
    code, out, err = modiste("evaluate", run)
    assert code == 0
    assert "macro F2" in out and "prevalence" in out
    kept = json.loads((run / "metrics.json").read_text())["evaluations"][-1]
    assert out.startswith(kept["verdict"] + "\n") and " labels " in kept["verdict"]
    assert "macro F2" not in err and "report: " not in out
    page = Path(err.split("report: ")[1].replace("\n", ""))
    assert page.is_file() and page.parent.parent == run


def test_evaluate_json_is_what_metrics_json_keeps(modiste, run):
    code, first, _ = modiste("evaluate", run, "--split", "val", "--json")
    assert code == 0
    code, out, _ = modiste("evaluate", run, "--split", "val", "--views", "flip", "--json")
    assert code == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["evaluations"][-2:] == [json.loads(first), json.loads(out)]
    assert [one["views"] for one in metrics["evaluations"][-2:]] == ["one", "flip"]


def test_evaluate_names_the_photos_it_leaves_out(modiste, run, table):
    path = table(cell("image", 0, "no.jpg"))
    code, out, err = modiste("evaluate", run, path, "--split", "train", "--json")
    assert code == 1
    assert [failed["photo"].endswith("no.jpg") for failed in json.loads(out)["failed"]] == [True]
    assert "no.jpg" in err and err.endswith("modiste: 1 of 167 photos failed\n")


def test_a_broken_photo_stops_training_with_its_name(refused, table, tiny, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"garbage")
    path = table(cell("image", 2, str(tmp_path / "broken.jpg")))
    train = ("train", path, "-o", tmp_path / "run", "--recipe", tiny, "--set", "train.batch_size=160")
    assert "broken.jpg" in refused(*train, code=1)
    Run.read(tmp_path / "run")  # left whole, to go on with once the photo is mended


def test_a_loss_that_is_not_finite_says_what_to_lower(refused, drawn, tiny, tmp_path):
    train = ("train", drawn, "-o", tmp_path / "run", "--recipe", tiny, "--set", "stages.0.lr=1e38")
    sentence = refused(*train, "--set", "stages.0.optimizer=sgd")
    assert "stage 'locked', epoch 1, step" in sentence and "a lower lr" in sentence


def test_ctrl_c_ends_with_130_and_the_run_goes_on_to_the_same_weights(modiste, trained, drawn, tiny, tmp_path):
    folder = tmp_path / "run"
    epoch = progress.TerminalMonitor.epoch

    def interrupted(self, row):
        epoch(self, row)
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress.TerminalMonitor, "epoch", interrupted)
        code, out, err = modiste("train", drawn, "-o", folder, "--recipe", tiny)
    assert (code, out) == (130, "")
    assert "Traceback" not in err
    code, out, _ = modiste("train", "--resume", folder, "--json")
    assert code == 0
    assert json.loads(out)["split"] == "val"
    weights, expected = load_file(folder / "model.safetensors"), load_file(trained / "model.safetensors")
    assert all(torch.equal(weights[key], value) for key, value in expected.items())


def test_a_run_killed_before_its_first_checkpoint_is_not_taken_for_finished(modiste, run):
    history = (run / "history.csv").read_text().splitlines()
    (run / "history.csv").write_text("\n".join(history[:2]) + "\n")
    (run / "model.safetensors").write_bytes(b"of the first epoch")
    code, _, err = modiste("train", "--resume", run)
    assert code == 0 and "epoch   4/4" in err
    assert pl.read_csv(run / "history.csv").height == 4


def test_resume_of_a_finished_run_scores_it_again_and_trains_nothing(modiste, run):
    names = ("model.safetensors", "history.csv", "recipe.toml", "decision.json")
    before = {name: (run / name).read_bytes() for name in names}
    code, out, _ = modiste("train", "--resume", run, "--json")
    assert code == 0
    assert json.loads(out) == json.loads((run / "metrics.json").read_text())["evaluations"][-1]
    assert before == {name: (run / name).read_bytes() for name in names}


def test_real_exit_codes(run, photos):
    command = [sys.executable, "-m", "modiste", "tag", *map(str, photos), "no.jpg", "-m", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_every_command_works_in_a_folder_whose_name_looks_like_a_pattern(
    drawn, tiny, tmp_path, modiste, traced_once, *, monkeypatch
):
    """Polars, glob and pathlib read "[1]" as a pattern, which `photos[1]` itself doesn't match."""
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "photos[1]"
    shutil.copytree(drawn.parent, here)

    def done(*arguments):
        code, out, err = modiste(*arguments)
        assert code == 0, (arguments, err)
        return out

    done("check", here / drawn.name, "-o", here / "check", "--fix", here / "clean.parquet", "--min-side", 16)
    done("split", here / "clean.parquet", "-o", here / "split.jsonl")
    done("split", here / "split.jsonl", "-o", here / "split.tsv")
    assert len(Manifest.read(here / "split.tsv")) == len(Manifest.read(here / "clean.parquet")) > 200
    head, _, rest = tiny.read_text().partition('[[stages]]\nname = "unlocked"')
    recipe = here / "head.toml"
    recipe.write_text(head.replace("epochs = 2", "epochs = 1") + rest[rest.index("[train]") :])
    quick = ["--recipe", recipe]
    for seed in (0, 1):
        done("train", here / "split.jsonl", "-o", here / f"run{seed}", *quick, "--seed", seed)
    done("tune", here / "run0", "--split", "train")
    done("evaluate", here / "run0", "--against", here / "run1")
    done("evaluate", here / "run0", here / "split.tsv")
    done("blend", here / "run0", here / "run1", "-o", here / "blend", "--split", "train")
    done("evaluate", here / "blend")
    done("train", here / "split.jsonl", "-o", here / "folds", *quick, "--folds", 2)
    done("compare", here / "split.jsonl", "-o", here / "table", *quick, "--seeds", 1)
    photo = next((here / "photos").glob("*.jpg"))
    done("export", here / "run0", "-o", here / "coat.onnx", "--check", photo)
    for model in ("run0", "blend", "folds/ensemble", "table/best", "coat.onnx"):
        done("info", here / model)
        assert str(photo) in done("tag", photo, "-m", here / model)
    tags = ["tag", here / drawn.name, "-m", here / "run0"]
    for ending in ("csv", "jsonl", "parquet"):
        done(*tags, "-o", here / f"tags.{ending}")
    done(*tags, "-o", here / "bulk")
    done(*tags, "-o", here / "bulk")  # looks at what is there
    done("tag", here / "clean.parquet", "-m", here / "run0", "-o", here / "again.csv")
    done("tag", here / "photos", "-m", here / "run0", "--explain", here / "maps")
