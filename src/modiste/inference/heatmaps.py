"""Heatmaps on photos: where the evidence for a label lies, as pictures."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from modiste.errors import PhotoError, RunError, UsageError
from modiste.fetching.listing import file_stem
from modiste.files import WRITING, make_folder, replacing
from modiste.inference.photos import square
from modiste.inference.predictor import BasePredictor
from modiste.inference.writers import Tagged
from modiste.labels import LabelSet

TABLE = "heatmaps.csv"
# Plasma (Smith and van der Walt, CC0), perceptually uniform: from little evidence to the most.
_COLOURS = ((13, 8, 135), (126, 3, 168), (204, 71, 120), (248, 149, 64), (240, 249, 33))
_NOTHING, _COVER = 0.1, 0.7  # evidence below which a photo stays as it is; share of colour where it is strongest
_GREY = (60, 235)  # what black and white of the photo below become, so that heat stands out on both
_HALF = 0.5  # of the most evidence: where the contour is drawn
_SIDE = 448  # pixels of a picture, at least: words on it are to be read
_BAR = 28  # pixels above and below, for words
_QUALITY = 90  # of the JPEG files


def overlay(photo: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay evidence over a photo, which is grey below it, so that colours are evidence whatever the garment's are.

    Args:
        photo: (size, size, 3) uint8 RGB, the square that the network sees.
        heat: (size, size) float32 in [0, 1], from `Prediction.heatmap`.

    Returns:
        (size, size, 3) uint8 RGB: grey where there is no evidence, in colour where there is, with a line around what
        has at least half of the most.
    """
    grey = photo @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    grey = _GREY[0] + grey[..., None] * ((_GREY[1] - _GREY[0]) / 255)
    share = _COVER * np.clip((heat[..., None] - _NOTHING) / (_HALF - _NOTHING), 0, 1)
    mixed = np.rint(grey * (1 - share) + _colours(heat) * share)
    for width, tone in ((2, 0), (1, 255)) if len(photo) >= _SIDE else ((1, 255),):  # white in black shows everywhere
        mixed[_contour(heat >= _HALF, width)] = tone
    painted: np.ndarray = mixed.astype(np.uint8)
    return painted


def picture(photo: np.ndarray, heat: np.ndarray, label: str, prob: float) -> Image.Image:
    """An overlay with the label and its probability above it, and a legend below.

    Args:
        photo, heat: as of `overlay`.
        label: what is written above; cut where it is too long.
        prob: its probability.
    """
    side = len(photo)
    whole = Image.new("RGB", (side, side + 2 * _BAR), "white")
    whole.paste(Image.fromarray(overlay(photo, heat)), (0, _BAR))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(16)
    number, middle = f"{prob:.2f}", _BAR / 2
    draw.text((side - 8, middle), number, "black", font, anchor="rm")
    draw.text((8, middle), _fitted(label, font, side - 24 - font.getlength(number)), "black", font, anchor="lm")
    small, left = ImageFont.load_default(12), side // 2
    middle += side + _BAR
    draw.text((left - 6, middle), "evidence for this label: none", "black", small, anchor="rm")
    scale = np.tile(np.linspace(0, 1, side - left - 48, dtype=np.float32), (12, 1))
    whole.paste(Image.fromarray(_colours(scale).astype(np.uint8)), (left, int(middle) - 6))
    draw.text((side - 8, middle), "most", "black", small, anchor="rm")
    return whole


def _colours(heat: np.ndarray) -> np.ndarray:
    """Evidence as colours: (..., 3) float64 in [0, 255]."""
    places = np.linspace(0, 1, len(_COLOURS))
    return np.stack([np.interp(heat, places, ends) for ends in zip(*_COLOURS, strict=True)], axis=-1)


def _contour(inside: np.ndarray, width: int) -> np.ndarray:
    """The pixels around an area, (height, width) bool, so many wide."""
    grown = inside
    for _ in range(width):
        padded = np.pad(grown, 1, mode="edge")
        grown = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:] | grown
    around: np.ndarray = grown & ~inside
    return around


def _drawn_name(label_set: LabelSet, label: str) -> str:
    """A label's name as the font can draw it: without accents, or its id, where it has no characters for more."""
    font, name = ImageFont.load_default(16), label_set.names()[label_set.index(label)]
    missing = bytes(font.getmask("\U0010ffff"))
    for text in (name, _without_accents(name), label, _without_accents(label)):
        if not any(bytes(font.getmask(one)) == missing for one in set(text) if not one.isspace()):
            return text
    return f"see {TABLE}"


def _without_accents(text: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """A text, cut to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


class Heatmap(NamedTuple):
    """A row of heatmaps.csv: which photo and label a file is about."""

    photo: str
    label: str
    file: str


def read_heatmaps(folder: Path) -> list[Heatmap]:
    """What earlier runs wrote into a folder of heatmaps, which may be missing or empty.

    Raises:
        UsageError: it holds other files, which must not be written over.
        RunError: its table can't be read.
    """
    path = folder / TABLE
    if path.is_file():
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))
            if rows[:1] != [list(Heatmap._fields)]:
                raise ValueError("another header")
        except (OSError, ValueError, csv.Error) as error:
            raise RunError.expected(f"{path} to list heatmaps", f"'{error}'", "another --explain") from error
        return [Heatmap(*row) for row in rows[1:] if len(row) == len(Heatmap._fields)]  # a kill may cut the last
    others = [one.name for one in folder.iterdir() if not one.name.startswith(WRITING)] if folder.is_dir() else []
    if others:
        want = f"--explain {folder} to be a new folder, or one that --explain made"
        raise UsageError.expected(want, f"one with '{min(others)}' in it", "another folder")
    return []


class Explainer:
    """Writes a picture for each chosen label of each photo into a folder: `<photo>.<label>.jpg`.

    Photos of one name are told apart by a number: `coat.dress.jpg`, `coat-2.dress.jpg`; heatmaps.csv says which is
    which. What earlier runs wrote for a photo is replaced, all other files are left alone.

    Raises:
        UsageError: the network has no places, or the folder holds something else.
        StorageError: the folder can't be made.
    """

    def __init__(self, folder: Path, predictor: BasePredictor) -> None:
        if predictor.cells is None:
            raise UsageError.expected("a network with a map of places, for --explain", "none", "a convolutional one")
        earlier = read_heatmaps(folder)
        make_folder(folder)
        self._folder, self._image = folder, predictor.image
        self._earlier: dict[str, list[Heatmap]] = {}
        for row in earlier:
            self._earlier.setdefault(row.photo, []).append(row)
        self._written: list[Heatmap] = []
        self._taken = {_stem(path.name) for path in folder.iterdir()}
        self._write_table()

    def watch(self, photos: Iterable[Tagged]) -> Iterator[Tagged]:
        """Pass photos on, each once its pictures are written.

        Raises:
            StorageError: a picture can't be written.
        """
        with (self._folder / TABLE).open("a", encoding="utf-8", newline="") as table:
            rows = csv.writer(table, lineterminator="\n")
            for photo in photos:
                if photo.prediction.labels:
                    for row in self._explain(photo):
                        rows.writerow(row)  # before the picture: a killed run leaves none that nothing names
                        table.flush()
                yield photo
        self._write_table()

    def _explain(self, photo: Tagged) -> Iterator[Heatmap]:
        """Give each row, and write its picture once it has been taken."""
        prediction, source = photo.prediction, photo.source
        side = max(_SIDE, self._image.size)
        try:
            seen = square(source, self._image.model_copy(update={"size": side}), name=photo.id)
        except PhotoError:  # it has gone since it was tagged
            return
        self._forget(photo.id)
        name = self._name(source.stem if isinstance(source, Path) else photo.id)
        for label in prediction.labels:
            row = Heatmap(photo.id, label, f"{name}.{file_stem(label)}.jpg")
            self._written.append(row)
            yield row
            name_on_it = _drawn_name(prediction.label_set, label)
            shown = picture(seen, prediction.heatmap(label, side), name_on_it, prediction.probs[label])
            with replacing(self._folder / row.file) as temporary:
                shown.save(temporary, "JPEG", quality=_QUALITY)

    def _forget(self, photo: str) -> None:
        """Remove what earlier runs wrote for a photo."""
        for row in self._earlier.pop(photo, []):
            if Path(row.file).name == row.file:
                (self._folder / row.file).unlink(missing_ok=True)
                self._taken.discard(_stem(row.file))

    def _write_table(self) -> None:
        earlier = chain.from_iterable(self._earlier.values())
        with replacing(self._folder / TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
            rows = csv.writer(out, lineterminator="\n")
            rows.writerow(Heatmap._fields)
            rows.writerows(chain(earlier, self._written))

    def _name(self, photo: str) -> str:
        """One that no other photo has, also where a file system takes "a" for "A"."""
        stem = file_stem(photo)
        names = chain([stem], (f"{stem}-{k}" for k in count(2)))
        name = next(name for name in names if _stem(name) not in self._taken)
        self._taken.add(_stem(name))
        return name


def _stem(file: str) -> str:
    """What stands before the first dot, in one case."""
    return file.partition(".")[0].casefold()
