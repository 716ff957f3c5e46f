"""The command line. Results go to stdout, progress and words to stderr; `--json` prints one JSON document.

Exit codes: 0 all well, 1 some photos failed (each named), 2 bad usage or input.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from modiste.cli.blend import blend
from modiste.cli.cache import cache_app
from modiste.cli.check import check
from modiste.cli.compare import compare
from modiste.cli.demo import demo
from modiste.cli.evaluate import evaluate
from modiste.cli.export import export
from modiste.cli.fetch import fetch
from modiste.cli.info import info
from modiste.cli.output import first_process
from modiste.cli.split import split
from modiste.cli.tag import tag
from modiste.cli.train import train
from modiste.cli.tune import tune
from modiste.errors import ModisteError, StorageError, UsageError

_EXTRA = {  # packages of the extra "train"
    "lightning_fabric",
    "matplotlib",
    "onnx",
    "onnxscript",
    "safetensors",
    "tensorboard",
    "timm",
    "torch",
    "torchvision",
}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Teach a network the attributes of a clothing catalogue, and tag every photo with them.\n\n"
    "Start with `modiste demo`: it needs no data and no network.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"modiste {version('modiste')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show version.")] = False,
) -> None:
    pass


for verb in (demo, fetch, check, split, train, compare, evaluate, tune, blend, tag, export, info):
    app.command()(verb)
app.add_typer(cache_app, name="cache")


def main() -> None:
    """Entry point: run a command, and turn errors into one sentence and an exit code."""
    try:
        app()
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _EXTRA:
            raise
        fix = "pip install 'modiste[train]', or an exported file"
        _end(UsageError.expected("the packages of training", f"no {missing.name}", fix))
    except (ModisteError, OSError) as raised:  # OSError: a file that may not be read, a full disk behind stdout
        _end(raised if isinstance(raised, ModisteError) else _system_error(raised))


def _end(error: ModisteError) -> NoReturn:
    if first_process():
        print(f"modiste: {error}", file=sys.stderr)  # noqa: T201
    sys.exit(error.exit_code)


def _system_error(error: OSError) -> ModisteError:
    return StorageError.expected(
        "the files and the output to be usable", f"'{error}'", "another path, or freeing space"
    )
