"""Tagged photos -> text, CSV, JSONL, Parquet or a submission of the JD AI Fashion Challenge."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

import numpy as np

from modiste.errors import UsageError
from modiste.files import replacing
from modiste.inference.photos import PhotoLike
from modiste.labels import LabelSet
from modiste.prediction import Prediction

if TYPE_CHECKING:  # imported where it is needed, as it takes a tenth of the time that one photo does
    import polars as pl


Format = Literal["text", "csv", "jsonl", "parquet", "jd"]


_FIRST = ("photo", "labels", "unsure", "review", "error")  # columns before those of the labels


class Tagged(NamedTuple):
    """A photo, its path or a file's bytes, and its prediction."""

    id: str
    source: PhotoLike
    prediction: Prediction


def choose_format(asked: Format | None, path: Path | None) -> Format:
    """The format asked for, else the one that the file's ending stands for, else text.

    Raises:
        UsageError: the ending stands for none, or Parquet is to go to the terminal.
    """
    known = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".txt": "text"}
    if asked is None and path is not None and path.suffix.lower() not in known:
        fix = "--format csv, or a folder without a dot in its name"
        raise UsageError.expected(f"{path} to end in {', '.join(known)}", f"'{path.suffix}'", fix)
    kind: Format = asked or ("text" if path is None else known[path.suffix.lower()])  # type: ignore[assignment]
    if kind == "parquet" and path is None:
        raise UsageError.expected("-o FILE for Parquet", "none", "-o tags.parquet")
    return kind


def write_tags(path: Path | None, kind: Format, photos: Iterable[Tagged], label_set: LabelSet) -> tuple[int, list[str]]:
    """Write predictions as they come, to stdout, or whole or not at all to `path`.

    Returns:
        How many photos there were, and the errors of those that failed.
    """
    errors: list[str] = []
    count = 0

    def watched() -> Iterator[Tagged]:
        nonlocal count
        for photo in photos:
            count += 1
            if photo.prediction.error is not None:
                errors.append(photo.prediction.error)
            yield photo

    if path is None:
        _WRITERS[kind](sys.stdout, watched(), label_set)
        return count, errors
    if kind == "parquet":
        import polars as pl

        with replacing(path, pl.exceptions.ComputeError) as temporary:
            as_frame(watched(), label_set).write_parquet(temporary)
    else:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
            _WRITERS[kind](out, watched(), label_set)
    return count, errors


def as_frame(photos: Iterable[Tagged], label_set: LabelSet) -> pl.DataFrame:
    """A row a photo: photo, labels and unsure (lists), review, error, and for each label its probabilities as float32.

    The column of a label that is called as one of the first five is prob.<label>.
    """
    import polars as pl

    first, probs = [], []
    for id_, _, one in photos:
        first.append((id_, list(one.labels), list(one.unsure), one.review, one.error))
        probs.append(one.prob_array)
    types = (pl.String(), pl.List(pl.String()), pl.List(pl.String()), pl.Boolean(), pl.String())
    frame = pl.DataFrame(first, schema=dict(zip(_FIRST, types, strict=True)), orient="row")
    table = np.array(probs, dtype=np.float32).reshape(-1, len(label_set))
    names = label_columns(label_set)
    return frame.with_columns([pl.Series(name, table[:, k]).fill_nan(None) for k, name in enumerate(names)])


def label_columns(label_set: LabelSet) -> list[str]:
    """Names of the columns of probabilities."""
    return [f"prob.{label}" if label in _FIRST else label for label in label_set.ids]


def as_record(prediction: Prediction, id_: str) -> dict[str, Any]:
    """Plain data for JSON."""
    probs = {} if prediction.error else {label: round(prob, 6) for label, prob in prediction.probs.items()}
    said = {"labels": list(prediction.labels), "unsure": list(prediction.unsure), "review": prediction.review}
    return {"photo": id_, **said, "probs": probs, "error": prediction.error}


def as_text(prediction: Prediction, id_: str) -> str:
    """One line for a person: the photo and its labels, the surest first, and what groups are unsure."""
    return f"{id_}\t{prediction.words if prediction.error is None else f'error: {prediction.error}'}"


def csv_cells(prediction: Prediction) -> list[str]:
    """Cells of labels, unsure, review and error."""
    said = "|".join(prediction.labels), "|".join(prediction.unsure), str(prediction.review).lower()
    return [*said, prediction.error or ""]


def _write_csv(out: TextIO, photos: Iterator[Tagged], label_set: LabelSet) -> None:
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow([*_FIRST, *label_columns(label_set)])
    for id_, _, prediction in photos:
        probs = [""] * len(label_set) if prediction.error else [f"{prob:.6f}" for prob in prediction.prob_array]
        rows.writerow([id_, *csv_cells(prediction), *probs])


def _write_jsonl(out: TextIO, photos: Iterator[Tagged], label_set: LabelSet) -> None:
    for id_, _, prediction in photos:
        out.write(json.dumps(as_record(prediction, id_), ensure_ascii=False) + "\n")


def _write_text(out: TextIO, photos: Iterator[Tagged], label_set: LabelSet) -> None:
    for id_, _, prediction in photos:
        out.write(as_text(prediction, id_) + "\n")


def _write_jd(out: TextIO, photos: Iterator[Tagged], label_set: LabelSet) -> None:
    """The challenge's submission: a photo that can't be read gets no style, since every id must stand in it."""
    from modiste.data.formats.jd2018 import format_submission

    jd2018 = LabelSet.read("jd2018")
    if label_set.ids != jd2018.ids:
        raise UsageError.expected(
            "a model of the 13 styles of jd2018 for --format jd",
            f"labels {label_set.ids[:3]}...",
            "csv, jsonl or parquet",
        )
    ids, decisions = [], []
    for id_, _, prediction in photos:
        ids.append(Path(id_).stem)
        decisions.append([int(label in prediction.labels) for label in label_set.ids])
    out.write(format_submission(ids, np.array(decisions, dtype=np.int8)))


_WRITERS: dict[str, Callable[[TextIO, Iterator[Tagged], LabelSet], None]] = {
    "text": _write_text,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "jd": _write_jd,
}
