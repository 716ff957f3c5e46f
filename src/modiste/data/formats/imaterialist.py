"""Annotation files of the iMaterialist challenges (2018): images with URLs, and the numbers of their labels."""

from __future__ import annotations

from typing import Any

import polars as pl


def is_imaterialist(content: dict[str, Any]) -> bool:
    """Whether a JSON document is one."""
    images = content.get("images")
    first = images[0] if isinstance(images, list) and images else {}
    return isinstance(first, dict) and bool({"imageId", "image_id"} & set(first)) and "url" in first


def imaterialist_frame(content: dict[str, Any]) -> pl.DataFrame:
    """Columns id, url and labels: the numbers of an image's labels, as words."""
    labels: dict[str, list[str]] = {}
    for one in content.get("annotations", []):
        numbers = one.get("labelId", one.get("label_id", []))
        key = str(one.get("imageId", one.get("image_id")))
        labels[key] = labels.get(key, []) + [str(n) for n in (numbers if isinstance(numbers, list) else [numbers])]
    rows = []
    for image in content["images"]:
        key, url = str(image.get("imageId", image.get("image_id"))), image["url"]
        rows.append(
            {"id": key, "url": str(url[0] if isinstance(url, list) and url else url), "labels": labels.get(key)}
        )
    return pl.DataFrame(rows, schema={"id": pl.String, "url": pl.String, "labels": pl.List(pl.String)})
