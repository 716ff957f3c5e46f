"""COCO's annotation files (Lin et al. 2014): images, categories and annotations, joined by their ids."""

from __future__ import annotations

from typing import Any

import polars as pl

from modiste.errors import ManifestError


def is_coco(content: dict[str, Any]) -> bool:
    """Whether a JSON document is one."""
    annotations = content.get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else {}
    return isinstance(content.get("images"), list) and isinstance(first, dict) and "category_id" in first


def coco_frame(content: dict[str, Any], path: object) -> pl.DataFrame:
    """Columns id, path, where given url, and category: the names of all categories that an image has.

    Raises:
        ManifestError: an annotation names an image or a category that isn't there.
    """
    names = {one.get("id"): str(one.get("name")) for one in content.get("categories", [])}
    found: dict[Any, set[str]] = {image.get("id"): set() for image in content["images"]}
    for annotation in content["annotations"]:
        image, category = annotation.get("image_id"), annotation.get("category_id")
        if image not in found:
            raise ManifestError.expected(
                f"annotations of {path} to name its images", f"image_id {image}", "correcting it"
            )
        if category not in names:
            got = f"category_id {category}"
            raise ManifestError.expected(f"annotations of {path} to name its categories", got, "correcting it")
        found[image].add(names[category])
    rows = [
        {
            "id": str(image.get("id")),
            "path": str(image.get("file_name") or ""),
            "url": str(image.get("coco_url") or image.get("flickr_url") or ""),
            "category": sorted(found[image.get("id")]),
        }
        for image in content["images"]
    ]
    schema: dict[str, Any] = {"id": pl.String, "path": pl.String, "url": pl.String, "category": pl.List(pl.String)}
    frame = pl.DataFrame(rows, schema=schema)
    return frame if (frame["url"] != "").any() else frame.drop("url")
