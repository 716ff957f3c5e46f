"""Heatmaps on photos: where the evidence for a label lies, as pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path

import numpy as np
from PIL import Image

from modiste.errors import PhotoError, UsageError
from modiste.fetching.listing import file_stem
from modiste.files import make_folder, replacing
from modiste.inference.photos import square
from modiste.inference.predictor import BasePredictor
from modiste.inference.writers import Tagged

_COLD, _WARM, _HOT = (255, 210, 60), (240, 90, 30), (190, 0, 60)  # RGB, from little evidence to the most
_COVER = 0.75  # of the photo, where the evidence is strongest
_QUALITY = 90  # of the JPEG files


def overlay(photo: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay evidence over a photo.

    Args:
        photo: (size, size, 3) uint8 RGB, the square that the network sees.
        heat: (size, size) float32 in [0, 1], from `Prediction.heatmap`.

    Returns:
        (size, size, 3) uint8 RGB: the photo where there is no evidence, in colour where there is.
    """
    colour = np.stack([np.interp(heat, (0, 0.5, 1), ends) for ends in zip(_COLD, _WARM, _HOT, strict=True)], axis=-1)
    share = _COVER * heat[..., None]
    mixed: np.ndarray = np.rint(photo * (1 - share) + colour * share).astype(np.uint8)
    return mixed


class Explainer:
    """Writes an overlay for each chosen label of each photo into a folder: `<photo>.<label>.jpg`.

    Photos of one name are told apart by a number: `coat.dress.jpg`, `coat-2.dress.jpg`.

    Raises:
        UsageError: the network has no places.
        StorageError: the folder can't be made.
    """

    def __init__(self, folder: Path, predictor: BasePredictor) -> None:
        if predictor.cells is None:
            raise UsageError.expected("a network with a map of places, for --explain", "none", "a convolutional one")
        make_folder(folder)
        self._folder, self._image = folder, predictor.image
        self._taken: set[str] = set()

    def watch(self, photos: Iterable[Tagged]) -> Iterator[Tagged]:
        """Pass photos on, each once its overlays are written.

        Raises:
            StorageError: an overlay can't be written.
        """
        for photo in photos:
            if photo.prediction.labels:
                self._explain(photo)
            yield photo

    def _explain(self, photo: Tagged) -> None:
        prediction, source = photo.prediction, photo.source
        try:
            seen = square(source, self._image, name=photo.id)
        except PhotoError:  # it has gone since it was tagged
            return
        name = self._name(source.stem if isinstance(source, Path) else photo.id)
        for label in prediction.labels:
            with replacing(self._folder / f"{name}.{file_stem(label)}.jpg") as temporary:
                Image.fromarray(overlay(seen, prediction.heatmap(label))).save(temporary, "JPEG", quality=_QUALITY)

    def _name(self, photo: str) -> str:
        """One that no other photo has, also where a file system takes "a" for "A"."""
        stem = file_stem(photo)
        names = chain([stem], (f"{stem}-{k}" for k in count(2)))
        name = next(name for name in names if name.casefold() not in self._taken)
        self._taken.add(name.casefold())
        return name
