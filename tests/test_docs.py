"""What the documents say is there: commands, options, recipe keys, files, links, Python."""

import ast
import re
import runpy
import shlex
import types
from pathlib import Path
from typing import Literal, Union, get_args, get_origin

import pytest
import typer.main
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import modiste
from modiste.cli.app import app
from modiste.config import DEFAULT_RECIPE, Recipe, Stage, built_in

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCES = sorted((ROOT / "src" / "modiste").rglob("*.py"))
VERBS = {
    f"{name} {inner}".strip(): command
    for name, verb in typer.main.get_command(app).commands.items()
    for inner, command in getattr(verb, "commands", {"": verb}).items()
}
FIRST = {name.split()[0] for name in VERBS}
OPTIONS = {"--help"} | {
    option
    for verb in VERBS.values()
    for parameter in verb.params
    for option in (*parameter.opts, *parameter.secondary_opts)
}


def text(path):
    return path.read_text(encoding="utf-8")


def named(paths):
    return pytest.mark.parametrize("page", paths, ids=lambda path: str(path.relative_to(ROOT)))


def packages():
    """The packages that tests/test_imports.py puts in order, lowest first."""
    tests = text(ROOT / "tests" / "test_imports.py")
    return ast.literal_eval(re.search(r"^PACKAGES = (\[.*?\])", tests, re.MULTILINE | re.DOTALL)[1])[1:]


def blocks(page):
    """(language, content) of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)


def commands(page):
    """Command lines in fenced blocks, in indented lines, and after "Command:" in a recipe."""
    found = []
    code = [code for _, code in blocks(page)] + re.findall(r"^(?: {4}|# Command: +).*", text(page), re.MULTILINE)
    for line in re.sub(r"\\\n\s*", " ", "\n".join(code)).splitlines():
        match = re.match(r"(?:\$ | {4}|# Command: +)?(?:\S+/bin/|torchrun .*-m |python -m )?modiste (\w.*)", line)
        if match:
            found.append(re.split(r" (?:[|>;]|&&|#) ?", match[1])[0])
    return found


def test_the_commands_page_is_what_the_command_line_declares():
    made = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["page"]()
    assert text(ROOT / "docs" / "reference" / "commands.md") == made.rstrip("\n") + "\n", "run: make docs"


@named([*PAGES, *sorted((ROOT / "recipes").glob("*.toml"))])
def test_command_lines_parse(page):
    for line in commands(page):
        name, *words = shlex.split(line)
        if name not in VERBS and words:
            name, *words = f"{name} {words[0]}", *words[1:]
        assert name in VERBS, line
        given = VERBS[name].make_context(name, words).params  # raises where an option or value is unknown
        if name == "train" and given["resume"] is None:
            recipe = given["recipe"] or DEFAULT_RECIPE
            assert recipe in built_in() or recipe.endswith(".toml"), f"{line}: no recipe '{recipe}'"
            Recipe.read(recipe if recipe in built_in() else "jd2018").replace(given["assign"] or [])


@named(PAGES)
def test_options_in_the_text_exist(page):
    outside = re.sub(r"^```.*?^```", "", text(page), flags=re.MULTILINE | re.DOTALL)
    others = {"--version", "--install-completion", "--verbose", "--debug"}
    for code in re.findall(r"`([^`\n]+)`", outside):
        if not code.startswith(("modiste", "-")):
            continue
        for option in re.findall(r"(?<!\S)--?[a-z][a-z0-9-]*", code):
            assert option in OPTIONS | others, f"`{code}`"
        verb = re.match(r"modiste (\w+)", code)
        assert verb is None or verb[1] in FIRST, f"`{code}`"


@named(SOURCES)
def test_errors_recommend_what_exists(page):
    calls = [node for node in ast.walk(ast.parse(text(page))) if isinstance(node, ast.Call)]
    for call in [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "expected"]:
        for part in ast.walk(call):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                for option in re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", part.value):
                    assert option in OPTIONS, f"line {part.lineno}: {option}"
                for verb in re.findall(r"\bmodiste (\w+)", part.value):
                    assert verb in FIRST, f"line {part.lineno}: modiste {verb}"


@named([*PAGES, *SOURCES, ROOT / "Makefile", ROOT / "pyproject.toml"])
def test_files_that_are_named_exist(page):
    place = r"(?<![\w/.-])((?:src|recipes|docs|tests|benchmarks)/[\w/.-]*\w)"
    named_in = text(page) if page.suffix != ".md" else "\n".join(re.findall(r"`([^`\n]+)`", text(page)))
    for path in re.findall(place, named_in):
        placeholder = "NAME" in path  # a file that the reader is to write
        assert placeholder or (ROOT / path).exists(), path


@named(PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)) + re.findall(r'(?:src|href)="([^"]+)"', text(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = page.parent / path if path else page
        assert other.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", text(other), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads], target


@named(PAGES)
def test_python_in_documents_compiles_and_uses_public_names(page):
    for language, code in blocks(page):
        if language not in ("python", "py"):
            continue
        if ">>>" in code:
            code = "\n".join(re.findall(r"^(?:>>>|\.\.\.) ?(.*)$", code, re.MULTILINE))  # noqa: PLW2901
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "modiste":
                assert node.attr in modiste.__all__, f"modiste.{node.attr}"


def test_the_readme_begins_with_what_to_type():
    lines = text(ROOT / "README.md").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("```")]
    assert starts, "no code block"
    assert starts[0] < 20
    readme = "\n".join(lines)
    assert "make demo" in readme
    assert "make test" in readme


def test_the_table_of_slow_tests_names_their_files():
    table = text(ROOT / "CONTRIBUTING.md").partition("## What runs where")[2].partition("\n## ")[0]
    slow = {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/*/test_*.py") if "mark.slow" in text(path)}
    assert set(re.findall(r"`(tests/[\w/.]*)`", table)) == slow


def test_make_targets_in_documents_exist():
    targets = set(re.findall(r"^([a-z]+):", text(ROOT / "Makefile"), re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"(?:^|`)(?:\$ )?make ([a-z]+)", text(page), re.MULTILINE):
            assert target in targets, f"{page.name}: make {target}"


def test_the_design_has_a_row_for_each_package_that_says_what_its_docstring_says():
    table = text(ROOT / "docs" / "design.md").partition("Lowest first:")[2].partition("## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))
    assert list(rows) == packages()
    for name, row in rows.items():
        file = ROOT / "src" / "modiste" / name / "__init__.py"
        if file.is_file():
            head, _, enters, leaves = ast.get_docstring(ast.parse(text(file))).splitlines()
            said = [head, enters.removeprefix("In: "), leaves.removeprefix("Out: ")]
            assert row.split(" | ") == [line.rstrip(".") for line in said]


def test_the_picture_of_the_house_has_a_room_for_each_package_in_order():
    picture = text(ROOT / "docs" / "images" / "house.svg")
    floors = {}  # height on the page -> rooms from left to right
    for x, y, name in re.findall(r'class="name" x="(\d+)[\d.]*" y="(\d+)">(\w+)<', picture):
        floors.setdefault(-int(y), []).append((int(x), name))
    assert [name for _, rooms in sorted(floors.items()) for _, name in sorted(rooms)] == packages()


def test_thirty_questions_are_answered_by_the_package_names():
    rows = re.findall(r"^\| .*\? \| (.*) \| `(.*)` \| `(.*)` \|$", text(ROOT / "docs" / "where-is-it.md"), re.MULTILINE)
    assert len(rows) == 30
    for package, file, name in rows:
        path = ROOT / file
        assert path.parent == ROOT / "src" / "modiste" / package.strip("`").replace("(root)", "")
        defined = [getattr(node, "name", None) for node in ast.parse(text(path)).body]
        assert name in defined, f"{file} has no {name}"
    full = {name for name in packages() if (ROOT / "src" / "modiste" / name).is_dir()}
    assert {package.strip("`") for package, _, _ in rows} == {"(root)", *full}


def test_the_site_has_every_page_once():
    listed = re.findall(r"^ +- [\w ,]+\??: (\S+\.md)$", text(ROOT / "mkdocs.yml"), re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))


def test_the_recipe_page_has_every_key_with_its_type_and_default():
    page = text(ROOT / "docs" / "reference" / "recipes.md")
    top = {name: field for name, field in Recipe.model_fields.items() if name in ("name", "seed")}
    sections = {"At the top": top, "`[[stages]]`": Stage.model_fields}
    for name, field in Recipe.model_fields.items():
        if isinstance(field.default, BaseModel):
            sections[f"`[{name}]`"] = type(field.default).model_fields
    assert sorted(re.findall(r"^## (.*)$", page, re.MULTILINE)) == sorted(sections)
    for head, fields in sections.items():
        part = page.partition(f"\n## {head}\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^(\| `.*?)[^|]*\|$", part, re.MULTILINE)
        expected = [f"| `{name}` | {kind(field.annotation)} | {default(field)} |" for name, field in fields.items()]
        assert rows == expected


def kind(annotation):
    """A field's type in TOML's words."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return ", ".join(f'`"{value}"`' for value in parts).replace("|", "\\|")
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(kind(part) for part in parts)
    if get_origin(annotation) is tuple:
        if parts[-1] is Ellipsis:
            return "list of pairs of text" if get_origin(parts[0]) is tuple else "list of text"
        return f"list of {len(parts)} numbers"
    if hasattr(annotation, "__metadata__"):
        return kind(parts[0])
    return {str: "text", int: "whole number", float: "number", type(None): "none"}[annotation]


def default(field):
    if field.default is PydanticUndefined:
        return "the file's name" if field is Recipe.model_fields["name"] else "required"
    if field.default is None:
        return "none"
    value = field.default
    return f'`"{value}"`' if isinstance(value, str) else f"`{list(value) if isinstance(value, tuple) else value}`"
