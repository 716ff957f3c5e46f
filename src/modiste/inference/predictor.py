"""Predictor and Ensemble: photos to scores and chosen labels, whatever computes the network.

No torch here: a Predictor is given a function from pixels to what a network says. Reading, resizing,
test-time augmentation and the decision are the same for a run folder and for an exported file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat, tee
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from modiste.config import ImageConfig
from modiste.data import images
from modiste.decisions.decision import Decision
from modiste.errors import PhotoError
from modiste.inputs.arguments import batches
from modiste.labels import LabelSet
from modiste.prediction import MapCells, NetworkOutput, Prediction, RawPrediction

if TYPE_CHECKING:  # of an ensemble alone; it brings checks of metrics
    from modiste.decisions.blend import Blend

PhotoLike = Path | str | bytes | np.ndarray | PhotoError  # a PhotoError stays one
Views = Literal["one", "flip", "flip+translate"]

Forward = Callable[[np.ndarray], NetworkOutput]

BYTES = "photo (bytes)"  # what errors call a photo without a name
SHIFT = 0.05  # of the side: how far the translated views move


class BasePredictor(ABC):
    """What tags photos: one network, or several that are asked together.

    Attributes:
        label_set: what each column of probabilities means.
        image: side and resize mode of the square that maps lie over.
        cells: where in that square the cells of a map lie; None where heatmaps are not wanted or there are no maps.
        decision: from the network's probabilities to what is said.
        views: test-time augmentation.
        batch_size: photos that are asked and decided together.
    """

    label_set: LabelSet
    image: ImageConfig
    cells: MapCells | None
    decision: Decision
    views: Views
    batch_size: int

    @abstractmethod
    def raw(self, sources: Iterable[PhotoLike]) -> Iterator[RawPrediction]:
        """The network's own probabilities of any number of photos, in order, before any calibration."""

    def stream(self, sources: Iterable[PhotoLike]) -> Iterator[Prediction]:
        """Tag any number of photos in order; a broken one gives a Prediction with its error."""
        for batch in batches(self.raw(sources), self.batch_size):  # deciding each alone costs a millisecond
            readable = [one.probs for one in batch if one.error is None]
            decided = self.decision.apply(np.stack(readable), self.label_set) if readable else ((), ())
            said = zip(*decided, strict=True)
            for name, probs, error, maps in batch:
                if error is not None:
                    yield Prediction(name, self.label_set, probs, (), error)
                    continue
                prob, decisions = next(said)
                ids = tuple(label for label, yes in zip(self.label_set.ids, decisions, strict=True) if yes)
                yield Prediction(name, self.label_set, prob, ids, None, maps, self.cells)

    def predict(self, source: PhotoLike) -> Prediction:
        """Tag one photo: a path, the bytes of a file, or (height, width, 3) uint8 RGB.

        Raises:
            PhotoError: the photo can't be read.
        """
        prediction = next(self.stream([source]))
        if prediction.error is not None:
            raise PhotoError(prediction.error)
        return prediction


@dataclass(frozen=True)
class Predictor(BasePredictor):
    """Tags photos with one network.

    Args:
        forward: (n, size, size, 3) uint8 RGB -> NetworkOutput.
        label_set: what each column means.
        image: side and resize mode of the photos that `forward` takes.
        decision: from these probabilities to what is said.
        views: test-time augmentation; probabilities of the views are averaged (paper).
        batch_size: photos that go through `forward` together.
        readers: threads that read and decode ahead.
        cells: as of BasePredictor.
    """

    forward: Forward
    label_set: LabelSet
    image: ImageConfig
    decision: Decision
    views: Views = "one"
    batch_size: int = 16
    readers: int = 2
    cells: MapCells | None = None

    def raw(self, sources: Iterable[PhotoLike]) -> Iterator[RawPrediction]:
        """The network's own probabilities, the mean over the views; readers work ahead."""
        for batch in batches(self._read_ahead(sources), self.batch_size):
            readable = [photo for _, photo in batch if not isinstance(photo, PhotoError)]
            said = iter(_each(self.ask(np.stack(readable))) if readable else ())
            for name, photo in batch:
                if isinstance(photo, PhotoError):
                    yield RawPrediction(name, np.full(len(self.label_set), np.nan, np.float32), str(photo))
                else:
                    probs, maps = next(said)
                    yield RawPrediction(name, probs, None, maps)

    def ask(self, photos: np.ndarray) -> NetworkOutput:
        """What the network says of (n, size, size, 3) uint8 RGB; probabilities are the mean over the views."""
        first, *others = [self.forward(np.ascontiguousarray(view)) for view in make_views(photos, self.views)]
        every = np.stack([first.probs, *(said.probs for said in others)])
        return first._replace(probs=every.mean(axis=0, dtype=np.float32))

    def _read_ahead(self, sources: Iterable[PhotoLike]) -> Iterator[tuple[str, np.ndarray | PhotoError]]:
        waiting: deque[tuple[str, Future[np.ndarray | PhotoError]]] = deque()
        with ThreadPoolExecutor(max(self.readers, 1)) as pool:
            for source in sources:
                waiting.append((_name(source), pool.submit(self._read, source)))
                if len(waiting) > 2 * self.batch_size:
                    name, photo = waiting.popleft()
                    yield name, photo.result()
            for name, photo in waiting:
                yield name, photo.result()

    def _read(self, source: PhotoLike) -> np.ndarray | PhotoError:
        try:
            return square(source, self.image)
        except PhotoError as error:
            return error


@dataclass(frozen=True)
class Ensemble(BasePredictor):
    """Tags photos with several networks, whose probabilities a Blend makes into one.

    Each member sees the photos at its own size and with its own views, which `views` names.
    """

    members: tuple[BasePredictor, ...]
    blend: Blend
    decision: Decision

    @property
    def label_set(self) -> LabelSet:  # type: ignore[override]
        """Those of the members."""
        return self.members[0].label_set

    @property
    def image(self) -> ImageConfig:  # type: ignore[override]
        """That of the first member."""
        return self.members[0].image

    @property
    def cells(self) -> MapCells | None:  # type: ignore[override]
        """The mean of the members', where their maps are alike."""
        image, every = self.image, [member.cells for member in self.members if member.cells is not None]
        if len(every) < len(self.members) or len({len(cells.centres) for cells in every}) > 1:
            return None
        if any(member.image.mode != image.mode for member in self.members):
            return None
        return MapCells(image.size, tuple(np.mean([cells.centres for cells in every], axis=0).tolist()))

    @property
    def views(self) -> Views:  # type: ignore[override]
        """Those of the first member."""
        return self.members[0].views

    @property
    def batch_size(self) -> int:  # type: ignore[override]
        """That of the first member."""
        return self.members[0].batch_size

    def raw(self, sources: Iterable[PhotoLike]) -> Iterator[RawPrediction]:
        """The blend of what the members' networks say."""
        alike = self.cells is not None
        streams = [member.raw(copy) for member, copy in zip(self.members, tee(sources, len(self.members)), strict=True)]
        for said in zip(*streams, strict=True):
            error = next((one.error for one in said if one.error is not None), None)
            if error is not None:
                yield RawPrediction(said[0].photo, np.full(len(self.label_set), np.nan, np.float32), error)
                continue
            probs = np.stack([one.probs for one in said])[:, None]
            maps = np.mean([one.maps for one in said], axis=0) if alike else None
            yield RawPrediction(said[0].photo, self.blend.apply(probs)[0], None, maps)


def square(source: PhotoLike, image: ImageConfig, *, name: str | None = None) -> np.ndarray:
    """What a network sees of a photo: (size, size, 3) uint8 RGB.

    Args:
        source: the photo.
        image: side and resize mode.
        name: what errors call it; None takes its path, if it has one.

    Raises:
        PhotoError: it can't be read, or is a PhotoError itself.
    """
    if isinstance(source, PhotoError):
        raise source
    if isinstance(source, Path | str):
        return images.read_square(Path(source), image.size, image.mode)
    if isinstance(source, bytes):
        photo = images.decode(source, name=name or _name(source), target=image.size)
    else:
        photo = _checked(source)
    return images.resize(photo, image.size, image.mode)


def make_views(photos: np.ndarray, views: Views) -> Iterator[np.ndarray]:
    """The photos themselves, then their flips, then both moved left, right, up and down.

    Args:
        photos: (n, height, width, 3) uint8.
        views: "one", "flip" (2 views) or "flip+translate" (10 views).
    """
    sides = [photos] if views == "one" else [photos, photos[:, :, ::-1]]
    yield from sides
    if views == "flip+translate":
        step = max(1, round(SHIFT * photos.shape[1]))
        for side in sides:
            padded = np.pad(side, ((0, 0), (step, step), (step, step), (0, 0)), mode="edge")
            for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                top, left = step - down * step, step - right * step
                yield padded[:, top : top + side.shape[1], left : left + side.shape[2]]


def _each(said: NetworkOutput) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Probabilities and maps of one photo after the other."""
    return zip(said.probs, said.maps if said.maps is not None else repeat(None), strict=False)


def _checked(photo: np.ndarray) -> np.ndarray:
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
        got = f"{photo.shape} {photo.dtype}"
        raise PhotoError.expected("an array of shape (height, width, 3) and dtype uint8", got, "RGB bytes")
    return photo


def _name(source: PhotoLike) -> str:
    if isinstance(source, bytes | PhotoError):
        return BYTES
    return "photo (array)" if isinstance(source, np.ndarray) else str(source)
