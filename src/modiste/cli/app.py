"""The command line. Results go to stdout, progress and words to stderr; `--json` prints one JSON document.

Exit codes: 0 all well, 1 some photos failed (each named), 2 bad usage or input, 130 Ctrl-C, 141 whoever read the
output has gone (`| head -1`).
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from modiste.cli.blend import blend
from modiste.cli.cache import cache_app, list_cache, prune_cache
from modiste.cli.check import check
from modiste.cli.compare import compare
from modiste.cli.demo import demo
from modiste.cli.evaluate import evaluate
from modiste.cli.export import export
from modiste.cli.fetch import fetch
from modiste.cli.info import info
from modiste.cli.output import debugging, log_level, show_log
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


_CLOSED_PIPE = 141  # the exit code of programs that wrote into a closed pipe: 128 + SIGPIPE


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"modiste {version('modiste')}")
        raise typer.Exit


_LEVELS = {"--verbose": logging.INFO, "--debug": logging.DEBUG}  # options of every command


class Verb(TyperCommand):
    """A command that takes the options of all commands behind its name too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take them out of the arguments."""
        own = args[: args.index("--")] if "--" in args else args
        for option in filter(_LEVELS.__contains__, own):
            show_log(min(_LEVELS[option], log_level()))
        return super().parse_args(ctx, [word for word in own if word not in _LEVELS] + args[len(own) :])


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show version.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Say where a slower or simpler way is taken, and why.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="As --verbose, with tracebacks behind errors.")] = False,
) -> None:
    if verbose or debug:
        show_log(_LEVELS["--debug" if debug else "--verbose"])


for verb in (demo, fetch, check, split, train, compare, evaluate, tune, blend, tag, export, info):
    app.command(cls=Verb)(verb)
cache_app.command("ls", cls=Verb)(list_cache)
cache_app.command("prune", cls=Verb)(prune_cache)
app.add_typer(cache_app, name="cache")


def main() -> None:
    """Entry point: run a command, and turn errors into one sentence and an exit code."""
    show_log()
    out = sys.stdout
    try:
        try:
            app()
        finally:
            out.flush()  # else a pipe that was closed, or a full disk, would be met when Python ends
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):  # which typer and rich make a 1: "photos failed"
            raise
        _end_quietly()
    except BrokenPipeError:
        _end_quietly()
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _EXTRA:
            raise
        fix = f"{_install_command()}, or an exported file"
        _end(UsageError.expected("the packages of training", f"no {missing.name}", fix))
    except (ModisteError, OSError) as raised:  # OSError: a file that may not be read, a full disk behind stdout
        _end(raised if isinstance(raised, ModisteError) else _system_error(raised))


def _end(error: ModisteError) -> NoReturn:
    with suppress(BrokenPipeError):  # stderr may be the same pipe
        if debugging():
            traceback.print_exc()
        print(f"modiste: {error}", file=sys.stderr, flush=True)  # noqa: T201
    sys.exit(error.exit_code)


def _end_quietly() -> NoReturn:
    """End as other tools do where whoever read the output has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # takes what is still buffered when Python ends
    sys.exit(_CLOSED_PIPE)


def _install_command() -> str:
    """What installs the packages of training here: from the checkout that is running, or beside a wheel."""
    root = Path(__file__).parents[3]
    if not (root / "pyproject.toml").is_file():
        return "pip install 'modiste[train]'"
    checkout = "." if root == Path.cwd() else root
    return f"pip install -e '{checkout}[train]'"


def _system_error(error: OSError) -> ModisteError:
    return StorageError.expected(
        "the files and the output to be usable", f"'{error}'", "another path, or freeing space"
    )
