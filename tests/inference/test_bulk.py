"""Bulk tagging: every photo exactly once, however often the job is killed and however many share it."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import modiste as package
from modiste.config import ImageConfig
from modiste.decisions.calibration import Calibration
from modiste.decisions.decision import Decision
from modiste.decisions.policies import Policy
from modiste.decisions.thresholds import Thresholds
from modiste.errors import ModisteError
from modiste.inference.bulk import BulkJob, Shard
from modiste.inference.parts import read_seen, write_part
from modiste.inference.predictor import Predictor
from modiste.inference.writers import Tagged, as_frame
from modiste.labels import Group, Label, LabelSet
from modiste.prediction import NetworkOutput, Prediction
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
    labels = LabelSet.free("odd", ["error", "dress", "unsure"])
    said = Prediction("a", labels, np.array([0.25, 0.75, 0.5], np.float32), ("dress",), unsure=("dress",))
    frame = as_frame([Tagged("a", photos[0], said)], labels)
    first = {"photo": "a", "labels": ["dress"], "unsure": ["dress"], "review": True, "error": None}
    assert frame.to_dicts() == [{**first, "prob.error": 0.25, "dress": 0.75, "prob.unsure": 0.5}]


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


# The next night


def changes(folder):
    with (folder / "changes.csv").open(encoding="utf-8", newline="") as file:
        return {Path(row.pop("photo")).name: row for row in csv.DictReader(file)}


def change(what, before="", after="", error=""):
    return {"change": what, "before": before, "after": after, "error": error}


def aged(path):
    """A file whose time of change lies so far back that a later change is sure to show."""
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return path


@pytest.fixture
def shop(drawn, tmp_path):
    """Twelve photos, 00.jpg to 11.jpg."""
    (tmp_path / "shop").mkdir()
    for k, photo in enumerate(sorted((drawn.parent / "photos").iterdir())[:12]):
        aged(shutil.copy(photo, tmp_path / f"shop/{k:02}.jpg"))
    return tmp_path / "shop"


def expected(predictor, folder):
    """Tags of all photos of a folder, tagged one by one."""
    return {path.name: list(predictor.predict(path).labels) for path in sorted(folder.iterdir())}


def said(folder):
    rows = tags(folder)
    assert rows["photo"].is_unique().all()
    return {Path(photo).name: labels.to_list() for photo, labels in zip(rows["photo"], rows["labels"], strict=True)}


def test_every_night_tags_what_is_new_or_changed_and_drops_what_is_gone(exported, drawn, shop, tmp_path):
    predictor, out, more = load(exported), tmp_path / "tags", sorted((drawn.parent / "photos").iterdir())[100:]
    assert run(out, predictor, shop, size=5).changes == 12
    first = expected(predictor, shop)
    assert changes(out) == {name: change("new", "", "|".join(labels)) for name, labels in first.items()}
    untouched = (out / "part-000001.parquet").stat().st_mtime_ns
    (shop / "01.jpg").unlink()
    shutil.copy(more[0], shop / "02.jpg")
    shutil.copy(more[1], shop / "aa.jpg")
    shutil.copy(more[2], shop / "00-new.jpg")
    done = run(out, predictor, shop, size=5)
    second = expected(predictor, shop)
    assert (done.photos, done.earlier, done.changes) == (13, 10, 4)
    assert said(out) == second
    assert changes(out) == {
        "01.jpg": change("gone", "|".join(first["01.jpg"])),
        "02.jpg": change("changed photo", "|".join(first["02.jpg"]), "|".join(second["02.jpg"])),
        "aa.jpg": change("new", "", "|".join(second["aa.jpg"])),
        "00-new.jpg": change("new", "", "|".join(second["00-new.jpg"])),
    }
    assert (out / "part-000001.parquet").stat().st_mtime_ns == untouched
    assert run(out, predictor, shop, size=5).earlier == 13
    assert changes(out) == {}
    assert said(out) == second


def counting(predictor, monkeypatch):
    """How many photos are decoded."""
    seen = []
    stream = type(predictor).stream

    def watched(self, sources, **settings):
        return stream(self, (seen.append(source) or source for source in sources), **settings)

    monkeypatch.setattr(type(predictor), "stream", watched)
    return seen


def test_another_time_alone_tags_nothing_and_another_content_of_one_size_and_time_is_found(
    exported, shop, tmp_path, monkeypatch
):
    predictor, out = load(exported), tmp_path / "tags"
    just_now = time.time() + 3600  # so young that it proves nothing, however long the test takes
    for name in ("03.jpg", "04.jpg"):
        content = (shop / name).read_bytes()
        (shop / name).write_bytes(content + bytes(100_000 - len(content)))
        os.utime(shop / name, (just_now, just_now))
    run(out, predictor, shop, size=5)
    os.utime(shop / "00.jpg", (1_500_000_000, 1_500_000_000))
    (shop / "03.jpg").write_bytes((shop / "04.jpg").read_bytes())
    os.utime(shop / "03.jpg", (just_now, just_now))
    seen = counting(predictor, monkeypatch)
    run(out, predictor, shop, size=5)
    assert [path.name for path in seen] == ["03.jpg"]
    assert list(changes(out)) == ["03.jpg"]


def test_files_of_the_same_size_and_time_are_not_read_again(exported, shop, tmp_path, monkeypatch):
    run(tmp_path / "tags", load(exported), shop, size=5)
    monkeypatch.setattr("modiste.inference.update.content_key", lambda path: pytest.fail(f"{path} was read"))
    assert run(tmp_path / "tags", load(exported), shop, size=5).earlier == 12


def model_run(folder, predictor, model, *arguments):
    return BulkJob.open(folder, list(map(str, arguments)), {"model": model}, size=5).run(predictor, fetch=iter)


def test_other_thresholds_tag_everything_again_and_tell_other_labels(exported, shop, tmp_path):
    out, few, many = tmp_path / "tags", load(exported, thresholds="fixed:0.9"), load(exported, thresholds="fixed:0.1")
    model_run(out, few, "few", shop)
    assert model_run(out, many, "many", shop).earlier == 0
    before, after = expected(few, shop), expected(many, shop)
    assert said(out) == after
    differ = {name for name in after if before[name] != after[name]}
    assert differ
    assert changes(out) == {
        name: change("other labels", "|".join(before[name]), "|".join(after[name])) for name in differ
    }


def test_a_round_that_is_not_finished_refuses_another_model(exported, shop, tmp_path):
    out = tmp_path / "tags"
    model_run(out, load(exported), "a", shop)
    BulkJob.open(out, [str(shop)], {"model": "b"})
    with pytest.raises(ModisteError, match=r"the model that it was begun with, but got another.*finish it first"):
        BulkJob.open(out, [str(shop)], {"model": "a"})


def test_killed_before_any_file_of_the_second_night_nothing_is_lost(exported, drawn, shop, tmp_path, monkeypatch):
    predictor, first = load(exported), tmp_path / "first"
    run(first, predictor, shop, size=3)
    more = sorted((drawn.parent / "photos").iterdir())[100:]
    (shop / "00.jpg").unlink()
    for k, name in enumerate(("03.jpg", "07.jpg", "x1.jpg", "x2.jpg")):
        shutil.copy(more[k], shop / name)
    after, rename = expected(predictor, shop), Path.replace
    told = {"00.jpg": "gone", "03.jpg": "changed photo", "07.jpg": "changed photo", "x1.jpg": "new", "x2.jpg": "new"}
    for files in range(20):
        out, left = shutil.copytree(first, tmp_path / f"killed-{files}"), [files]

        def dying(path, target, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return rename(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", dying)
            with suppress(KeyboardInterrupt):
                run(out, predictor, shop, size=3)
        if left[0] >= 0:
            break
        assert {"01.jpg", "04.jpg", "11.jpg"} <= set(said(out))
        run(out, predictor, shop, size=3)
        assert said(out) == after
        assert {name: row["change"] for name, row in changes(out).items()} == told
    assert 6 <= files < 19  # the plan, job.json, four parts, changes.csv and job.json again


def test_shards_share_a_night_and_the_last_one_tells(exported, drawn, shop, tmp_path):
    predictor, out, more = load(exported), tmp_path / "tags", sorted((drawn.parent / "photos").iterdir())[100:]
    for night in range(3):
        told = [run(out, predictor, shop, size=2, shard=Shard(k, 3)).changes for k in (2, 1, 3)]
        assert told == [None, None, (12, 1, 0)[night]]
        assert said(out) == expected(predictor, shop)
        if night == 0:
            shutil.copy(more[0], shop / "new.jpg")


def test_a_killed_first_night_and_the_photos_that_came_since(exported, shop, tmp_path, monkeypatch, modiste):
    from modiste.inference import bulk

    def dying(*_):
        raise KeyboardInterrupt

    out = tmp_path / "tags"
    with monkeypatch.context() as patch:
        patch.setattr(bulk, "write_part", dying)
        assert modiste("tag", shop, "-m", exported, "-o", out)[0] == 130
    shutil.copy(shop / "00.jpg", shop / "since.jpg")
    code, text, err = modiste("tag", shop, "-m", exported, "-o", out)
    assert code == 0, err
    assert "13 photos in 1 part, 0 of them earlier" in text
    assert "13 changes since the last time" in text
    assert said(out) == expected(load(exported), shop)
    assert {row["change"] for row in changes(out).values()} == {"new"}


def test_a_folder_of_an_earlier_version_is_taken_over(exported, shop, tmp_path):
    predictor, out = load(exported), tmp_path / "tags"
    run(out, predictor, shop, size=5)
    for part in out.glob("part-*"):  # as that version wrote them, without metadata
        pl.read_parquet(part).write_parquet(part)
    job = json.loads((out / "job.json").read_text())
    for key in ("round", "finished", "shards", "since", "unseen"):
        del job[key]
    (out / "job.json").write_text(json.dumps(job))
    (out / "changes.csv").unlink()
    (shop / "00.jpg").unlink()
    shutil.copy(shop / "01.jpg", shop / "new.jpg")
    assert run(out, predictor, shop, size=5).earlier == 12  # its round is finished
    done = run(out, predictor, shop, size=5)
    assert (done.photos, done.earlier) == (12, 0)
    assert said(out) == expected(predictor, shop)
    assert {name: row["change"] for name, row in changes(out).items()} == {"00.jpg": "gone", "new.jpg": "new"}
    assert run(out, predictor, shop, size=5).earlier == 12


def test_tables_that_changed_are_compared_row_by_row(exported, shop, tmp_path):
    predictor, out, table = load(exported), tmp_path / "tags", tmp_path / "list.parquet"
    content = {path.stem: path.read_bytes() for path in sorted(shop.iterdir())}

    def write(rows):
        pl.DataFrame({"id": list(rows), "bytes": list(rows.values())}).write_parquet(table, row_group_size=3)

    write(content)
    run(out, predictor, table, size=5)
    changed = {name: data for name, data in content.items() if name != "04"}
    changed["02"] = content["09"]
    write({"first": content["00"], **changed, "last": content["11"]})
    done = run(out, predictor, table, size=5)
    rows = tags(out)
    assert done.earlier == 10
    assert sorted(rows["photo"]) == sorted([*changed, "first", "last"])
    labels = dict(zip(rows["photo"], rows["labels"].to_list(), strict=True))
    assert labels["last"] == labels["11"] and labels["02"] == labels["09"] and labels["first"] == labels["00"]
    assert {name: row["change"] for name, row in changes(out).items()} == {
        "04": "gone",
        "02": "changed photo",
        "first": "new",
        "last": "new",
    }


def test_a_photo_that_could_not_be_read_is_tried_again_once_it_can(exported, shop, tmp_path):
    out, table = tmp_path / "tags", tmp_path / "list.csv"
    table.write_text("id,path\na,shop/00.jpg\nb,shop/later.jpg\n")
    assert run(out, load(exported), table).failed == 1
    shutil.copy(shop / "01.jpg", shop / "later.jpg")
    assert run(out, load(exported), table).failed == 0
    assert {name: (row["change"], row["before"]) for name, row in changes(out).items()} == {"b": ("other labels", "")}


def test_a_folder_that_lost_all_its_photos_is_refused_and_loses_no_tags(exported, shop, tmp_path):
    run(tmp_path / "tags", load(exported), shop)
    before = said(tmp_path / "tags")
    for path in shop.iterdir():
        path.unlink()
    with pytest.raises(ModisteError, match=r"photos in folder .*, but got none"):
        run(tmp_path / "tags", load(exported), shop)
    assert said(tmp_path / "tags") == before


@pytest.mark.parametrize("how", ["folder", "table", "empty table"])
def test_a_night_on_which_all_photos_are_away_is_refused_and_their_tags_stay(how, exported, photos, tmp_path, modiste):
    shop = tmp_path / "disk" / "shop"
    shop.mkdir(parents=True)
    names = [shutil.copy(photo, shop / f"{k}.jpg").name for k, photo in enumerate(photos[:3])]
    table, out = tmp_path / "t.csv", tmp_path / "tags"
    table.write_text("image\n" + "".join(f"disk/shop/{name}\n" for name in names))
    asked = shop if how == "folder" else table
    assert modiste("tag", asked, "-m", exported, "-o", out)[0] == 0
    before = pl.read_parquet(next(out.glob("part-*.parquet")), glob=False)
    if how == "empty table":
        table.write_text("image\n")
    else:
        (tmp_path / "disk").rename(tmp_path / "away")
    code, _, err = modiste("tag", asked, "-m", exported, "-o", out)
    told = "t.csv to list photos, but got no rows" if how == "empty table" else "last time, but got none of 3"
    assert code == 2 and told in err
    assert pl.read_parquet(next(out.glob("part-*.parquet")), glob=False).equals(before)
    if how == "empty table":
        table.write_text("image\n" + "".join(f"disk/shop/{name}\n" for name in names))
    else:
        (tmp_path / "away").rename(tmp_path / "disk")
    assert modiste("tag", asked, "-m", exported, "-o", out)[0] == 0
    assert pl.read_parquet(next(out.glob("part-*.parquet")), glob=False).equals(before)


def test_rows_that_an_earlier_version_tagged_once_a_row_become_one_and_nothing_is_gone(exported, shop, tmp_path):
    predictor, out, table = load(exported), tmp_path / "tags", tmp_path / "long.csv"
    rows = [("00", "x"), ("01", "x"), ("00", "y"), ("02", "x"), ("01", "y")]
    table.write_text("image,label\n" + "".join(f"shop/{name}.jpg,{label}\n" for name, label in rows))
    run(out, predictor, table)
    part = out / "part-000000.parquet"
    again = [0, 1, 0, 2, 1]  # as that version wrote it: a row a row of the table
    write_part(part, pl.read_parquet(part)[again], read_seen(part)[again], 1)
    done = run(out, predictor, table)
    assert (done.photos, done.earlier, done.changes) == (3, 3, 0)
    assert said(out) == {path: labels for path, labels in expected(predictor, shop).items() if path < "03.jpg"}
    table.write_text("image,label\nshop/00.jpg,x\nshop/00.jpg,y\nshop/02.jpg,x\n")
    run(out, predictor, table)
    assert {name: row["change"] for name, row in changes(out).items()} == {"01.jpg": "gone"}


# Parts of an earlier modiste


GARMENT = LabelSet(
    "wear",
    (
        Group("garment", (Label("dress"), Label("unsure")), exclusive=True),  # one is called like a column
        Group("style", (Label("casual"), Label("street"))),
    ),
)


def hesitant():
    """Says what the mean colour of a photo is, of red and green the higher one where it is above 0.5."""

    def forward(photos, *, maps):
        probs = photos.mean(axis=(1, 2), dtype=np.float32)[:, [0, 1, 2, 2]] / 255
        return NetworkOutput(probs, probs, None)

    thresholds = Thresholds(np.array([0, 0, 0.3, 0.7]), "by hand").with_groups({"garment": 0.5}, GARMENT)
    decision = Decision(Policy.parse("fbeta:2"), thresholds, Calibration.none(4))
    return Predictor(forward, GARMENT, ImageConfig(size=16), decision)


def age_layout(folder):
    """Parts as they were before they said what is unsure."""
    for path in folder.glob("part-*.parquet"):
        metadata = pl.read_parquet_metadata(path)["modiste"]
        frame = pl.read_parquet(path).drop("unsure", "review").rename({"prob.unsure": "unsure"})
        frame.write_parquet(path, metadata={"modiste": metadata})


@pytest.fixture
def colours(tmp_path):
    """Photos of one colour each, and one that can't be read."""
    folder = tmp_path / "colours"
    folder.mkdir()
    for k, colour in enumerate([(200, 10, 60), (100, 90, 100), (10, 220, 150), (90, 100, 250), (250, 0, 10)]):
        Image.new("RGB", (8, 8), colour).save(folder / f"{k}.png")
        aged(folder / f"{k}.png")
    aged(shutil.copy(__file__, folder / "5.png"))
    return folder


def test_tags_say_what_is_unsure(colours):
    seen = [(one.labels, one.unsure, one.review) for one in hesitant().stream(sorted(colours.iterdir()))]
    assert seen == [
        (("dress",), (), False),
        (("casual",), ("garment", "casual"), True),  # 0.39: above 0.3, and rather not
        (("unsure", "casual"), ("street",), True),  # 0.59: below 0.7, and rather so
        (("casual", "street"), ("garment",), True),
        (("dress",), (), False),
        ((), (), True),
    ]


@pytest.mark.parametrize("round_", [1, 2])
def test_parts_of_an_earlier_modiste_get_the_columns_they_lack(round_, colours, tmp_path):
    out, predictor = tmp_path / "tags", hesitant()
    for _ in range(round_):
        run(out, predictor, colours, size=2)
    whole = tags(out)
    age_layout(out)
    Image.new("RGB", (8, 8), (0, 240, 0)).save(colours / "0.png")
    done = run(out, predictor, colours, size=2)
    assert (done.photos, done.earlier, done.changes) == (6, 5, 1)  # nothing else is tagged again
    scanned = pl.scan_parquet(out / "part-*.parquet").collect()
    assert scanned[1:].equals(whole[1:])
    assert scanned["labels"][0].to_list() == ["unsure"]
    before = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    run(out, predictor, colours, size=2)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


def test_a_job_that_an_earlier_modiste_left_unfinished_becomes_of_one_layout(colours, tmp_path):
    out, predictor = tmp_path / "tags", hesitant()
    run(out, predictor, colours, shard=Shard(1, 2), size=2)
    age_layout(out)
    run(out, predictor, colours, shard=Shard(2, 2), size=2)
    run(out, predictor, colours, shard=Shard(1, 2), size=2)
    rows = pl.scan_parquet(out / "part-*.parquet").collect()
    assert rows.columns == ["photo", "labels", "unsure", "review", "error", "dress", "prob.unsure", "casual", "street"]
    assert rows["review"].to_list() == [one.review for one in predictor.stream(sorted(colours.iterdir()))]


def test_parts_of_another_model_of_an_earlier_modiste_are_tagged_again(exported, colours, tmp_path):
    out = tmp_path / "tags"
    run(out, hesitant(), colours, size=2)
    age_layout(out)
    job = BulkJob.open(out, [str(colours)], {"model": "another"})
    assert job.run(load(exported), fetch=iter).earlier == 0
    rows = pl.scan_parquet(out / "part-*.parquet").collect()
    assert rows.columns == ["photo", "labels", "unsure", "review", "error", *load(exported).label_set.ids]
