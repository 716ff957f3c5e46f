"""Rows of products -> rows of photos: Shopify's export, Google Merchant's feed, several URLs in one cell.

A product's id becomes the group of its photos, so that no product is torn over splits; each photo gets an id of its
own, and what stands in the product's row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from modiste.data.cells import is_bracketed, spelt_list
from modiste.data.table import column_key
from modiste.words import counted

Cells = Sequence[Any]  # of one row: str or list[str]; what stands behind the columns is handed on

_BETWEEN = re.compile(r"[\s,;|]+(?=https?://)", re.IGNORECASE)
# A cell with more than one URL, or with a list of URLs spelt out.
SEVERAL = r"(?i)^\s*(?:[\[({]\s*['\"]\s*https?://|https?://\S*?[\s,;|]+https?://)"
_OF_A_PHOTO = ("option", "variant", "image", "cost per item")  # beginnings of Shopify's columns that no product has

_OF_A_SHOP = ("published", "gift card", "status", "included", "seo", "price", "unit price")  # of its columns, no labels
NO_LABELS = (*_OF_A_PHOTO, *_OF_A_SHOP)  # beginnings of columns of 1 and 0 that say nothing of what a photo shows


@dataclass(frozen=True)
class PhotoRows:
    """How rows of products become rows of photos.

    Attributes:
        columns: of the rows of photos.
        roles: roles that the format settles.
        expand: rows -> rows; adds to a list what was left out.
        facts: columns that are no labels.
    """

    columns: tuple[str, ...]
    roles: dict[str, str]
    expand: Callable[[Iterable[Cells], list[str]], Iterator[list[Any]]]
    facts: tuple[str, ...] = ()


def photo_rows(columns: Sequence[str], holds_several: Callable[[str], bool], url: str | None) -> PhotoRows | None:
    """How a table's rows become rows of photos; None where they are.

    Args:
        columns: of the table.
        holds_several: whether a column has cells that `SEVERAL` matches.
        url: the column of URLs.
    """
    named = {column_key(name): name for name in columns}
    if {"handle", "image_src"} <= set(named):
        return _shopify(columns, named["handle"], named["image_src"])
    if "image_link" in named:
        return _merchant(columns, named)
    if url is not None and holds_several(url):
        return _several(columns, url, None)
    return None


def _shopify(columns: Sequence[str], handle: str, source: str) -> PhotoRows:
    at, photo, own = columns.index(handle), columns.index(source), "id" in columns
    inherited = [k for k, name in enumerate(columns) if not name.lower().startswith(_OF_A_PHOTO)]
    roles = {"url": source, "group": handle}

    def expand(rows: Iterable[Cells], notes: list[str]) -> Iterator[list[Any]]:
        product: Cells = ()
        number = without = 0
        for row in rows:
            cells = list(row)
            if product and cells[at] == product[at]:
                for k in inherited:
                    cells[k] = cells[k] or product[k]
            else:
                product, number = row, 0
            if not cells[photo]:
                without += 1
                continue
            number += 1
            yield cells if own else [f"{cells[at]}-{number}", *cells]
        if without:
            rows_are = "1 row of a variant has" if without == 1 else f"{without:,} rows of variants have"
            notes.append(f"{rows_are} no '{source}': left out.")

    facts = tuple(name for name in columns if name.lower().startswith(NO_LABELS))
    # With ids they are rows of photos already, as fetch writes them.
    return PhotoRows(tuple(columns) if own else ("id", *columns), roles, expand, facts)


def _merchant(columns: Sequence[str], named: dict[str, str]) -> PhotoRows:
    group = named.get("item_group_id")
    return _several(columns, named["image_link"], named.get("additional_image_link"), group)


def _several(columns: Sequence[str], url: str, more: str | None, group: str | None = None) -> PhotoRows:
    lower = {name.lower(): name for name in columns}
    first, further = columns.index(url), None if more is None else columns.index(more)
    id_ = lower.get("id")
    product = group or lower.get("product")
    add = product is None and id_ is not None
    roles = {"url": url} | ({"group": product or "product"} if product or add else {})
    at = None if id_ is None else columns.index(id_)

    def expand(rows: Iterable[Cells], notes: list[str]) -> Iterator[list[Any]]:
        gained = 0
        for row in rows:
            urls = [*split_urls(row[first]), *(() if further is None else split_urls(row[further]))] or [""]
            gained += len(urls) - 1
            for number, one in enumerate(urls, 1):
                cells = list(row)
                cells[first] = one
                if further is not None:
                    cells[further] = ""
                if at is not None and number > 1:
                    cells[at] = f"{row[at]}-{number}"
                yield [row[at], *cells] if add and at is not None else cells
        if gained:
            notes.append(f"{counted(gained, 'further photo')} of a product in one row: each has a row of its own.")

    return PhotoRows(("product", *columns) if add else tuple(columns), roles, expand)


def split_urls(cell: Any) -> list[str]:
    """The URLs of a cell."""
    if isinstance(cell, list):
        return [one for one in cell if one]
    if is_bracketed(cell):
        return spelt_list(cell) or [cell]
    parts = _BETWEEN.split(cell.strip()) if cell[:4].lower() == "http" else [cell]
    return [part.strip().rstrip(",;|") if len(parts) > 1 else part for part in parts if part]
