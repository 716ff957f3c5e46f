"""The engine of exported files, asked by many threads."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Lock

import numpy as np
import pytest

from modiste.inference import onnx
from modiste.inference.onnx import Engine
from modiste.runs.load import bundled_model, load


@pytest.fixture(scope="module")
def content():
    return bundled_model().read_bytes()


@pytest.mark.parametrize("photos", [1, 8])  # all cores on a few photos; each core on its own
def test_many_threads_open_one_session(photos, content, monkeypatch):
    opened, two, lock, real, size = [], Event(), Lock(), onnx.open_session, load().image.size

    def open_session(*arguments):
        with lock:
            opened.append(arguments)
            if len(opened) > 1:
                two.set()
        two.wait(0.5)  # time for another thread to open one too, if nothing keeps it out
        return real(*arguments)

    monkeypatch.setattr(onnx, "open_session", open_session)
    engine, ready = Engine(content, cores=2), Barrier(8)
    squares = np.random.default_rng(0).integers(0, 256, (photos, size, size, 3), dtype=np.uint8)

    def ask(_):
        ready.wait()
        return engine(squares, maps=False).probs

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(ask, range(8)))
    assert len(opened) == 1
    for one in said[1:]:
        np.testing.assert_allclose(one, said[0], atol=1e-6)


def test_only_what_is_asked_for_is_computed(content):
    engine, size = Engine(content, cores=1), load().image.size
    squares = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    with_maps, without = engine(squares, maps=True), engine(squares, maps=False)
    assert without.maps is None
    assert with_maps.maps.shape[:2] == with_maps.probs.shape
    np.testing.assert_allclose(without.probs, with_maps.probs, atol=1e-6)
    np.testing.assert_allclose(without.features, with_maps.features, atol=1e-5)
