"""The folder of what is computed once: where it is, how large it grows, what goes first."""

import io
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from modiste.errors import PhotoError, StorageError, UsageError
from modiste.storage import cache
from modiste.storage.cache import (
    Entry,
    budget,
    cache_folder,
    content_keys,
    create_entry,
    entries,
    entry_folder,
    make_room,
    prune,
)

MB, DAY = 10**6, 86400


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """An empty cache of 10 MB."""
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MODISTE_CACHE_GB", "0.01")
    return tmp_path / "cache"


def keep(name, megabytes, hours_ago, **facts):
    """An entry of a size that was last used some hours ago."""
    folder = entry_folder(name, facts)
    create_entry(folder, facts)
    written = (folder / "entry.json").stat().st_size
    (folder / "view000-0.rows").write_bytes(bytes(int(megabytes * MB) - written))
    then = time.time() - hours_ago * 3600
    os.utime(folder / "entry.json", (then, then))
    return folder


def names():
    """Of the entries, the last used first, without their keys."""
    return [entry.folder.name.split("-")[0] for entry in entries()]


def sentence(raised):
    words = str(raised.value)
    assert words.startswith("Expected ") and ", but got " in words and ". Try " in words
    return words


def test_where_it_lies(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("MODISTE_CACHE", "")
    assert cache_folder() == tmp_path / "xdg/modiste"
    monkeypatch.delenv("MODISTE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/modiste"


def test_how_large_it_may_grow(monkeypatch):
    for words, expected in (("50", 50 * 10**9), ("0.5", 5 * 10**8), ("1e3", 10**12), ("0", 0), ("-3", 0)):
        monkeypatch.setenv("MODISTE_CACHE_GB", words)
        assert budget() == expected


def test_half_of_what_is_free_or_kept_where_nobody_says(monkeypatch):
    monkeypatch.delenv("MODISTE_CACHE_GB")
    usage = shutil.disk_usage("/")._replace(free=100 * MB)
    asked = []
    monkeypatch.setattr("shutil.disk_usage", lambda folder: asked.append(folder) or usage)
    assert budget() == 50 * MB
    assert Path(asked[-1]) == cache_folder().parent  # of a folder that is not there yet, the disk that it will be on
    keep("photos", 20, 1)
    assert budget() == 60 * MB
    assert Path(asked[-1]) == cache_folder()


@pytest.mark.parametrize("words", ["many", "50GB", "", "nan", "inf", "5,5"])
def test_what_is_no_number_is_refused(words, monkeypatch, modiste):
    monkeypatch.setenv("MODISTE_CACHE_GB", words)
    with pytest.raises(UsageError) as raised:
        budget()
    assert f"MODISTE_CACHE_GB to be a number, but got '{words}'" in sentence(raised)
    code, out, err = modiste("cache", "ls")
    assert (code, out) == (2, "")
    assert err == f"modiste: {raised.value}\n"


def test_entries_differ_by_what_they_depend_on():
    facts = {"size": 32, "augment": {"flip": 0.5, "rotate": 15.0}, "shapes": [[8, 2, 2]]}
    same = json.loads(json.dumps({key: facts[key] for key in reversed(facts)}))
    assert entry_folder("features", facts) == entry_folder("features", same)
    changed = [{**facts, "size": 33}, {**facts, "augment": {"flip": 0.5, "rotate": 15.1}}, {**facts, "shapes": []}]
    folders = {entry_folder("features", one) for one in (facts, *changed)} | {entry_folder("pixels", facts)}
    assert len(folders) == 5
    assert {folder.parent for folder in folders} == {cache_folder()}


def test_an_entry_says_what_it_holds():
    keep("one", 1, 3, size=32)
    keep("two", 2, 0.1, backbone="test_byobnet", unlock=2, size=64, augment={"flip": 0.5})
    keep("three", 3, 96, backbone="resnet18", unlock="none", size=64)
    found = entries()
    assert [entry.bytes for entry in found] == [2 * MB, 1 * MB, 3 * MB]
    assert [entry.words for entry in found] == [
        "test_byobnet, unlock 2, 64 px, augmented views", "photos, 32 px", "resnet18, unlock none, 64 px, plain views",
    ]  # fmt: skip
    assert [entry.age for entry in found] == ["in the last hour", "3 h ago", "4 days ago"]
    assert [entry.in_use for entry in found] == [True, False, False]
    assert found[0].facts["augment"] == {"flip": 0.5}


def test_beginning_again_notes_the_use_and_keeps_the_content():
    folder = keep("photos", 1, 5, size=32)
    assert not entries()[0].in_use
    create_entry(folder, {"size": 32})
    assert entries()[0].in_use
    assert entries()[0].bytes == 1 * MB


def test_least_recently_used_goes_first():
    for name, megabytes, hours in (("b", 2, 20), ("d", 4, 40), ("a", 1, 10), ("c", 3, 30)):
        keep(name, megabytes, hours)
    assert names() == ["a", "b", "c", "d"]
    removed, kept = prune(6 * MB)
    assert [entry.folder.name[0] for entry in removed] == ["d"]
    assert [entry.folder.name[0] for entry in kept] == names() == ["a", "b", "c"]
    assert not removed[0].folder.exists()
    prune(5 * MB)
    assert names() == ["a", "b"]
    prune(0)
    assert names() == []
    assert list(cache_folder().iterdir()) == []


def test_entries_in_use_stay():
    keep("old", 1, 5)
    keep("running", 4, 0.1)
    removed, kept = prune(0)
    assert [entry.folder.name[:3] for entry in removed] == ["old"]
    assert [entry.folder.name[:3] for entry in kept] == ["run"]


def test_pruning_by_days():
    for name, days in (("a", 1), ("b", 29), ("c", 31)):
        keep(name, 1, days * 24)
    prune(0, 30 * DAY)
    assert names() == ["a", "b"]
    prune(2 * MB, 10 * DAY)
    assert names() == ["a", "b"]
    prune(1 * MB, 10 * DAY)
    assert names() == ["a"]


def test_make_room_removes_just_enough():
    for name, hours in (("a", 1), ("b", 2), ("c", 3)):
        keep(name, 3, hours)
    assert make_room(1 * MB)
    assert names() == ["a", "b", "c"]
    assert make_room(2 * MB)
    assert names() == ["a", "b"]
    assert make_room(10 * MB)
    assert names() == []


def test_make_room_refuses_without_removing_anything():
    keep("old", 3, 5)
    keep("running", 3, 0)
    assert not make_room(8 * MB)  # 3 + 8 > 10, whatever goes
    assert names() == ["running", "old"]
    assert make_room(7 * MB)
    assert names() == ["running"]


def test_what_is_kept_already_needs_no_room(monkeypatch):
    keep("running", 5, 0)
    monkeypatch.setenv("MODISTE_CACHE_GB", "0.001")
    assert make_room(0)
    assert names() == ["running"]


@pytest.mark.parametrize("broken", ["", "{", "\xff\xfe", "5", "[1]", "null", '"ab"'])
def test_what_has_no_readable_facts_is_no_entry(broken):
    keep("whole", 1, 1)
    folder = keep("broken", 1, 1)
    (folder / "entry.json").write_bytes(broken.encode("latin-1"))
    (cache_folder() / "file").write_text("no folder")
    (cache_folder() / "strange").mkdir()
    assert names() == ["whole"]


def test_a_half_removed_entry_is_removed_some_day():
    folder = keep("old", 1, 500)
    (folder / "entry.json").unlink()  # as cache._remove begins
    os.utime(folder, (0, 0))
    prune(0)
    assert not folder.exists()


def test_a_folder_that_can_not_be_made_is_named(here):
    here.write_text("a file")
    with pytest.raises(StorageError) as raised:
        create_entry(entry_folder("features", {}), {})
    assert str(here) in sentence(raised)
    assert entries() == []


def test_keys_are_of_content(tmp_path):
    contents = [b"one", b"two", b"one", b"", b"one "]
    paths = [tmp_path / str(k) for k in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    told = []
    found = content_keys(paths, lambda *progress: told.append(progress))
    assert found.dtype == np.uint64
    assert found[0] == found[2]
    assert len(set(found.tolist())) == 4
    assert told == [(k, 5) for k in range(1, 6)]
    assert content_keys([str(path) for path in reversed(paths)]).tolist() == found[::-1].tolist()
    assert content_keys([]).shape == (0,)


def test_a_photo_that_can_not_be_read_is_named(tmp_path):
    (tmp_path / "there").write_bytes(b"photo")
    for bad in (tmp_path / "no.jpg", tmp_path):
        with pytest.raises(PhotoError) as raised:
            content_keys([tmp_path / "there", bad, tmp_path / "there"])
        assert f"'{bad}'" in sentence(raised)


def test_ls_lists_what_is_kept_the_last_used_first(modiste, here):
    keep("pixels", 2, 50, size=32)
    keep("features", 1.5, 0, backbone="test_byobnet", unlock=2, size=64, augment={})
    code, out, err = modiste("cache", "ls")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"{here}: 0.00 of at most 0.0 GB"
    assert "photos, 32 px" in out and "2.0" in out and "2 days ago" in out.replace("\n", " ")
    assert out.index("features-") < out.index("pixels-")
    code, out, err = modiste("cache", "ls", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert {key: told[key] for key in ("folder", "bytes", "budget")} == {
        "folder": str(here), "bytes": int(3.5 * MB), "budget": 10 * MB,
    }  # fmt: skip
    assert [Path(one["folder"]).parent for one in told["entries"]] == [here, here]
    assert [(one["bytes"], one["facts"]["size"]) for one in told["entries"]] == [(int(1.5 * MB), 64), (2 * MB, 32)]
    assert abs(told["entries"][0]["used"] - time.time()) < 60


def test_ls_of_nothing(modiste, here):
    code, out, _ = modiste("cache", "ls", "--json")
    assert (code, json.loads(out)) == (0, {"folder": str(here), "bytes": 0, "budget": 10 * MB, "entries": []})
    assert modiste("cache", "ls")[0] == 0
    assert not here.exists()


EMPTY = "modiste cache prune --to-gb 0 --yes"


def test_prune_with_yes_removes_all_but_what_is_in_use(modiste, here):
    keep("a", 1, 0)
    keep("b", 2, 5)
    code, out, err = modiste(*EMPTY.split()[1:])
    assert (code, err) == (0, "")
    assert out == f"1 entry, 2.0 MB, removed from {here}; 1 in use stays\n"
    assert names() == ["a"]


@pytest.mark.parametrize("options", [(), ("--to-gb", "0"), ("--json",)])
def test_prune_without_a_limit_shows_what_would_go_and_removes_nothing(options, modiste):
    keep("a", 1, 5, size=32)
    keep("b", 2, 5, size=64)
    code, out, err = modiste("cache", "prune", *options)
    assert code == 2
    assert err.count("\n") == 1 and f"Try {EMPTY}." in err
    assert ("would be removed: 2 entries, 3.0 MB" in out and "photos, 64 px" in out) == (options != ("--json",))
    assert sorted(names()) == ["a", "b"]
    assert modiste(*EMPTY.split()[1:])[0] == 0  # the advice works
    assert names() == []


def test_prune_of_nothing_asks_nobody(modiste, here):
    keep("a", 1, 0)
    assert modiste("cache", "prune") == (0, f"0 entries, 0.0 MB, removed from {here}; 1 in use stays\n", "")


@pytest.mark.parametrize(("answer", "left"), [("y\n", []), ("n\n", ["a"]), ("\n", ["a"])])
def test_prune_asks_a_person(answer, left, modiste, monkeypatch):
    class Person(io.StringIO):
        def isatty(self) -> bool:
            return True

    keep("a", 1, 5)
    monkeypatch.setattr("sys.stdin", Person(answer))
    code, out, err = modiste("cache", "prune")
    assert "would be removed: 1 entry, 1.0 MB" in out
    assert "Remove 1 entry, 1.0 MB? [y/N]" in err
    assert (code, names()) == (1 if left else 0, left)


def test_a_linked_entry_is_neither_counted_nor_removed(here, tmp_path):
    linked = keep("elsewhere", 3, 5)
    moved = linked.rename(tmp_path / "moved")
    linked.symlink_to(moved)
    dangling = linked.with_name(f"gone-{'0' * 16}")
    dangling.symlink_to(tmp_path / "gone")
    keep("own", 1, 5)
    (entries()[0].folder / "link").symlink_to(tmp_path / "gone")  # in an entry of ours: removed with it
    assert names() == ["own"]
    prune(0)
    assert names() == []
    assert sorted(path.name for path in moved.iterdir()) == ["entry.json", "view000-0.rows"]
    assert linked.is_symlink() and dangling.is_symlink()


def test_prune_to_a_size_and_by_days(modiste, here):
    for name, days in (("a", 1), ("b", 20), ("c", 40)):
        keep(name, 2, days * 24)
    assert json.loads(modiste("cache", "prune", "--unused-days", 60, "--json")[1])["removed"] == []
    code, out, _ = modiste("cache", "prune", "--to-gb", 0.005, "--json")
    told = json.loads(out)
    assert (code, told["folder"], told["freed"]) == (0, str(here), 2 * MB)
    assert [name[0] for name in told["removed"]] == ["c"]
    assert json.loads(modiste("cache", "prune", "--unused-days", 10, "--json")[1])["freed"] == 2 * MB
    assert names() == ["a"]


@pytest.mark.parametrize("option", [("--to-gb", "-1"), ("--to-gb", "few"), ("--unused-days", "-1")])
def test_prune_refuses_what_is_no_size(option, modiste):
    keep("a", 1, 5)
    code, out, err = modiste("cache", "prune", *option)
    assert (code, out) == (2, "")
    assert option[0] in err and "Traceback" not in err
    assert names() == ["a"]


def test_prune_to_any_size_at_all(modiste):
    keep("a", 1, 5)
    assert modiste("cache", "prune", "--to-gb", "inf")[0] in (0, 2)


def test_an_entry_used_in_the_future_is_in_use():
    assert Entry(cache_folder(), {}, 0, time.time() + 5).in_use
    assert cache.IN_USE_SECONDS == 600  # docs: ten minutes


def test_what_somebody_works_with_is_in_use_at_most_a_minute_later(monkeypatch):
    folders = [keep(name, 1, 5) for name in ("a", "b", "c")]
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    held = cache.InUse(folders[:1])
    held.hold(folders[1:])

    def used():
        held.touch()
        return {entry.folder.name[0] for entry in entries() if entry.in_use}

    assert used() == {"b", "c"}
    for folder in folders:
        os.utime(folder / "entry.json", (0, 0))
    now[0] += cache.TOUCH_SECONDS - 1
    assert used() == set()  # a step costs no write
    now[0] += 1
    shutil.rmtree(folders[1])
    assert used() == {"c"}
