"""Tagging through the command line, read back with other tools."""

import csv
import io
import json
import shutil

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner
from web import Web, answer

from modiste.cli.app import app
from modiste.config import DataConfig
from modiste.data.manifest import Manifest
from modiste.inference.writers import as_text
from modiste.inputs.arguments import files
from modiste.labels import LabelSet
from modiste.prediction import Prediction
from modiste.runs.load import load

JD = LabelSet.read("jd2018")


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def folder(photos, tmp_path):
    """Three good photos, one of them deeper, and a broken one."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name, photo in zip(("b.jpg", "a.JPG", "deep/c.jpg"), photos, strict=False):
        shutil.copy(photo, tmp_path / "in" / name)
    (tmp_path / "in" / "broken.jpg").write_bytes(b"GIF")
    (tmp_path / "in" / "notes.txt").write_text("no photo")
    return tmp_path / "in"


def expected(trained, path):
    return load(trained).predict(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_format_holds_scores_labels_and_errors(kind, trained, folder, tmp_path):
    out = tmp_path / f"tags.{kind}"
    result = run("tag", folder, "-m", trained, "-o", out)
    assert result.exit_code == 1
    assert "broken.jpg" in result.stderr
    assert "1 of 4 photos failed" in result.stderr
    if kind == "csv":
        rows = [
            {"photo": r["photo"], "labels": r["labels"].split("|") if r["labels"] else [], "error": r["error"] or None,
             "probs": {label: float(r[label]) for label in JD.ids if r[label]}}
            for r in csv.DictReader(out.read_text(encoding="utf-8").splitlines())
        ]  # fmt: skip
    elif kind == "jsonl":
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    else:
        rows = [
            {**{k: r[k] for k in ("photo", "labels", "error")}, "probs": {k: r[k] for k in JD.ids if r[k] is not None}}
            for r in pl.read_parquet(out).to_dicts()
        ]
    assert [row["photo"] for row in rows] == [str(folder / n) for n in ("a.JPG", "b.jpg", "broken.jpg", "deep/c.jpg")]
    for row in rows:
        if row["photo"].endswith("broken.jpg"):
            assert row["error"]
            assert not row["labels"]
            assert not row["probs"]
            continue
        said = expected(trained, row["photo"])
        assert tuple(row["labels"]) == said.labels
        np.testing.assert_allclose([row["probs"][label] for label in JD.ids], said.prob_array, atol=1e-5)


def test_text_and_json_on_stdout(trained, photos):
    said = expected(trained, photos[0])
    line = run("tag", photos[0], "-m", trained).stdout
    assert line.startswith(f"{photos[0]}\t")
    assert all(label in line for label in said.labels)
    document = json.loads(run("tag", photos[0], "-m", trained, "--json").stdout)
    assert document["photos"][0]["labels"] == list(said.labels)


def test_text_names_the_surest_label_first():
    labels = LabelSet.free("three", ["a", "b", "c"])
    said = Prediction("x", labels, np.array([0.6, 0.2, 0.9], np.float32), ("a", "c"))
    assert as_text(said, "x") == "x\tc 0.90, a 0.60"


def test_a_submission_is_the_challenges_format(trained, drawn, tmp_path):
    table, out = tmp_path / "backwards.csv", tmp_path / "submission.txt"
    pl.read_csv(drawn).reverse().write_csv(table)
    arguments = ("--root", drawn.parent, "-m", trained, "-o", out, "--format", "jd")
    assert run("tag", table, *arguments).exit_code == 0
    lines = out.read_text(encoding="utf-8").splitlines()
    own = Manifest.read(table, DataConfig(root=str(drawn.parent)))
    assert [line.split(",")[0] for line in lines] == [path.stem for path in own.photos()]
    decided = np.array([line.split(",")[1:] for line in lines], dtype=int)
    first = expected(trained, own.photo(0))
    assert [label for label, yes in zip(JD.ids, decided[0], strict=True) if yes] == list(first.labels)
    assert Manifest.read(out).label_set == JD


def test_threshold_and_views_change_what_is_said(trained, photos):
    everything = json.loads(run("tag", photos[0], "-m", trained, "--json", "--thresholds", "fixed:0").stdout)
    assert everything["photos"][0]["labels"] == list(JD.ids)
    flipped = json.loads(run("tag", photos[0], "-m", trained, "--json", "--views", "flip").stdout)
    predictor = load(trained, views="flip")
    np.testing.assert_allclose(
        list(flipped["photos"][0]["probs"].values()), predictor.predict(photos[0]).prob_array, atol=1e-5
    )


def test_globs_folders_files_and_manifests_name_the_same_photos(drawn):
    folder = drawn.parent / "photos"
    by_folder = files([str(folder)])
    by_glob = files([f"{folder}/*.jpg"])
    by_manifest = files([str(drawn)])
    assert by_folder == by_glob == sorted(by_manifest)
    assert len(by_folder) == 240


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing/*.jpg", "-m", "RUN"], "files that match"),
        (["PHOTO", "-m", "nowhere"], "nowhere to be a run folder"),
        (["PHOTO", "-m", "RUN", "-o", "tags.xls"], "to end in"),
        (["PHOTO", "-m", "RUN", "--format", "parquet"], "-o FILE for Parquet"),
        (["PHOTO", "-m", "RUN", "--root", "elsewhere"], "a table of photos that 'elsewhere' is about"),
        (["FOLDER", "-m", "RUN", "--explain", "FOLDER/why"], "--explain to be outside"),
        (["PHOTO", "-m", "RUN", "--shard", "1/2", "-o", "tags.csv"], "-o for --shard, but got tags.csv"),
    ],
)
def test_wrong_use_is_one_sentence(arguments, words, trained, photos):
    from modiste.errors import ModisteError

    named = [{"RUN": str(trained), "PHOTO": str(photos[0])}.get(a, a) for a in arguments]
    named = [a.replace("FOLDER", str(photos[0].parent)) for a in named]
    with pytest.raises(ModisteError, match="Expected") as caught:
        run("tag", *named)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


def piped(monkeypatch, content):
    """What the next command reads."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_a_photo_or_a_list_on_standard_input_is_tagged(trained, photos, modiste, monkeypatch):
    said = expected(trained, photos[0])
    piped(monkeypatch, photos[0].read_bytes())
    code, out, _ = modiste("tag", "-", "-m", trained, "--json")
    assert (code, json.loads(out)["photos"][0]["labels"]) == (0, list(said.labels))
    piped(monkeypatch, "\n".join(map(str, photos)).encode())
    code, out, _ = modiste("tag", "-", "-m", trained, "--json")
    assert [one["photo"] for one in json.loads(out)["photos"]] == [str(path) for path in photos]
    for content, got in ((b"", "nothing"), (b"%PDF", "a PDF document")):
        piped(monkeypatch, content)
        code, out, err = modiste("tag", "-", "-m", trained)
        assert (code, out) == (2, "")
        assert f"but got {got}. Try" in err


def test_a_list_on_standard_input_fills_a_folder_a_photo_does_not(trained, photos, tmp_path, modiste, monkeypatch):
    for listed, told in ((photos[:4], "4 changes"), (photos[1:6], "3 changes")):
        piped(monkeypatch, "\n".join(map(str, listed)).encode())
        code, out, err = modiste("tag", "-", "-m", trained, "-o", tmp_path / "tags")
        assert code == 0, err
        assert told in out
    piped(monkeypatch, photos[0].read_bytes())
    code, _, err = modiste("tag", "-", "-m", trained, "-o", tmp_path / "other")
    assert code == 2
    assert "paths or URLs on standard input, but got a photo. Try -o tags.csv" in err


def test_urls_are_fetched_and_tagged_where_they_are_public(trained, photos, modiste):
    content = photos[0].read_bytes()
    with Web(lambda path: answer(content) if path == "a.jpg" else answer(status=404)) as web:
        code, out, err = modiste("tag", web.url("a.jpg"), "-m", trained)
        assert code == 1
        assert "not public" in err
        code, out, err = modiste(
            "tag", web.url("a.jpg"), photos[1], web.url("gone"), "-m", trained, "--json", "--allow-private"
        )
    assert code == 1
    one, two, three = json.loads(out)["photos"]
    assert (one["photo"], one["labels"]) == (web.url("a.jpg"), list(expected(trained, photos[0]).labels))
    assert two["photo"] == str(photos[1])
    assert "status 404" in three["error"]


@pytest.mark.parametrize("into", ["tags.csv", "tags"])
def test_photos_that_cannot_be_read_are_told_once(trained, folder, tmp_path, modiste, into):
    (folder / "broken.jpg").unlink()
    for k in range(5):
        (folder / f"deep/IMG_{k}.HEIC").write_bytes(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic")
    code, _, err = modiste("tag", folder, "-m", trained, "-o", tmp_path / into)
    assert code == 0
    note = f"5 HEIC files in {folder} can't be read and are left out: convert them to JPEG."
    assert err.count(note) == 1


def test_heatmaps_never_go_among_photos(trained, photos, tmp_path, modiste):
    (tmp_path / "a").mkdir()
    names = [shutil.copy(photo, tmp_path / "a") for photo in photos[:3]]
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    code, out, err = modiste("tag", *names, "-m", trained, "--explain", tmp_path / "a")
    assert (code, out) == (2, "")
    assert f"--explain {tmp_path / 'a'} to be a new folder, or one that --explain made" in err
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


@pytest.fixture
def here(photos, tmp_path, monkeypatch):
    """The current folder: a photo, a broken one, a table of one, and what holds none."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(photos[0], "a.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"GIF")
    (tmp_path / "list.csv").write_text("id,image\n1,a.jpg\n")
    (tmp_path / "header.csv").write_text("id,image\n")
    pl.DataFrame(schema={"id": pl.String, "image": pl.String}).write_parquet("header.parquet")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["gone.jpg"], 2),
        (["gone/*.jpg"], 2),
        (["gone.jpg", "gone-too.jpg"], 2),
        (["empty"], 2),
        (["header.csv"], 2),
        (["header.parquet"], 2),
        (["gone.jpg", "a.jpg"], 1),
        (["list.csv", "gone.jpg"], 1),
        (["broken.jpg"], 1),
        (["a.jpg"], 0),
    ],
)
def test_nothing_to_tag_is_bad_usage_and_a_photo_that_fails_is_not(arguments, code, trained, here, modiste):
    for into in ([], ["-o", "tags"]):
        said, _, err = modiste("tag", *arguments, "-m", trained, *into)
        assert said == code, err
        assert (here / "tags").exists() == (code != 2 and bool(into))
        if code == 2:
            assert err.count("Expected ") == 1 and len(err.strip().splitlines()) == 1


def test_a_table_on_standard_input_is_tagged_as_a_file_is(trained, photos, tmp_path, modiste, monkeypatch):
    content = "id,image,sku\n" + "".join(f"p{k},{path},{k // 2}\n" for k, path in enumerate(photos[:3])) + "x,,9\n"
    (tmp_path / "shop.csv").write_text(content)
    for options in ([], ["--by", "sku"], ["--image-column", "image", "--format", "csv"]):
        by_file = modiste("tag", tmp_path / "shop.csv", "-m", trained, *options)
        piped(monkeypatch, content.encode())
        code, out, err = modiste("tag", "-", "-m", trained, *options)
        assert (code, out) == (1, by_file[1].replace(str(tmp_path / "shop.csv"), "standard input"))
        assert "row 5 of standard input to name a photo, but got a blank" in err
    piped(monkeypatch, content.encode())
    code, _, err = modiste("tag", "-", "-m", trained, "-o", tmp_path / "tags")
    assert code == 1 and "row 5 of standard input" in err
    piped(monkeypatch, str(photos[0]).encode())
    code, out, err = modiste("tag", "-", "-m", trained, "--root", "elsewhere")
    assert (code, out) == (2, "") and "a table of photos that 'elsewhere' is about, but got none" in err


@pytest.mark.parametrize("into", ["tags.csv", "tags"])
def test_a_row_a_label_is_tagged_once_and_told_once(trained, photos, tmp_path, modiste, into):
    table = tmp_path / "long.csv"
    table.write_text("image,label\n" + "".join(f"{path},{label}\n" for label in "xyz" for path in photos[:2]))
    code, _, err = modiste("tag", table, "-m", trained, "-o", tmp_path / into)
    assert code == 0
    assert err.count(f"4 rows of {table} name photos that earlier rows name: each photo is tagged once.") == 1
    tagged = pl.read_csv(tmp_path / into) if into == "tags.csv" else pl.read_parquet(tmp_path / "tags/part-*.parquet")
    assert tagged["photo"].to_list() == [str(path) for path in photos[:2]]
