"""Bulk tagging: every photo exactly once, however often the job is killed and however many share it."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

import modiste as package
from modiste.bulk import Job, Shard
from modiste.errors import ModisteError
from modiste.loading import load


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    package.export(trained, path)
    return path


def tags(folder):
    return pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))])


WHOLE = Shard(1, 1)


def run(folder, predictor, *arguments, shard=WHOLE, size=7):
    job = Job.open(folder, [str(a) for a in arguments], {"model": "x"}, size=size)
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


def test_photos_that_appear_later_move_nothing(exported, drawn, tmp_path):
    import shutil

    shutil.copytree(drawn.parent / "photos", tmp_path / "photos")
    run(tmp_path / "tags", load(exported), tmp_path / "photos")
    (tmp_path / "tags/part-000002.parquet").unlink()
    shutil.copy(next((tmp_path / "photos").iterdir()), tmp_path / "photos/0-first.jpg")
    run(tmp_path / "tags", load(exported), tmp_path / "photos")
    assert tags(tmp_path / "tags")["photo"].is_unique().all()
    assert len(tags(tmp_path / "tags")) == 240


@pytest.mark.parametrize("change", ["photos", "model", "table"])
def test_another_job_in_the_folder_is_refused(exported, drawn, tmp_path, change):
    table = tmp_path / "list.csv"
    table.write_text("path\n" + "\n".join(map(str, sorted((drawn.parent / "photos").iterdir())[:9])))
    Job.open(tmp_path / "tags", [str(table)], {"model": "x"})
    if change == "table":
        table.write_text(table.read_text() + "\nmore.jpg")
    with pytest.raises(ModisteError, match=r"begun with, but got another\."):
        Job.open(
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
    assert "2 photos in 1 parts" in out
    assert "broken.jpg" in err
    assert tags(tmp_path / "tags")["error"].null_count() == 1
    code, out, err = modiste("tag", photos[0], tmp_path / "broken.jpg", "-m", exported, "-o", tmp_path / "tags")
    assert code == 1  # it still is
    assert "2 of them earlier" in out


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "a/b", "-1/3", "1/0"])
def test_a_shard_is_a_number_of_a_count(text):
    with pytest.raises(ModisteError, match="NUMBER/COUNT"):
        Shard.parse(text)


def test_two_processes_at_one_shard_are_refused(exported, drawn, tmp_path):
    job = Job.open(tmp_path / "tags", [str(drawn.parent / "photos")], {})

    def again(items):
        with pytest.raises(ModisteError, match="another process at shard 1/1"):
            job.run(load(exported), fetch=iter)
        return iter(items)

    assert job.run(load(exported), fetch=again).photos == 240


def test_killed_at_random_moments_every_photo_is_tagged_once(exported, drawn, tmp_path):
    out = tmp_path / "tags"
    code = (
        "import sys; from pathlib import Path; from modiste.bulk import Job; from modiste.loading import load\n"
        "Job.open(Path(sys.argv[3]), sys.argv[1:2], {}, size=5).run(load(sys.argv[2]), fetch=iter)"
    )
    table = tmp_path / "list.jsonl"
    photos = sorted((drawn.parent / "photos").iterdir())
    table.write_text("\n".join(json.dumps({"id": str(k), "path": str(photos[k % 240])}) for k in range(1200)))
    command = [sys.executable, "-c", code, str(table), str(exported), str(out)]
    rng = random.Random(0)
    for _ in range(5):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.2, 2.5))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert tags(out)["photo"].to_list() == [str(k) for k in range(1200)]
    assert len(list(out.glob("part-*.parquet"))) == 240
