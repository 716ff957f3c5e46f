"""The command export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modiste.cli.options import Json, Overwrite, Views, new_file
from modiste.cli.output import print_json
from modiste.errors import UsageError


def export(
    run: Annotated[Path, typer.Argument(help="Run or blend folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="ONNX file to make.")],
    overwrite: Overwrite = False,
    views: Views = None,
    card: Annotated[
        Path | None, typer.Option(help="Markdown for the model card: licence, origin, what it can't do.")
    ] = None,
    check: Annotated[
        list[str] | None, typer.Option(help="Photos to compare the file on. Default: the model's own.")
    ] = None,
    int8: Annotated[
        list[str] | None, typer.Option(help="Round to eight bits, calibrated on these photos: 32 at least.")
    ] = None,
    max_loss: Annotated[
        float | None, typer.Option(min=0, help="mAP points, of 100, that --int8 may cost. Default: 0.3.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a trained model as one ONNX file that carries everything, and needs no PyTorch.

    The file is compared with the run on real photos; one that says something else is not kept. It opens wherever
    a run folder does: modiste tag -m coat.onnx, modiste.load("coat.onnx").

    Examples:

        modiste export runs/coat -o coat.onnx

        modiste export runs/coat -o coat.onnx --views one --card licence.md

        modiste export runs/coat -o coat-int8.onnx --int8 photos/
    """
    from modiste.cli.progress import doing
    from modiste.cli.tables import print_export
    from modiste.exporting.export import Int8
    from modiste.exporting.export import export as make
    from modiste.inputs.arguments import files

    try:
        words = "" if card is None else card.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError.expected(f"{card} to be a text", f"'{error}'", "a Markdown file") from error
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
            words=words,
            photos=compared,
            int8=rounding,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        left_out = ("labels", "decision", "card")
        facts = {key: value for key, value in written.exported.facts.items() if key not in left_out}
        known = {"file": str(output), "bytes": output.stat().st_size, **facts, "parity": written.parity._asdict()}
        print_json(known if written.rounded is None else {**known, "rounded": written.rounded.to_dict()})
    else:
        print_export(output, written)
