"""The command export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modiste.cli.options import Json, Overwrite, Views, new_file
from modiste.cli.output import print_json
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.exporting.export import Written


def export(
    run: Annotated[Path, typer.Argument(help="Run or blend folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="ONNX file to write.")],
    overwrite: Overwrite = False,
    views: Views = None,
    card: Annotated[
        Path | None, typer.Option(help="Markdown file for the model card: licence, origin, limitations.")
    ] = None,
    check: Annotated[
        list[str] | None, typer.Option(help="Photos to compare probabilities on. Default: the model's own.")
    ] = None,
    int8: Annotated[
        list[str] | None, typer.Option(help="Quantize to int8, calibrated on these photos (at least 32).")
    ] = None,
    max_loss: Annotated[
        float | None, typer.Option(min=0, help="Largest loss of mAP through --int8, in points of 100. Default: 0.3.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a trained model as one ONNX file that holds all that tagging needs; PyTorch is not needed.

    The file's probabilities are compared with the run's on real photos; a file that differs is not kept. It can be
    used wherever a run folder can: modiste tag -m coat.onnx, modiste.load("coat.onnx").

    Examples:

        modiste export runs/coat -o coat.onnx

        modiste export runs/coat -o coat.onnx --views one --card licence.md

        modiste export runs/coat -o coat-int8.onnx --int8 photos/
    """
    from modiste.cli.progress import doing
    from modiste.exporting.export import Int8
    from modiste.exporting.export import export as make
    from modiste.inputs.arguments import files

    if output.suffix.lower() != ".onnx":
        raise UsageError.expected(f"{output} to end in .onnx", f"'{output.suffix}'", f"-o {output}.onnx")
    new_file(output, [card, *(check or []), *(int8 or [])], overwrite=overwrite)
    if max_loss is not None and not int8:
        raise UsageError.expected("--int8 PHOTOS beside --max-loss", "none", "adding it")
    compared = files(check) if check else None
    rounding = Int8(files(int8), Int8.most if max_loss is None else max_loss) if int8 else None
    with doing() as progress:
        written = make(
            run,
            output,
            views=views,
            words=_words(card),
            photos=compared,
            int8=rounding,
            overwrite=overwrite,
            progress=progress,
        )
    _show(output, written, as_json=as_json)


def _words(card: Path | None) -> str:
    """What people wrote for the card."""
    try:
        return "" if card is None else card.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError.expected(f"{card} to be a text", f"'{error}'", "a Markdown file") from error


def _show(output: Path, written: Written, *, as_json: bool) -> None:
    """Say what the file is like."""
    from modiste.cli.tables import print_export

    if as_json:
        left_out = ("labels", "decision", "card")
        facts = {key: value for key, value in written.exported.facts.items() if key not in left_out}
        known = {"file": str(output), "bytes": output.stat().st_size, **facts, "parity": written.parity._asdict()}
        print_json(known if written.rounded is None else {**known, "rounded": written.rounded.to_dict()})
    else:
        print_export(output, written)
