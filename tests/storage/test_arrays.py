"""Arrays by key in files that only grow: round trip, kills at any byte, several writers."""

import os
import pickle
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modiste.errors import StorageError
from modiste.storage import arrays
from modiste.storage.arrays import Share, missing, open_arrays, writing

SHAPES = [(), (1,), (7,), (3, 5), (2, 3, 4), (1, 1, 9), (8, 1, 1)]
RECORD = 32  # bytes of a record in .keys
FLOAT16, UINT8 = np.dtype(np.float16), np.dtype(np.uint8)


def keys_of(*numbers):
    return np.array(numbers, np.uint64)


def array_of(key, shape, dtype=FLOAT16):
    """What stands for a key: the same whoever asks."""
    return np.random.default_rng(key).integers(0, 200, shape).astype(dtype)


def write(folder, numbers, *, writer=0, shape=(5,), dtype=FLOAT16, name="some"):
    with writing(folder, name, writer, dtype) as file:
        for key in numbers:
            file.add(key, array_of(key, shape, dtype))


def assert_holds(folder, numbers, *, shape=(5,), dtype=FLOAT16):
    kept = open_arrays(folder, "some", dtype, keys_of(*numbers))
    assert len(kept) == len(numbers)
    for k, key in enumerate(numbers):
        assert np.array_equal(kept[k].reshape(shape), array_of(key, shape, dtype)), key


@pytest.mark.parametrize("dtype", [FLOAT16, UINT8, np.dtype(np.float64)])
def test_arrays_come_back_by_key_in_any_order(dtype, tmp_path):
    arrays = {key: array_of(key, shape, dtype) for key, shape in enumerate(SHAPES, 2**63)}
    with writing(tmp_path, "some", 0, dtype) as file:
        for key, array in arrays.items():
            file.add(key, array)
    order = [*reversed(arrays), *arrays]
    kept = open_arrays(tmp_path, "some", dtype, keys_of(*order))
    for k, key in enumerate(order):
        assert kept[k].dtype == dtype
        assert kept[k].shape == (1, 1, 1, *arrays[key].shape)[-3:]
        assert np.array_equal(kept[k].reshape(arrays[key].shape), arrays[key])


def test_a_strided_view_is_kept_as_it_looks(tmp_path):
    whole = array_of(1, (6, 8))
    with writing(tmp_path, "some", 0, FLOAT16) as file:
        file.add(1, whole[::2, ::-1].T)
    assert np.array_equal(open_arrays(tmp_path, "some", FLOAT16, keys_of(1))[0][0], whole[::2, ::-1].T)


def test_take_copies_several(tmp_path):
    write(tmp_path, range(10), shape=(2, 3))
    kept = open_arrays(tmp_path, "some", FLOAT16, keys_of(*range(10)))
    taken = kept.take([7, 0, 7])
    assert np.array_equal(taken, np.stack([array_of(key, (2, 3)).reshape(-1) for key in (7, 0, 7)]))
    taken[:] = 0  # a copy, and the file can't be written through a row either
    with pytest.raises(ValueError, match="read-only"):
        kept[0][:] = 0
    assert_holds(tmp_path, range(10), shape=(2, 3))


def test_writers_and_names_keep_apart_and_are_read_together(tmp_path):
    for writer in (0, 2, 10):
        write(tmp_path, range(writer, writer + 2), writer=writer)
    write(tmp_path, [77], name="other")
    assert_holds(tmp_path, [11, 0, 3, 10, 2, 1])
    assert missing(tmp_path, "some", FLOAT16, keys_of(77)).tolist() == [0]


def test_missing_names_each_key_once_where_it_stands_first(tmp_path):
    asked = keys_of(5, 9, 5, 1, 9, 3, 3)
    assert missing(tmp_path / "nowhere", "some", FLOAT16, asked).tolist() == [0, 1, 3, 5]
    write(tmp_path, [9, 3])
    assert missing(tmp_path, "some", FLOAT16, asked).tolist() == [0, 3]
    write(tmp_path, [5, 1], writer=1)
    assert missing(tmp_path, "some", FLOAT16, asked).tolist() == []


@pytest.mark.parametrize("written", [(), (1, 2, 4)])
def test_a_key_that_was_never_written_is_named(written, tmp_path):
    write(tmp_path, written)
    with pytest.raises(KeyError, match="3"):
        open_arrays(tmp_path, "some", FLOAT16, keys_of(*written, 3))


def test_what_is_appended_later_stands_behind_what_was_there(tmp_path):
    for key in range(5):
        write(tmp_path, [key], shape=(key + 1,))
    for key in range(5):
        assert_holds(tmp_path, [key], shape=(key + 1,))


def test_what_was_not_flushed_when_something_fails_does_not_count(tmp_path, monkeypatch):
    def write_and_fail(first):
        with writing(tmp_path, "some", 0, FLOAT16) as file:
            for key in range(first, first + 3):
                file.add(key, array_of(key, (5,)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail(0)
    assert len(missing(tmp_path, "some", FLOAT16, keys_of(0, 1, 2))) == 3
    monkeypatch.setattr(arrays, "_FLUSH_BYTES", 15)  # two arrays are more
    with pytest.raises(ZeroDivisionError):
        write_and_fail(3)
    assert missing(tmp_path, "some", FLOAT16, keys_of(3, 4, 5)).tolist() == [2]
    write(tmp_path, range(6, 9))
    assert_holds(tmp_path, [8, 3, 4, 6, 7])


def test_a_slow_writer_flushes_every_few_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "_FLUSH_SECONDS", 0.05)
    with writing(tmp_path, "some", 0, FLOAT16) as file:
        file.add(1, array_of(1, (5,)))
        time.sleep(0.06)
        file.add(2, array_of(2, (5,)))
        assert_holds(tmp_path, [1, 2])


def counted(folder, numbers):
    """How many of the arrays are there; what is there must be whole and the first ones."""
    lost = missing(folder, "some", FLOAT16, keys_of(*numbers))
    there = len(numbers) - len(lost)
    assert lost.tolist() == list(range(there, len(numbers)))
    return there


def test_records_cut_at_any_byte(tmp_path):
    write(tmp_path, range(4))
    path = tmp_path / "some-0.keys"
    content = path.read_bytes()
    assert len(content) == 4 * RECORD
    for size in range(len(content), -1, -1):
        path.write_bytes(content[:size])
        assert counted(tmp_path, range(4)) == size // RECORD
        assert_holds(tmp_path, range(size // RECORD))


def test_numbers_cut_at_any_whole_number_and_appended_to(tmp_path):
    for size in range(0, 4 * 10 + 1, 2):
        folder = tmp_path / str(size)
        write(folder, range(4))
        os.truncate(folder / "some-0.rows", size)
        assert counted(folder, range(4)) == size // 10
        assert_holds(folder, range(size // 10))
        write(folder, range(size // 10, 6))
        assert_holds(folder, range(6))


def test_numbers_cut_inside_a_number_are_read_as_far_as_they_go(tmp_path):
    write(tmp_path, range(4))
    os.truncate(tmp_path / "some-0.rows", 31)  # three arrays of ten bytes, and half a number
    assert counted(tmp_path, range(4)) == 3
    assert_holds(tmp_path, range(3))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_kill_anywhere_costs_only_the_end(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("killed")
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    with writing(folder, "some", 0, UINT8) as file:
        for key, size in enumerate(sizes):
            file.add(key, array_of(key, (size,), UINT8))
    for suffix in (".rows", ".keys"):
        path = folder / f"some-0{suffix}"
        os.truncate(path, data.draw(st.integers(0, path.stat().st_size), suffix))
    keys = keys_of(*range(len(sizes)))
    lost = missing(folder, "some", UINT8, keys).tolist()
    there = len(keys) - len(lost)
    assert lost == list(range(there, len(keys)))
    with writing(folder, "some", 0, UINT8) as file:
        for key in lost:
            file.add(key, array_of(key, (sizes[key],), UINT8))
    kept = open_arrays(folder, "some", UINT8, keys)
    for key, size in enumerate(sizes):
        assert np.array_equal(kept[key].reshape(-1), array_of(key, (size,), UINT8))


def test_garbage_behind_the_last_record_is_written_over(tmp_path):
    write(tmp_path, range(3))
    for suffix in ("rows", "keys"):
        with (tmp_path / f"some-0.{suffix}").open("ab") as file:
            file.write(b"\xff" * 22)
    assert_holds(tmp_path, range(3))
    write(tmp_path, range(3, 5))
    assert_holds(tmp_path, range(5))
    assert (tmp_path / "some-0.rows").stat().st_size == 5 * 10


def test_a_second_thread_waits_for_the_first(tmp_path):
    inside, seen = threading.Event(), []

    def append():
        inside.wait()
        write(tmp_path, [2])
        seen.append("second")

    second = threading.Thread(target=append)
    second.start()
    with writing(tmp_path, "some", 0, FLOAT16) as file:
        file.add(1, array_of(1, (5,)))
        inside.set()
        time.sleep(0.3)
        seen.append("first")
    second.join()
    assert seen == ["first", "second"]
    assert_holds(tmp_path, [1, 2])


APPEND = """
import sys, time, numpy as np
from pathlib import Path
from modiste.storage.arrays import writing
first = int(sys.argv[2])
for key in range(first, first + 20):
    with writing(Path(sys.argv[1]), "some", 0, np.dtype(np.float16)) as file:
        file.add(key, np.random.default_rng(key).integers(0, 200, 5).astype(np.float16))
"""


def test_two_processes_append_to_one_file_in_turn(tmp_path):
    started = [subprocess.Popen([sys.executable, "-c", APPEND, str(tmp_path), str(k * 20)]) for k in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    assert_holds(tmp_path, range(40))


def test_a_writer_that_begins_while_others_read(tmp_path, monkeypatch):
    write(tmp_path, range(3), writer=1)
    find = arrays._find

    def meanwhile(*arguments):
        write(tmp_path, [9], writer=0)
        return find(*arguments)

    monkeypatch.setattr(arrays, "_find", meanwhile)
    assert_holds(tmp_path, range(3))


def test_reading_maps_the_file_and_does_not_load_it(tmp_path):
    with writing(tmp_path, "some", 0, UINT8) as file:
        for key in range(64):
            file.add(key, np.full((1, 1024, 1024), key, np.uint8))
    code = (
        "import sys, resource, numpy as np; from pathlib import Path; from modiste.storage.arrays import open_arrays\n"
        "keys = np.arange(64, dtype=np.uint64)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "kept = open_arrays(Path(sys.argv[1]), 'some', np.dtype(np.uint8), keys)\n"
        "assert isinstance(kept.files[0], np.memmap) and int(kept[63][0, 5, 5]) == 63\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    grown = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    assert int(grown) < 16 * 1024  # KiB, of 64 MiB


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match=str(tmp_path)):
        write(tmp_path, [1])


def test_a_full_disk_is_told_and_leaves_what_was_flushed(tmp_path, monkeypatch):
    write(tmp_path, range(2))
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match="No space left"):
        write(tmp_path, [2])
    monkeypatch.undo()
    assert_holds(tmp_path, range(2))
    write(tmp_path, [2])
    assert_holds(tmp_path, range(3))


def test_a_pickle_holds_names_and_keys_and_never_the_numbers(tmp_path):
    write(tmp_path, range(40), shape=(100, 100))
    kept = open_arrays(tmp_path, "some", FLOAT16, keys_of(7, 3))
    content = pickle.dumps(kept)
    assert len(content) < 1000  # of 800,000
    again = pickle.loads(content)
    assert np.array_equal(again[0][0], array_of(7, (100, 100)))
    assert np.array_equal(again[1][0], array_of(3, (100, 100)))
    assert again[0].dtype == FLOAT16


def test_a_pickle_finds_what_was_written_anew_elsewhere_in_the_file(tmp_path):
    write(tmp_path, [1, 2])
    content = pickle.dumps(open_arrays(tmp_path, "some", FLOAT16, keys_of(1, 2)))
    shutil.rmtree(tmp_path)
    assert pickle.loads(content) is None
    write(tmp_path, [2])
    assert pickle.loads(content) is None
    write(tmp_path, [1], shape=(2, 3))
    assert np.array_equal(pickle.loads(content)[0][0], array_of(1, (2, 3)))
    assert np.array_equal(pickle.loads(content)[1].reshape(5), array_of(2, (5,)))


def test_what_is_removed_while_it_is_opened_counts_as_missing(tmp_path, monkeypatch):
    write(tmp_path, [1])
    find = arrays._find

    def meanwhile(*arguments):
        shutil.rmtree(tmp_path)
        return find(*arguments)

    monkeypatch.setattr(arrays, "_find", meanwhile)
    with pytest.raises(KeyError):
        open_arrays(tmp_path, "some", FLOAT16, keys_of(1))


def test_shares_take_every_key_once():
    keys = np.arange(1000, dtype=np.uint64) * 2**54 + 5
    taken = np.stack([Share(rank, 3).of(keys) for rank in range(3)])
    assert (taken.sum(axis=0) == 1).all()
    assert Share().of(keys).all()
