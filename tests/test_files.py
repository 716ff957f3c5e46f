"""Whole or not at all, whatever goes wrong while a file is written."""

import errno
import os
import stat
import time
from pathlib import Path

import polars as pl
import pytest

from modiste.errors import RunError, StorageError
from modiste.files import new_folder, remove_unfinished, replacing, write_text

FULL = "Expected {} to be written, but got 'No space left on device'. Try freeing space or another folder."


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_file_appears_only_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "scores.csv"
    with replacing(path) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists()
        assert (temporary.parent, temporary.suffix) == (path.parent, ".csv")
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert names(path.parent) == ["scores.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file_and_nothing_else(error, tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old\n")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("new")
        raise error
    assert path.read_bytes() == b"old\n"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("fails", ["pathlib.Path.touch", "os.fsync", "pathlib.Path.replace", "pathlib.Path.write_text"])
def test_a_full_disk_at_any_step_is_one_sentence(fails, tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_text(path, "old\n")
    monkeypatch.setattr(fails, no_space)
    with pytest.raises(StorageError) as caught:
        write_text(path, "new\n")
    assert str(caught.value) == FULL.format(path)
    assert path.read_bytes() == b"old\n"
    assert names(tmp_path) == ["a.json"]


def test_a_writers_own_error_counts_where_it_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(StorageError, match=r"a\.parquet to be written, but got 'disk full'"):  # noqa: SIM117
        with replacing(path, pl.exceptions.ComputeError):
            raise pl.exceptions.ComputeError("disk full")
    with pytest.raises(RuntimeError), replacing(path, pl.exceptions.ComputeError):
        raise RuntimeError
    assert names(tmp_path) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a", "text")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_a_folder_a_device_and_a_file_in_the_way_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for name, words in (("folder", "a folder"), ("pipe", "a device"), ("file/a.csv", "Not a directory|File exists")):
        with pytest.raises(StorageError, match=words) as caught:
            write_text(tmp_path / name, "text")
        assert str(tmp_path / name) in str(caught.value)
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["file", "folder", "pipe"]


@pytest.mark.parametrize("text", ["", "a\nb\n", "连衣裙\r\n"])
def test_text_is_utf8_with_the_line_ends_it_has(text, tmp_path):
    write_text(tmp_path / "a", text)
    assert (tmp_path / "a").read_bytes() == text.encode()


def test_long_and_odd_names(tmp_path):
    for name in ("x" * 250 + ".csv", "连衣裙 *[1].csv", ".hidden"):
        write_text(tmp_path / name, name)
        assert (tmp_path / name).read_text(encoding="utf-8") == name
    assert len(names(tmp_path)) == 3


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    kept = ["a.csv", ".hidden", "writing-b"]
    for name in kept:
        (tmp_path / name).touch()
    unfinished = replacing(tmp_path / "a.csv")
    unfinished.__enter__().write_text("half")
    assert len(names(tmp_path)) == 4
    remove_unfinished(tmp_path)
    assert names(tmp_path) == sorted(kept)


def test_the_umask_of_the_process_is_never_changed(tmp_path, monkeypatch):
    """Another thread makes a file whenever the umask has been set: it must have the mode that its user wants."""
    umask, seen = os.umask, []

    def set_and_look(mask: int) -> int:
        before = umask(mask)
        os.close(os.open(tmp_path / f"other{len(seen)}", os.O_CREAT | os.O_WRONLY, 0o666))
        seen.append(stat.S_IMODE((tmp_path / f"other{len(seen)}").stat().st_mode))
        return before

    before = umask(0o077)
    try:
        monkeypatch.setattr(os, "umask", set_and_look)
        write_text(tmp_path / "a", "text")
        with new_folder(tmp_path / "run", "another -o") as temporary:
            write_text(temporary / "a", "text")
    finally:
        umask(before)
    assert set(seen) <= {0o600}
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "run", "run/a")] == [0o600, 0o700, 0o600]


def test_two_who_make_one_folder_at_once_don_t_touch_each_other_s_work(tmp_path):
    folder = tmp_path / "run"
    first, second = new_folder(folder, "another -o"), new_folder(folder, "another -o")
    ours = first.__enter__()
    (ours / "recipe.toml").write_text("first")
    theirs = second.__enter__()
    (theirs / "recipe.toml").write_text("second")
    first.__exit__(None, None, None)
    with pytest.raises(RunError, match=r"run to be a new folder, but got one that exists\. Try another -o\."):
        second.__exit__(None, None, None)
    assert (folder / "recipe.toml").read_text() == "first"
    assert names(tmp_path) == ["run"]


def test_an_empty_folder_is_filled_and_what_was_killed_long_ago_is_removed(tmp_path):
    long_ago = time.time() - 2 * 86400
    for name in (".run.new-old", ".run.new-young", ".other.new-old", "run"):
        (tmp_path / name).mkdir()
        if name.endswith("old"):
            os.utime(tmp_path / name, (long_ago, long_ago))
    with new_folder(tmp_path / "run", "another -o") as temporary:
        (temporary / "a").touch()
    assert names(tmp_path) == [".other.new-old", ".run.new-young", "run"]
    assert names(tmp_path / "run") == ["a"]
