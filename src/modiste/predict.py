"""Prediction and Predictor: photos to scores and chosen labels, whatever computes the network.

No torch here: a Predictor is given a function from pixels to probabilities. Reading, resizing,
test-time augmentation and the decision are the same for a run folder and for an exported file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from modiste import images
from modiste.config import ImageConfig
from modiste.errors import PhotoError
from modiste.labels import LabelSet
from modiste.thresholds import Thresholds

Source = Path | str | bytes | np.ndarray
Views = Literal["one", "flip", "flip+translate"]
Forward = Callable[[np.ndarray], np.ndarray]

SHIFT = 0.05  # of the side: how far the translated views move


@dataclass(frozen=True, eq=False)
class Prediction:
    """What was said of one photo.

    `probs` is (labels,) float32 and `labels` the chosen ids; of a photo that could not be read `error`
    is the sentence why, `probs` is nan throughout and `labels` is empty.
    """

    photo: str
    label_set: LabelSet
    probs: np.ndarray
    labels: tuple[str, ...]
    error: str | None = None

    @property
    def scores(self) -> dict[str, float]:
        """Label id -> probability."""
        return {label: float(prob) for label, prob in zip(self.label_set.ids, self.probs, strict=True)}


@dataclass(frozen=True)
class Predictor:
    """Tags photos.

    Args:
        forward: (n, 3, size, size) uint8 RGB -> (n, labels) float32 probabilities.
        labels: what each column means.
        image: side and resize mode of the photos that `forward` takes.
        thresholds: the decision of each label.
        views: test-time augmentation; probabilities of the views are averaged (paper).
        batch_size: photos that go through `forward` together.
        readers: threads that read and decode ahead.
    """

    forward: Forward
    labels: LabelSet
    image: ImageConfig
    thresholds: Thresholds
    views: Views = "one"
    batch_size: int = 16
    readers: int = 2

    def predict(self, source: Source) -> Prediction:
        """Tag one photo: a path, the bytes of a file, or (height, width, 3) uint8 RGB.

        Raises:
            PhotoError: the photo can't be read.
        """
        prediction = next(self.stream([source]))
        if prediction.error is not None:
            raise PhotoError(prediction.error)
        return prediction

    def stream(self, sources: Iterable[Source]) -> Iterator[Prediction]:
        """Tag any number of photos in order; a broken one gives a Prediction with its error."""
        for batch in _batches(self._read_ahead(sources), self.batch_size):
            readable = [photo for _, photo in batch if not isinstance(photo, PhotoError)]
            probs = iter(self.probs(np.stack(readable))) if readable else iter(())
            for name, photo in batch:
                yield self._failed(name, photo) if isinstance(photo, PhotoError) else self._said(name, next(probs))

    def probs(self, photos: np.ndarray) -> np.ndarray:
        """(n, size, size, 3) uint8 RGB -> (n, labels) float32, the mean over the views."""
        total = np.zeros((len(photos), len(self.labels)), dtype=np.float32)
        count = 0
        for view in make_views(photos, self.views):
            total += self.forward(np.ascontiguousarray(view.transpose(0, 3, 1, 2)))
            count += 1
        return total / count

    def _said(self, name: str, probs: np.ndarray) -> Prediction:
        chosen = self.thresholds.apply(probs[None], self.labels)[0]
        ids = tuple(label for label, yes in zip(self.labels.ids, chosen, strict=True) if yes)
        return Prediction(name, self.labels, probs, ids)

    def _failed(self, name: str, error: PhotoError) -> Prediction:
        return Prediction(name, self.labels, np.full(len(self.labels), np.nan, np.float32), (), str(error))

    def _read_ahead(self, sources: Iterable[Source]) -> Iterator[tuple[str, np.ndarray | PhotoError]]:
        waiting: deque[tuple[str, Future[np.ndarray | PhotoError]]] = deque()
        with ThreadPoolExecutor(max(self.readers, 1)) as pool:
            for source in sources:
                waiting.append((_name(source), pool.submit(self._read, source)))
                if len(waiting) > 2 * self.batch_size:
                    name, photo = waiting.popleft()
                    yield name, photo.result()
            for name, photo in waiting:
                yield name, photo.result()

    def _read(self, source: Source) -> np.ndarray | PhotoError:
        size, mode = self.image.size, self.image.mode
        try:
            if isinstance(source, np.ndarray):
                photo = _checked(source)
            elif isinstance(source, bytes):
                photo = images.decode(source, name=_name(source), target=size)
            else:
                return images.load(Path(source), size, mode)
            return images.resize(photo, size, mode)
        except PhotoError as error:
            return error


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


def _checked(photo: np.ndarray) -> np.ndarray:
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
        got = f"{photo.shape} {photo.dtype}"
        raise PhotoError.expected("an array of shape (height, width, 3) and dtype uint8", got, "RGB bytes")
    return photo


def _batches(items: Iterable, size: int) -> Iterator[list]:
    batch: list = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _name(source: Source) -> str:
    if isinstance(source, bytes):
        return "photo (bytes)"
    return "photo (array)" if isinstance(source, np.ndarray) else str(source)
