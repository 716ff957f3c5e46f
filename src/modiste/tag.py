"""Bulk tagging: files, folders, globs and manifests in; CSV, JSONL, Parquet or a submission out."""

from __future__ import annotations

import csv
import glob
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
import polars as pl

from modiste.challenge import format_submission
from modiste.config import DataConfig
from modiste.errors import UsageError
from modiste.labels import LabelSet
from modiste.manifest import Manifest
from modiste.predict import Prediction
from modiste.storage import replacing
from modiste.tables import PHOTO_SUFFIXES

Format = Literal["text", "csv", "jsonl", "parquet", "jd"]
_MANIFESTS = {".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".txt"}


def find_photos(arguments: Sequence[str], labels: LabelSet, config: DataConfig) -> tuple[list[str], list[Path]]:
    """Ids and paths of all photos that the arguments name, in order: files, folders, globs, manifests.

    A folder is searched through all its folders, by name; of a photo outside a manifest the path is the id.

    Raises:
        UsageError: an argument names nothing.
    """
    ids: list[str] = []
    paths: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_file() and path.suffix.lower() in _MANIFESTS:
            manifest = Manifest.read(path, config, labels)
            ids += manifest.frame["id"].to_list()
            paths += manifest.photos()
            continue
        found = _expand(argument)
        ids += [str(photo) for photo in found]
        paths += found
    return ids, paths


def _expand(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file())
        if not found:
            raise UsageError.expected(f"photos in folder {argument}", "none", "a folder of JPEG, PNG or WebP files")
        return found
    if path.exists() or not glob.has_magic(argument):
        return [path]  # a missing photo is an error of its own, beside the others
    matched = sorted(p for p in map(Path, glob.glob(argument, recursive=True)) if p.is_file())  # noqa: PTH207  Path has no absolute globs
    if not matched:
        raise UsageError.expected(f"files that match '{argument}'", "none", "another pattern")
    return matched


def choose_format(asked: Format | None, path: Path | None) -> Format:
    """The format asked for, else the one that the file's ending stands for, else text.

    Raises:
        UsageError: the ending stands for none, or Parquet is to go to the terminal.
    """
    known = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".txt": "text"}
    if asked is None and path is not None and path.suffix.lower() not in known:
        raise UsageError.expected(f"{path} to end in {', '.join(known)}", f"'{path.suffix}'", "--format csv")
    kind: Format = asked or ("text" if path is None else known[path.suffix.lower()])  # type: ignore[assignment]
    if kind == "parquet" and path is None:
        raise UsageError.expected("-o FILE for Parquet", "none", "-o tags.parquet")
    return kind


def write_tags(
    path: Path | None, kind: Format, ids: Sequence[str], predictions: Iterable[Prediction], labels: LabelSet
) -> list[str]:
    """Write predictions as they come, to stdout, or whole or not at all to `path`; gives the errors of failed ones."""
    errors: list[str] = []

    def watched() -> Iterator[Prediction]:
        for prediction in predictions:
            if prediction.error is not None:
                errors.append(prediction.error)
            yield prediction

    if path is None:
        _WRITERS[kind](sys.stdout, ids, watched(), labels)
        return errors
    with replacing(path, pl.exceptions.ComputeError) as temporary:
        if kind == "parquet":
            _write_parquet(temporary, ids, watched(), labels)
        else:
            with temporary.open("w", encoding="utf-8", newline="") as out:
                _WRITERS[kind](out, ids, watched(), labels)
    return errors


def as_record(prediction: Prediction, id_: str) -> dict[str, Any]:
    """Plain data for JSON."""
    scores = {} if prediction.error else {label: round(score, 6) for label, score in prediction.scores.items()}
    return {"photo": id_, "labels": list(prediction.labels), "scores": scores, "error": prediction.error}


def as_text(prediction: Prediction, id_: str) -> str:
    """One line for a person: the photo and its labels, the surest first."""
    if prediction.error is not None:
        return f"{id_}\terror: {prediction.error}"
    chosen = sorted(prediction.labels, key=lambda label: -prediction.scores[label])
    return f"{id_}\t" + ", ".join(f"{label} {prediction.scores[label]:.2f}" for label in chosen)


def _write_csv(out: TextIO, ids: Sequence[str], predictions: Iterator[Prediction], labels: LabelSet) -> None:
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["photo", "labels", "error", *labels.ids])
    for id_, prediction in zip(ids, predictions, strict=True):
        scores = [""] * len(labels) if prediction.error else [f"{prob:.6f}" for prob in prediction.probs]
        rows.writerow([id_, "|".join(prediction.labels), prediction.error or "", *scores])


def _write_jsonl(out: TextIO, ids: Sequence[str], predictions: Iterator[Prediction], labels: LabelSet) -> None:
    for id_, prediction in zip(ids, predictions, strict=True):
        out.write(json.dumps(as_record(prediction, id_), ensure_ascii=False) + "\n")


def _write_text(out: TextIO, ids: Sequence[str], predictions: Iterator[Prediction], labels: LabelSet) -> None:
    for id_, prediction in zip(ids, predictions, strict=True):
        out.write(as_text(prediction, id_) + "\n")


def _write_parquet(path: Path, ids: Sequence[str], predictions: Iterator[Prediction], labels: LabelSet) -> None:
    said = list(predictions)
    probs = np.stack([prediction.probs for prediction in said])
    frame = pl.DataFrame(
        {
            "photo": list(ids),
            "labels": [list(prediction.labels) for prediction in said],
            "error": [prediction.error for prediction in said],
        },
        schema={"photo": pl.String, "labels": pl.List(pl.String), "error": pl.String},
    ).with_columns([pl.Series(label, probs[:, k]).fill_nan(None) for k, label in enumerate(labels.ids)])
    frame.write_parquet(path)


def _write_jd(out: TextIO, ids: Sequence[str], predictions: Iterator[Prediction], labels: LabelSet) -> None:
    """The challenge's submission: a photo that can't be read gets no style, since every id must stand in it."""
    jd2018 = LabelSet.read("jd2018")
    if labels.ids != jd2018.ids:
        raise UsageError.expected(
            "a model of the 13 styles of jd2018 for --format jd", f"labels {labels.ids[:3]}...", "csv, jsonl or parquet"
        )
    decisions = [[int(label in prediction.labels) for label in labels.ids] for prediction in predictions]
    out.write(format_submission([Path(id_).stem for id_ in ids], np.array(decisions, dtype=np.int8)))


_WRITERS: dict[str, Callable[[TextIO, Sequence[str], Iterator[Prediction], LabelSet], None]] = {
    "text": _write_text,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "jd": _write_jd,
}
