"""Photos in; text, CSV, JSONL, Parquet or a submission out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from modiste.inference.photos import BYTES, PhotoLike
from modiste.inference.predictor import BasePredictor
from modiste.inference.writers import Tagged
from modiste.inputs.arguments import InputPhoto, Url, printable


def tagged(items: Iterable[InputPhoto], predictor: BasePredictor, *, heatmaps: bool = False) -> Iterator[Tagged]:
    """Tag a stream of photos, in order; what each of them is called stands beside it.

    Args:
        items: the photos.
        predictor: what tags.
        heatmaps: whether predictions are asked for heatmaps.
    """
    waiting: deque[tuple[str, PhotoLike]] = deque()

    def sources() -> Iterator[PhotoLike]:
        for id_, source, _ in items:
            assert not isinstance(source, Url)  # urls.fetched has been there
            waiting.append((id_, source))
            yield source

    for prediction in predictor.stream(sources(), heatmaps=heatmaps):
        id_, source = waiting.popleft()
        if prediction.error is not None:
            error = printable(prediction.error.replace(f"'{BYTES}'", f"'{id_}'"))
            prediction = replace(prediction, error=error)  # noqa: PLW2901
        yield Tagged(id_, source, prediction)


def passing(photos: Iterable[Tagged], told: Callable[[int], None], before: int = 0) -> Iterator[Tagged]:
    """The same photos; `told` hears how many have passed, those `before` among them."""
    for done, photo in enumerate(photos, before + 1):
        told(done)
        yield photo
