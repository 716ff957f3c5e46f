"""What `modiste tag --by COLUMN` does: one answer a product."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modiste.cli.output import name_failures, print_json
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.inference.predictor import BasePredictor
    from modiste.inference.writers import Format
    from modiste.inputs.arguments import InputPhoto, Inputs


class ProductAnswer(NamedTuple):
    """Where products go, and how: a file, stdout, or with the model's name one JSON document."""

    output: Path | None
    kind: Format
    json_model: str | None


def check_product_options(photos: Sequence[str], kind: str | None, *, explain: Path | None, in_folder: bool) -> None:
    """Refuse what there is of photos, but not of products, and what a folder keeps without its products."""
    from modiste.inputs.arguments import STDIN

    for option, given in {"--explain": explain is not None, "--format jd": kind == "jd"}.items():
        if given:
            raise UsageError.expected(f"--by without {option}", "both", "-o products.csv")
    if in_folder and STDIN in photos:
        raise UsageError.expected("a table in a file for --by with a folder as -o", "standard input", "its path")


def write_by_product(
    inputs: Inputs,
    predictor: BasePredictor,
    answer: ProductAnswer,
    fetch: Callable[[Iterable[InputPhoto]], Iterator[InputPhoto]],
) -> None:
    """Tag all photos, then write a row a product into one file, or on stdout."""
    from modiste.cli.progress import counting
    from modiste.cli.workflows import show_notes
    from modiste.inference.products import product_record, tag_products, write_products

    with counting("tagging") as progress:
        total = inputs.count()
        show_notes(inputs.notes())
        found = tag_products(fetch(inputs.items()), predictor, lambda done: progress(done, max(total, done)))
        if answer.json_model is None:
            write_products(answer.output, answer.kind, found.products, predictor.label_set)
    if answer.json_model is not None:
        print_json({"model": answer.json_model, "products": [product_record(one) for one in found.products]})
    name_failures(found.errors, found.photos)
