"""An exported model: one ONNX file that carries everything, computed by ONNX Runtime; no torch.

The file's metadata hold `modiste`, a JSON document (labels, preparation, decision, card; docs/reference/export.md), and
`modiste.seal`, the SHA-256 of the file in which the seal's own digits are zeros.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np

from modiste.config import ImageConfig
from modiste.decisions.decision import Decision
from modiste.errors import RunError
from modiste.inference.predictor import PHOTOS_A_CORE, Predictor, Views, usable_cores
from modiste.labels import LabelSet
from modiste.prediction import MapCells, NetworkOutput

FILE_FORMAT = 1  # of the metadata; a higher one is of a newer modiste
KEY, SEAL = "modiste", "modiste.seal"
UNSEALED = b"sha256:" + b"0" * 64

_SEALED = re.compile(rb"sha256:([0-9a-f]{64})")
_MODEL = "a model that modiste export wrote"
_AGAIN = "exporting it again"


@dataclass(frozen=True, eq=False)
class Exported:
    """An exported file that is whole and of a format that is known.

    Attributes:
        path: the file.
        engine: what computes it.
        facts: its metadata, plain data.
        labels, image, cells, decision, views: as of a Predictor.
    """

    path: Path
    engine: Engine
    facts: Mapping[str, Any]
    label_set: LabelSet
    image: ImageConfig
    cells: MapCells | None
    decision: Decision
    views: Views

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open an exported file.

        Raises:
            RunError: it is missing, damaged, of another tool or of a newer modiste.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            fix = "the file that modiste export -o wrote"
            raise RunError.expected(f"{path} to be {_MODEL}", f"'{error.strerror}'", fix) from error
        check_seal(path, content)
        engine = Engine(content)
        try:
            engine.session  # noqa: B018  opens it
        except Exception as error:  # ONNX Runtime's own errors share no base
            got, fix = f"'{str(error).splitlines()[0][:160]}'", "a newer onnxruntime"
            raise RunError.expected(f"{path} to run on this ONNX Runtime", got, fix) from error
        try:
            facts = json.loads(engine.session.get_modelmeta().custom_metadata_map[KEY])
            if facts["format"] > FILE_FORMAT:
                got = f"format {facts['format']}, of modiste {facts['version']}"
                fix = f"modiste {facts['version']}; this is {metadata.version('modiste')}"
                raise RunError.expected(f"{path} to be of format {FILE_FORMAT}", got, fix)
            label_set = LabelSet.from_dict(facts["labels"], str(path))
            decision = Decision.from_dict(facts["decision"], label_set, str(path))
            image = ImageConfig(**facts["image"])
            cells = None if facts["cells"] is None else MapCells(image.size, tuple(facts["cells"]))
            return cls(path, engine, facts, label_set, image, cells, decision, facts["views"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunError.expected(f"{path} to be {_MODEL}", f"metadata without {error}", _AGAIN) from error

    def predictor(self, views: Views | None = None) -> Predictor:
        """What tags photos with it."""
        cores = self.engine.cores
        return Predictor(
            self.engine,
            self.label_set,
            self.image,
            self.decision,
            views or self.views,
            batch_size=PHOTOS_A_CORE * cores,
            readers=cores,
            cells=self.cells,
        )


class Engine:
    """(n, size, size, 3) uint8 RGB -> NetworkOutput.

    Several photos are shared out: each core runs its own, alone, so that none waits for another (benchmarks/bulk.py).
    A few are run by all cores together.

    Args:
        content: an exported file.
        cores: how many to use.
    """

    def __init__(self, content: bytes, cores: int | None = None) -> None:
        self.cores = cores or usable_cores()
        self._content = content
        self._sessions: dict[int, Any] = {}  # by how many cores run a photo together
        self._pool: ThreadPoolExecutor | None = None
        self._opening = Lock()

    @property
    def session(self) -> Any:
        """All cores on one photo."""
        return self._session(self.cores)

    def __call__(self, photos: np.ndarray, *, maps: bool) -> NetworkOutput:
        """Ask the network."""
        if len(photos) < 2 * self.cores or self.cores == 1:
            return _run(self.session, photos, maps)
        alone, pool = self._session(1), self._threads()
        parts = list(pool.map(lambda part: _run(alone, part, maps), np.array_split(photos, self.cores)))
        probs, features, every = zip(*parts, strict=True)
        return NetworkOutput(
            np.concatenate(probs), np.concatenate(features), None if every[0] is None else np.concatenate(every)
        )

    def _session(self, cores: int) -> Any:
        """One for all threads that ask at once, as ONNX Runtime allows; each holds the weights a second time."""
        with self._opening:
            if cores not in self._sessions:
                self._sessions[cores] = open_session(self._content, cores)
            return self._sessions[cores]

    def _threads(self) -> ThreadPoolExecutor:
        with self._opening:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.cores, "modiste-engine")
            return self._pool


def seal(content: bytes) -> bytes:
    """Write the digest into a file whose seal is UNSEALED."""
    assert content.count(UNSEALED) == 1
    return content.replace(UNSEALED, b"sha256:" + hashlib.sha256(content).hexdigest().encode())


def check_seal(path: Path, content: bytes) -> None:
    """Refuse a file that is none of ours, or that changed since it was written.

    Raises:
        RunError: it is or has.
    """
    place = content.rfind(SEAL.encode())
    found = _SEALED.search(content, place) if place >= 0 else None
    if found is None:
        raise RunError.expected(f"{path} to be {_MODEL}", "another file, or one that was cut short", _AGAIN)
    whole = content[: found.start()] + UNSEALED + content[found.end() :]
    if hashlib.sha256(whole).hexdigest().encode() != found[1]:
        raise RunError.expected(f"{path} to be as it was written", "a file that was changed or damaged", _AGAIN)


def open_session(content: bytes, threads: int) -> Any:
    """A graph, as bytes, that so many threads of the CPU compute together."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _run(session: Any, photos: np.ndarray, maps: bool) -> NetworkOutput:
    import onnxruntime

    there = [output.name for output in session.get_outputs()]
    wanted = [name for name in there if maps or name != "maps"]
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True  # else maps are computed and thrown away
    outputs = dict(zip(wanted, session.run(wanted, {"photos": photos}, options), strict=True))
    return NetworkOutput(outputs["probs"], outputs["features"], outputs.get("maps"))
