"""The products of a bulk job, from its parts: a row a product, as `modiste tag --by` has them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from modiste.inference.parts import part_numbers, part_path, read_part
from modiste.inference.predictor import BasePredictor
from modiste.inference.products import ProductPool, write_products
from modiste.inference.writers import label_columns
from modiste.inputs.arguments import Inputs

PRODUCTS = "products.parquet"


def write_job_products(folder: Path, stock: Inputs, predictor: BasePredictor) -> int:
    """Write products.parquet, in the order of the first photos of products in the tables -> how many there are.

    Args:
        folder: of a job whose parts hold all photos.
        stock: the photos, with their products.
        predictor: what tagged them.

    Raises:
        RunError: a part can't be read.
        StorageError: the file can't be written.
    """
    label_set = predictor.label_set
    columns = label_columns(label_set)
    parts = [read_part(part_path(folder, number), ["photo", "error", *columns]) for number in part_numbers(folder)]
    shown = pl.DataFrame(
        ((photo.id, photo.product) for photo in stock.items()),
        schema={"photo": pl.String, "product": pl.String},
        orient="row",
    )
    photos = _numbered(shown).join(_numbered(pl.concat(parts)), on=["photo", "n"], maintain_order="left")
    pool = ProductPool()
    rows = photos.select("photo", "product", "error").iter_rows()
    for (photo, product, error), probs in zip(rows, photos.select(columns).to_numpy(), strict=True):
        pool.add(photo, product, error or probs)
    products = pool.decided(predictor.decision, label_set)
    write_products(folder / PRODUCTS, "parquet", products, label_set)
    return len(products)


def _numbered(photos: pl.DataFrame) -> pl.DataFrame:
    """With `n`: several rows may have one name."""
    return photos.with_columns(n=pl.int_range(pl.len()).over("photo"))
