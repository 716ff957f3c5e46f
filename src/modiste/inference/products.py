"""Photos of products in; one answer a product out, as text, CSV, JSONL or Parquet.

The photos of a product may stand anywhere among the others, so that all are read before the first product is
decided; what is kept of a photo are its probabilities, 4 bytes a label.
"""

from __future__ import annotations

import csv
import json
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np

from modiste.decisions.decision import Decision
from modiste.errors import UsageError
from modiste.files import replacing
from modiste.inference.predictor import BasePredictor
from modiste.inference.tagging import passing, tagged
from modiste.inference.writers import Format, as_record, as_text, csv_cells
from modiste.inputs.arguments import InputPhoto
from modiste.labels import LabelSet
from modiste.prediction import Decided, Prediction

if TYPE_CHECKING:  # imported where it is needed, as it takes a tenth of the time that one photo does
    import polars as pl

_FIRST = ("product", "labels", "unsure", "review", "error", "photos", "failed")  # columns before those of the labels


class TaggedProduct(NamedTuple):
    """A product, how many of its photos were read and how many could not be, and what they say together.

    `prediction` has an error where none could be read.
    """

    id: str
    photos: int
    failed: int
    prediction: Prediction


class TaggedProducts(NamedTuple):
    """All products in the order of their first photos, and why photos could not be read, a sentence each."""

    products: list[TaggedProduct]
    errors: list[str]

    @property
    def photos(self) -> int:
        """How many photos there were."""
        return sum(one.photos + one.failed for one in self.products)


class _Seen:
    """What is known of one product before it is decided; its number counts those of which a photo was read."""

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.number = -1
        self.photos = 0
        self.errors: list[str] = []

    def sentence(self) -> str:
        """Why it has no labels."""
        if len(self.errors) == 1:
            return self.errors[0]
        return f"None of its {len(self.errors)} photos can be read. The first: {self.errors[0]}"


class ProductPool:
    """Photos of products, added one after the other; the products are decided at the end."""

    def __init__(self) -> None:
        self._seen: dict[str | int, _Seen] = {}
        self._numbers, self._probs = array("q"), array("f")
        self._added = self._readable = 0

    def add(self, photo: str, product: str, found: np.ndarray | str) -> None:
        """Add a photo.

        Args:
            photo: what it is called.
            product: what it shows; "" is a product of its own, which is called as it is.
            found: probs (labels,), or why it could not be read.
        """
        seen = self._seen.setdefault(product or self._added, _Seen(product or photo))
        self._added += 1
        if isinstance(found, str):
            seen.errors.append(found)
            return
        if not seen.photos:
            seen.number, self._readable = self._readable, self._readable + 1
        seen.photos += 1
        self._numbers.append(seen.number)
        self._probs.frombytes(found.astype(np.float32).tobytes())

    def decided(self, decision: Decision, label_set: LabelSet) -> list[TaggedProduct]:
        """All products, in the order of their first photos."""
        every = np.frombuffer(self._probs, np.float32).reshape(-1, len(label_set))
        decided = decision.apply_products(every, np.frombuffer(self._numbers, np.int64), label_set)
        unsure = decision.unsure(decided, label_set)
        return [_tagged(product, decided, unsure, label_set) for product in self._seen.values()]

    def errors(self) -> list[str]:
        """Why photos could not be read, product by product."""
        return [error for product in self._seen.values() for error in product.errors]


def tag_products(
    items: Iterable[InputPhoto], predictor: BasePredictor, told: Callable[[int], None] = lambda _: None
) -> TaggedProducts:
    """Tag photos, and decide those of one product together; a photo of no product is a product by its own name.

    Args:
        items: the photos with their products, in any order.
        predictor: what tags, and decides products.
        told: hears how many photos have passed.
    """
    shown: deque[str] = deque()

    def noted() -> Iterator[InputPhoto]:
        for item in items:
            shown.append(item.product)
            yield item

    pool = ProductPool()
    for photo in passing(tagged(noted(), predictor), told):
        said = photo.prediction
        pool.add(photo.id, shown.popleft(), said.prob_array if said.error is None else said.error)
    return TaggedProducts(pool.decided(predictor.decision, predictor.label_set), pool.errors())


def _tagged(product: _Seen, decided: Decided, unsure: list[tuple[str, ...]], label_set: LabelSet) -> TaggedProduct:
    if product.photos:
        k = product.number
        chosen = label_set.chosen(decided.decisions[k])
        prediction = Prediction(product.id, label_set, decided.probs[k], chosen, unsure=unsure[k])
    else:
        nothing = np.full(len(label_set), np.nan, np.float32)
        prediction = Prediction(product.id, label_set, nothing, (), product.sentence())
    return TaggedProduct(product.id, product.photos, len(product.errors), prediction)


def write_products(path: Path | None, kind: Format, products: Sequence[TaggedProduct], label_set: LabelSet) -> None:
    """Write products to stdout, or whole or not at all to `path`.

    Raises:
        UsageError: the format is that of the challenge, which knows no products.
    """
    if kind == "jd":
        raise UsageError.expected("a format that holds products", "jd, whose rows are photos", "csv, jsonl or parquet")
    if path is None:
        _write(sys.stdout, kind, products, label_set)
    elif kind == "parquet":
        import polars as pl

        with replacing(path, pl.exceptions.ComputeError) as temporary:
            product_frame(products, label_set).write_parquet(temporary)
    else:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
            _write(out, kind, products, label_set)


def product_frame(products: Sequence[TaggedProduct], label_set: LabelSet) -> pl.DataFrame:
    """A row a product: product, labels and unsure (lists), review, error, photos, failed, and probabilities.

    Each label has a float32 column; that of a label called as one of the first seven is prob.<label>.
    """
    import polars as pl

    first = {
        "product": [one.id for one in products],
        "labels": [list(one.prediction.labels) for one in products],
        "unsure": [list(one.prediction.unsure) for one in products],
        "review": [one.prediction.review for one in products],
        "error": [one.prediction.error for one in products],
        "photos": [one.photos for one in products],
        "failed": [one.failed for one in products],
    }
    words = pl.List(pl.String)
    types = (pl.String, words, words, pl.Boolean, pl.String, pl.Int64, pl.Int64)
    table = np.array([one.prediction.prob_array for one in products], np.float32).reshape(-1, len(label_set))
    columns = [pl.Series(name, table[:, k]).fill_nan(None) for k, name in enumerate(_columns(label_set))]
    return pl.DataFrame(first, schema=dict(zip(_FIRST, types, strict=True))).with_columns(columns)


def product_record(product: TaggedProduct) -> dict[str, Any]:
    """Plain data for JSON."""
    record = as_record(product.prediction, product.id)
    return {"product": record.pop("photo"), **record, "photos": product.photos, "failed": product.failed}


def _columns(label_set: LabelSet) -> list[str]:
    return [f"prob.{label}" if label in _FIRST else label for label in label_set.ids]


def _write(out: TextIO, kind: Format, products: Sequence[TaggedProduct], label_set: LabelSet) -> None:
    if kind == "csv":
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow([*_FIRST, *_columns(label_set)])
        for id_, photos, failed, one in products:
            probs = [""] * len(label_set) if one.error else [f"{prob:.6f}" for prob in one.prob_array]
            rows.writerow([id_, *csv_cells(one), photos, failed, *probs])
        return
    for product in products:
        if kind == "jsonl":
            out.write(json.dumps(product_record(product), ensure_ascii=False) + "\n")
        else:
            out.write(f"{as_text(product.prediction, product.id)}\t{_counted(product.photos)}\n")


def _counted(photos: int) -> str:
    return f"{photos:,} photo{'' if photos == 1 else 's'}"
