"""Predictor and Ensemble: photos to probabilities and chosen labels, whatever computes the network.

No torch here: a Predictor is given a function from pixels to a network's output. Reading, resizing,
test-time augmentation and the decision are the same for a run folder and for an exported file.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

import numpy as np

from modiste.config import ImageConfig
from modiste.decisions.decision import Decision
from modiste.errors import PhotoError, UsageError
from modiste.inference.photos import Photo, PhotoLike
from modiste.inputs.arguments import batches
from modiste.labels import LabelSet
from modiste.prediction import MapCells, NetworkOutput, Prediction, ProductPrediction, RawPrediction

if TYPE_CHECKING:  # imported where it is needed, as it takes a tenth of the time that one photo does
    import polars as pl

    from modiste.decisions.blend import Blend

Views = Literal["one", "flip", "flip+translate"]

PHOTOS_A_CORE = 8  # that a core runs together: more need more memory, and are no faster
SHIFT = 0.05  # of the side: how far the translated views move


class Forward(Protocol):
    """What computes a network."""

    def __call__(self, photos: np.ndarray, *, maps: bool) -> NetworkOutput:
        """Its output for (n, size, size, 3) uint8 RGB; maps are None where they are not asked for."""


class _Read(NamedTuple):
    """A photo, and what the networks see of it, or why it can't be read."""

    photo: Photo
    squares: dict[ImageConfig, np.ndarray] | PhotoError


class BasePredictor(ABC):
    """What tags photos: one network, or several that are asked together.

    Attributes:
        label_set: what each column of probabilities means.
        image: side and resize mode of the square that maps lie over.
        cells: where in that square the cells of a map lie; None where there are no maps.
        decision: from the network's probabilities to decisions.
        views: test-time augmentation.
        batch_size: photos that are asked and decided together.
        readers: threads that read and decode ahead.
    """

    label_set: LabelSet
    image: ImageConfig
    cells: MapCells | None
    decision: Decision
    views: Views
    batch_size: int
    readers: int

    @property
    @abstractmethod
    def seen(self) -> tuple[ImageConfig, ...]:
        """Sizes and modes of the squares that its networks see, each once."""

    @abstractmethod
    def ask_each(self, squares: Mapping[ImageConfig, np.ndarray], *, maps: bool = False) -> NetworkOutput:
        """Its output for n photos, given as (n, size, size, 3) uint8 RGB for each of `seen`."""

    def raw(self, sources: Iterable[PhotoLike], *, maps: bool = False) -> Iterator[RawPrediction]:
        """The network's own probabilities of any number of photos, in order, before any calibration."""
        for one in self._asked(map(Photo.of, sources), maps):
            yield one[1]

    def stream(self, sources: Iterable[PhotoLike], *, heatmaps: bool = False) -> Iterator[Prediction]:
        """Tag any number of photos in order; a broken one gives a Prediction with its error.

        Args:
            sources: the photos, each as for `predict`.
            heatmaps: whether `Prediction.heatmap` is wanted; what it is made of costs time and memory.
        """
        for _, prediction in self._decided(map(Photo.of, sources), heatmaps):
            yield prediction

    def predict(self, source: PhotoLike, *, heatmaps: bool = True) -> Prediction:
        """Tag one photo.

        Args:
            source: a path, the bytes of a file, (height, width, 3) uint8 RGB, a PIL image, or a file opened for
                reading bytes.
            heatmaps: whether `Prediction.heatmap` is wanted.

        Raises:
            PhotoError: the photo can't be read.
        """
        [(photo, prediction)] = self._decided([Photo.of(source)], heatmaps)
        if prediction.error is not None:
            raise PhotoError(prediction.error)
        return replace(prediction, preview=photo.preview)

    def predict_product(self, sources: Iterable[PhotoLike], *, name: str = "product") -> ProductPrediction:
        """Tag one product by several photos of it, pooled and decided as the model was tuned for products.

        Args:
            sources: the photos, each as for `predict`; one that can't be read is left out, with its error in `photos`.
            name: what the product is called.

        Raises:
            PhotoError: not one of them can be read.
            UsageError: there is no photo.
        """
        if isinstance(sources, str | bytes | os.PathLike):  # else the letters of a path would be photos
            sources = [sources]
        photos = tuple(self.stream(sources))
        if not photos:
            raise UsageError.expected(f"photos of {name}", "none", "at least one")
        readable = [photo.prob_array for photo in photos if photo.error is None]
        if not readable:
            error = f"none of {len(photos)}; the first: '{photos[0].error}'"
            raise PhotoError.expected(f"a photo of {name} that can be read", error, "other photos")
        one = np.zeros(len(readable), np.int64)
        decided = self.decision.apply_products(np.stack(readable), one, self.label_set)
        [unsure] = self.decision.unsure(decided, self.label_set)
        return ProductPrediction(
            name,
            self.label_set,
            decided.probs[0],
            self.label_set.chosen(decided.decisions[0]),
            thresholds=self.decision.product_rule.thresholds.deciding(self.label_set),
            unsure=unsure,
            photos=photos,
        )

    def frame(self, sources: Iterable[PhotoLike]) -> pl.DataFrame:
        """Tag photos into a table with a row for each: photo, labels and unsure (lists), review, error, and the labels.

        The columns of labels hold probabilities as float32, null where a photo can't be read; that of a label called
        as one of the first five is prob.<label>.
        """
        from modiste.inference.writers import Tagged, as_frame

        return as_frame((Tagged(one.photo, one.photo, one) for one in self.stream(sources)), self.label_set)

    def _decided(self, photos: Iterable[Photo], heatmaps: bool) -> Iterator[tuple[Photo, Prediction]]:
        limits = self.decision.thresholds.deciding(self.label_set)
        for batch in batches(self._asked(photos, heatmaps), self.batch_size):  # deciding each alone costs a millisecond
            readable = [one.probs for _, one in batch if one.error is None]
            raw = np.stack(readable) if readable else np.empty((0, len(self.label_set)), np.float32)
            decided = self.decision.apply(raw, self.label_set)
            rows = zip(*decided, self.decision.unsure(decided, self.label_set), strict=True)
            for photo, (name, probs, error, maps) in batch:
                if error is not None:
                    yield photo, Prediction(name, self.label_set, probs, (), error)
                    continue
                prob, decisions, unsure = next(rows)
                ids = self.label_set.chosen(decisions)
                yield photo, Prediction(name, self.label_set, prob, ids, None, maps, self.cells, limits, None, unsure)

    def _asked(self, photos: Iterable[Photo], maps: bool) -> Iterator[tuple[Photo, RawPrediction]]:
        for batch in batches(self._read_ahead(photos), self.batch_size):
            readable = [one.squares for one in batch if not isinstance(one.squares, PhotoError)]
            squares = {image: np.stack([each[image] for each in readable]) for image in self.seen if readable}
            rows = iter(_each(self.ask_each(squares, maps=maps)) if readable else ())
            for photo, found in batch:
                if isinstance(found, PhotoError):
                    nothing = np.full(len(self.label_set), np.nan, np.float32)
                    yield photo, RawPrediction(photo.name, nothing, str(found))
                else:
                    probs, places = next(rows)
                    yield photo, RawPrediction(photo.name, probs, None, places)

    def _read_ahead(self, photos: Iterable[Photo]) -> Iterator[_Read]:
        waiting: deque[Future[_Read]] = deque()
        with ThreadPoolExecutor(max(self.readers, 1), "modiste-read") as pool:
            for photo in photos:
                waiting.append(pool.submit(_read, photo, self.seen))
                if len(waiting) > 2 * self.batch_size:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


@dataclass(frozen=True, repr=False)
class Predictor(BasePredictor):
    """Tags photos with one network.

    Args:
        forward: what computes the network.
        label_set: what each column means.
        image: side and resize mode of the photos that `forward` takes.
        decision: from these probabilities to decisions.
        views: test-time augmentation; probabilities of the views are averaged (paper).
        batch_size: photos that go through `forward` together.
        readers: threads that read and decode ahead.
        cells: as of BasePredictor.

    Raises:
        UsageError: there are no such views.
    """

    forward: Forward
    label_set: LabelSet
    image: ImageConfig
    decision: Decision
    views: Views = "one"
    batch_size: int = 16
    readers: int = 2
    cells: MapCells | None = None

    def __post_init__(self) -> None:
        check_views(self.views)

    def __repr__(self) -> str:
        return f"Predictor({_words(self)})"

    @property
    def seen(self) -> tuple[ImageConfig, ...]:
        """Its own size and mode."""
        return (self.image,)

    def ask_each(self, squares: Mapping[ImageConfig, np.ndarray], *, maps: bool = False) -> NetworkOutput:
        """The network's output for its own squares."""
        return self.ask(squares[self.image], maps=maps)

    def ask(self, photos: np.ndarray, *, maps: bool = False) -> NetworkOutput:
        """The network's output for (n, size, size, 3) uint8 RGB; probabilities are the mean over the views.

        Maps and features are those of the photos as they are.
        """
        own, *others = map(np.ascontiguousarray, make_views(photos, self.views))
        first = self.forward(own, maps=maps)
        every = np.stack([first.probs, *(self.forward(view, maps=False).probs for view in others)])
        return first._replace(probs=every.mean(axis=0, dtype=np.float32))


@dataclass(frozen=True, repr=False)
class Ensemble(BasePredictor):
    """Tags photos with several networks, whose probabilities a Blend makes into one.

    Each member sees the photos at its own size and with its own views, which `views` names. A photo is decoded once
    for each size and mode, however many members see it so.
    """

    members: tuple[BasePredictor, ...]
    blend: Blend
    decision: Decision

    def __repr__(self) -> str:
        return f"Ensemble({len(self.members)} members, {_words(self)})"

    @property
    def seen(self) -> tuple[ImageConfig, ...]:
        """Those of the members, each once."""
        return tuple(dict.fromkeys(image for member in self.members for image in member.seen))

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
        """The smallest of the members'."""
        return min(member.batch_size for member in self.members)

    @property
    def readers(self) -> int:  # type: ignore[override]
        """The most of the members'."""
        return max(member.readers for member in self.members)

    def ask_each(self, squares: Mapping[ImageConfig, np.ndarray], *, maps: bool = False) -> NetworkOutput:
        """The members' blended probabilities, the features of all, and the mean of their maps where they are alike."""
        alike = maps and self.cells is not None
        outputs = [member.ask_each(squares, maps=alike) for member in self.members]
        every = [one.maps for one in outputs if one.maps is not None]
        probs = self.blend.apply(np.stack([one.probs for one in outputs]))
        features = np.concatenate([one.features for one in outputs], axis=1)
        return NetworkOutput(probs, features, np.mean(every, axis=0) if alike else None)


def check_views(views: str) -> None:
    """Refuse test-time augmentation that there is none of.

    Raises:
        UsageError: it is such.
    """
    if views not in get_args(Views):
        raise UsageError.expected(f"views to be one of {', '.join(get_args(Views))}", f"'{views}'", "flip")


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_views(photos: np.ndarray, views: Views) -> Iterator[np.ndarray]:
    """The photos themselves, then their flips, then both moved left, right, up and down.

    Args:
        photos: (n, height, width, 3) uint8.
        views: "one", "flip" (2 views) or "flip+translate" (10 views).

    Raises:
        UsageError: there are no such views.
    """
    check_views(views)
    sides = [photos] if views == "one" else [photos, photos[:, :, ::-1]]
    yield from sides
    if views == "flip+translate":
        step = max(1, round(SHIFT * photos.shape[1]))
        for side in sides:
            padded = np.pad(side, ((0, 0), (step, step), (step, step), (0, 0)), mode="edge")
            for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                top, left = step - down * step, step - right * step
                yield padded[:, top : top + side.shape[1], left : left + side.shape[2]]


def _each(output: NetworkOutput) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Probabilities and maps of one photo after the other."""
    return zip(output.probs, output.maps if output.maps is not None else repeat(None), strict=False)


def _read(photo: Photo, seen: tuple[ImageConfig, ...]) -> _Read:
    try:
        return _Read(photo, photo.squares(seen))
    except PhotoError as error:
        return _Read(photo, error)


def _words(tagger: BasePredictor) -> str:
    image = tagger.image
    labels = f"{len(tagger.label_set)} labels of '{tagger.label_set.name}'"
    return f"{labels}, {image.size} px {image.mode}, views '{tagger.views}', policy '{tagger.decision.policy}'"
