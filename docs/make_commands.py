"""Write docs/reference/commands.md from the command line's own declarations: `make docs`."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import typer.main

from modiste.cli.app import app

PAGE = Path(__file__).with_name("reference") / "commands.md"
HEAD = r"""# Commands

Made by `make docs` from the command line itself. Results go to stdout; progress and words go to stderr.
`--json` prints one JSON document instead of a table.

| exit code | meaning |
|---|---|
| 0 | all well |
| 1 | photos failed; each is named |
| 2 | bad usage or input; one sentence says what to try |
| 130 | stopped by Ctrl-C |
| 141 | whoever read the output has gone, as in `\| head -1` |

Every command takes `--verbose`, which says where a slower or simpler way is taken and why, and `--debug`, which also
shows tracebacks behind errors. Where stderr is no terminal, a line every 30 seconds says how far long work is.

`modiste --version` shows the version, `modiste --install-completion` teaches the shell to complete words.
"""


def page() -> str:
    """The whole page; the same on every terminal."""
    commands: Any = typer.main.get_command(app)
    return HEAD + "".join(_section(name, command) for name, command in _verbs(commands))


def _verbs(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its name, those of groups too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _verbs(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def _section(name: str, command: Any) -> str:
    values = get_type_hints(inspect.unwrap(command.callback))
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    words = [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments]
    return "\n".join(
        [
            f"\n## {name}\n",
            f"`{' '.join(['modiste', name, *words, '[OPTIONS]'])}`\n",
            command.help.strip() + "\n",
            *_table(["argument", "meaning"], [[f"`{p.name.upper()}`", p.help] for p in arguments]),
            *_table(["option", "value", "default", "meaning"], [_option(p, values[p.name]) for p in options]),
        ]
    )


def _option(option: Any, value: Any) -> list[str]:
    default = "required" if option.required else "" if option.default in (None, False) else f"`{option.default}`"
    default = "on" if option.default is True else default
    return [
        ", ".join(f"`{word}`" for word in (*option.opts, *option.secondary_opts)),
        _value(value),
        default,
        option.help,
    ]


def _value(kind: Any) -> str:
    """What stands behind an option, in words: its choices, or its type."""
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" if choice.strip() else "a space" for choice in get_args(kind))
    if get_origin(kind) is list:
        return "text, may repeat"
    return {bool: "", int: "whole number", float: "number", Path: "path"}.get(kind, "text")


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    if not rows:
        return []
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


if __name__ == "__main__":
    PAGE.write_text(page().rstrip("\n") + "\n", encoding="utf-8")
