"""Bulk tagging: every photo exactly once, however often the job is killed and however many share it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import modiste as package
from modiste.errors import ModisteError
from modiste.inference.bulk import BulkJob, Shard
from modiste.inference.writers import Tagged, as_frame
from modiste.labels import LabelSet
from modiste.prediction import Prediction
from modiste.runs.load import load


@pytest.fixture(scope="module")
def exported(trained, traced_once, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    package.export(trained, path)
    return path


def tags(folder):
    return pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))])


WHOLE = Shard(1, 1)


def run(folder, predictor, *arguments, shard=WHOLE, size=7):
    job = BulkJob.open(folder, [str(a) for a in arguments], {"model": "x"}, size=size)
    return job.run(predictor, shard, fetch=iter)


def test_parts_together_say_what_one_file_says(exported, drawn, tmp_path, modiste):
    photos = drawn.parent / "photos"
    done = run(tmp_path / "tags", load(exported), photos)
    assert (done.photos, done.failed, done.earlier, done.parts) == (240, 0, 0, 35)
    assert modiste("tag", photos, "-m", exported, "-o", tmp_path / "tags.parquet")[0] == 0
    assert tags(tmp_path / "tags").equals(pl.read_parquet(tmp_path / "tags.parquet"))


def test_shards_share_the_work_without_overlap(exported, drawn, tmp_path):
    photos = drawn.parent / "photos"
    for number in (3, 1, 2):
        run(tmp_path / "tags", load(exported), photos, shard=Shard(number, 3))
    names = tags(tmp_path / "tags")["photo"].to_list()
    assert names == [str(path) for path in sorted(photos.iterdir())]


def test_a_second_run_does_what_is_missing(exported, drawn, tmp_path):
    folder, photos = tmp_path / "tags", drawn.parent / "photos"
    run(folder, load(exported), photos)
    whole = tags(folder)
    (folder / "part-000003.parquet").unlink()
    others = {path: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    done = run(folder, load(exported), photos)
    assert done.earlier == 240 - 7
    assert all(path.stat().st_mtime_ns == when for path, when in others.items())
    assert tags(folder).equals(whole)


def test_a_part_appears_whole_or_not_at_all(exported, drawn, tmp_path, monkeypatch):
    folder, photos, write, written = tmp_path / "tags", drawn.parent / "photos", pl.DataFrame.write_parquet, []

    def dying(frame, file, **settings):
        write(frame, file, **settings)
        written.append(file)
        if len(written) == 3:
            Path(file).write_bytes(Path(file).read_bytes()[:100])
            raise KeyboardInterrupt

    monkeypatch.setattr(pl.DataFrame, "write_parquet", dying)
    with pytest.raises(KeyboardInterrupt):
        run(folder, load(exported), photos, size=60)
    monkeypatch.undo()
    assert sorted(path.name for path in folder.glob("part-*")) == ["part-000000.parquet", "part-000001.parquet"]
    assert len(tags(folder)) == 120
    assert run(folder, load(exported), photos, size=60).earlier == 120
    assert tags(folder)["photo"].to_list() == [str(path) for path in sorted(photos.iterdir())]


def test_photos_that_appear_within_a_round_move_nothing(exported, drawn, tmp_path):
    photos = shutil.copytree(drawn.parent / "photos", tmp_path / "photos")
    run(tmp_path / "tags", load(exported), photos, shard=Shard(1, 2))
    shutil.copy(next(photos.iterdir()), photos / "0-first.jpg")
    run(tmp_path / "tags", load(exported), photos, shard=Shard(2, 2))
    assert tags(tmp_path / "tags")["photo"].to_list() == [str(p) for p in sorted(photos.iterdir())[1:]]


@pytest.mark.parametrize("change", ["photos", "model", "table"])
def test_another_job_in_the_folder_is_refused(exported, drawn, tmp_path, change):
    table = tmp_path / "list.csv"
    table.write_text("path\n" + "\n".join(map(str, sorted((drawn.parent / "photos").iterdir())[:9])))
    BulkJob.open(tmp_path / "tags", [str(table)], {"model": "x"})
    if change == "table":
        table.write_text(table.read_text() + "\nmore.jpg")
    with pytest.raises(ModisteError, match=r"begun with, but got another\."):
        BulkJob.open(
            tmp_path / "tags",
            [str(drawn.parent / "photos") if change == "photos" else str(table)],
            {"model": "y" if change == "model" else "x"},
        )


def test_a_folder_of_something_else_is_left_alone(drawn, exported, tmp_path, modiste):
    (tmp_path / "tags").mkdir()
    (tmp_path / "tags/letter.txt").write_text("dear")
    code, _, err = modiste("tag", drawn.parent / "photos", "-m", exported, "-o", tmp_path / "tags")
    assert code == 2
    assert "to be a new folder" in err
    assert [path.name for path in (tmp_path / "tags").iterdir()] == ["letter.txt"]


def test_broken_photos_are_counted_named_and_kept(exported, photos, tmp_path, modiste):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    code, out, err = modiste("tag", photos[0], tmp_path / "broken.jpg", "-m", exported, "-o", tmp_path / "tags")
    assert code == 1
    assert "2 photos in 1 part" in out
    assert "broken.jpg" in err
    assert tags(tmp_path / "tags")["error"].null_count() == 1
    code, out, err = modiste("tag", photos[0], tmp_path / "broken.jpg", "-m", exported, "-o", tmp_path / "tags")
    assert code == 1  # it still is
    assert "2 of them earlier" in out


def test_shards_that_begin_together_share_one_list(exported, drawn, tmp_path):
    code = (
        "import sys; from pathlib import Path; from modiste.inference.bulk import BulkJob, Shard\n"
        "from modiste.runs.load import load\n"
        "job = BulkJob.open(Path(sys.argv[3]), sys.argv[1:2], {}, size=7)\n"
        "job.run(load(sys.argv[2]), Shard.parse(sys.argv[4]), fetch=iter)"
    )
    arguments = [sys.executable, "-c", code, str(drawn.parent / "photos"), str(exported), str(tmp_path / "tags")]
    processes = [subprocess.Popen([*arguments, f"{k}/3"], stderr=subprocess.PIPE) for k in (1, 2, 3)]
    assert [process.communicate()[1] for process in processes] == [b"", b"", b""]
    assert tags(tmp_path / "tags")["photo"].to_list() == [
        str(path) for path in sorted((drawn.parent / "photos").iterdir())
    ]


def test_a_job_goes_on_from_another_folder(exported, photos, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "a.jpg").write_bytes(photos[0].read_bytes())
    (tmp_path / "list.csv").write_text("path\na.jpg\n")
    monkeypatch.chdir(tmp_path / "here")
    BulkJob.open(tmp_path / "tags", [str(tmp_path / "list.csv")], {}, root=".")
    monkeypatch.chdir(tmp_path / "there")
    with pytest.raises(ModisteError, match="the root that it was begun with"):
        BulkJob.open(tmp_path / "tags", [str(tmp_path / "list.csv")], {}, root=".")
    monkeypatch.chdir(tmp_path / "there")
    job = BulkJob.open(tmp_path / "tags", [str(tmp_path / "list.csv")], {}, root=str(tmp_path / "here"))
    assert job.run(load(exported), fetch=iter).failed == 0


def test_wrong_arguments_leave_no_job(exported, drawn, tmp_path):
    with pytest.raises(ModisteError, match="column 'nope'"):
        BulkJob.open(tmp_path / "tags", [str(drawn)], {}, image_column="nope")
    assert run(tmp_path / "tags", load(exported), drawn).photos == 240


def test_a_damaged_part_is_named(exported, drawn, tmp_path):
    run(tmp_path / "tags[1]", load(exported), drawn)
    run(tmp_path / "tags[1]", load(exported), drawn)
    (tmp_path / "tags[1]/part-000001.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ModisteError, match=r"part-000001\.parquet to be a part"):
        run(tmp_path / "tags[1]", load(exported), drawn)


def test_names_that_are_no_utf8_are_tagged_and_written(exported, photos, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/th\xe9"))
    folder.mkdir()
    for name, content in ((b"caf\xe9", photos[0].read_bytes()), (b"cr\xe8me", b"no photo")):
        (folder / os.fsdecode(name + b".jpg")).write_bytes(content)
    done = run(tmp_path / "tags", load(exported), folder)
    assert (done.photos, done.failed) == (2, 1)
    written = tags(tmp_path / "tags")
    assert written["photo"][0].endswith("th\ufffd/caf\ufffd.jpg")
    assert "cr\ufffdme.jpg" in written["error"][1]
    assert run(tmp_path / "tags", load(exported), folder).earlier == 2


def test_a_label_called_as_another_column_keeps_both(photos):
    labels = LabelSet.free("odd", ["error", "dress"])
    said = Prediction("a", labels, np.array([0.25, 0.75], np.float32), ("dress",))
    frame = as_frame([Tagged("a", photos[0], said)], labels)
    assert frame.to_dicts() == [{"photo": "a", "labels": ["dress"], "error": None, "prob.error": 0.25, "dress": 0.75}]


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "a/b", "-1/3", "1/0"])
def test_a_shard_is_a_number_of_a_count(text):
    with pytest.raises(ModisteError, match="NUMBER/COUNT"):
        Shard.parse(text)


def test_two_processes_at_one_shard_are_refused(exported, drawn, tmp_path):
    job = BulkJob.open(tmp_path / "tags", [str(drawn.parent / "photos")], {})

    def again(items):
        with pytest.raises(ModisteError, match=r"shard 1/1 of .* by one process"):
            job.run(load(exported), fetch=iter)
        return iter(items)

    assert job.run(load(exported), fetch=again).photos == 240


@pytest.mark.parametrize("kills", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_at_random_moments_every_photo_is_tagged_once(kills, exported, drawn, tmp_path):
    out = tmp_path / "tags"
    code = (
        "import sys; from pathlib import Path; from modiste.inference.bulk import BulkJob\n"
        "from modiste.runs.load import load\n"
        "BulkJob.open(Path(sys.argv[3]), sys.argv[1:2], {}, size=5).run(load(sys.argv[2]), fetch=iter)"
    )
    table = tmp_path / "list.jsonl"
    photos = sorted((drawn.parent / "photos").iterdir())
    table.write_text("\n".join(json.dumps({"id": str(k), "path": str(photos[k % 240])}) for k in range(1200)))
    command = [sys.executable, "-c", code, str(table), str(exported), str(out)]
    rng = random.Random(0)
    for killed in range(kills):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        before = len(list(out.glob("part-*.parquet")))
        until = time.monotonic() + 30
        while len(list(out.glob("part-*.parquet"))) == before and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        assert process.poll() is None, f"it ended before it was killed the {killed + 1}th time"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert kills <= len(list(out.glob("part-*.parquet"))) < 240
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert tags(out)["photo"].to_list() == [str(k) for k in range(1200)]
    assert len(list(out.glob("part-*.parquet"))) == 240
