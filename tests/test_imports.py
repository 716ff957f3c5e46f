"""Packages import downwards only, modules never in a circle, and what tags without torch imports no torch."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from PIL import Image

import modiste

SOURCE = Path(modiste.__file__).parent

# A package imports only from rows above it. The rows without files yet are rooms for what comes next.
PACKAGES = [
    "",  # errors, labels, config, files, prediction
    "storage",
    "data",
    "metrics",
    "pages",
    "fetching",
    "inputs",
    "decisions",
    "audit",
    "inference",
    "search",
    "review",
    "models",  # torch from here on
    "runs",
    "training",
    "serving",
    "exporting",
    "evaluation",
    "scale",
    "experiments",
    "demo",
    "cli",
]
EMPTY = {"search", "review", "serving", "scale"}
TORCH = {"torch", "timm", "torchvision", "lightning_fabric", "safetensors", "onnx", "onnxscript"}
# Packages below "models" never import torch; of those after it these do so only inside functions.
LIGHT = {*PACKAGES[: PACKAGES.index("models")], "runs", "serving", "cli", "demo"}
ENTRANCES = {"__init__", "__main__"}  # the public names and `python -m modiste`, which may import everything

HELP = "from typer.testing import CliRunner; from modiste.cli.app import app; CliRunner().invoke(app, [{}])"


def modules():
    """Each module of modiste, without "modiste.", and its file."""
    files = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in SOURCE.rglob("*.py")}
    return {name: path for name, path in files.items() if name not in ENTRANCES}


MODULES = modules()


def package(module: str) -> str:
    return module.partition(".")[0] if module.count(".") else ("" if (SOURCE / f"{module}.py").is_file() else module)


def imports(path: Path, *, top: bool = False) -> set[str]:
    """What a file imports, with full names; `top` leaves out imports inside functions and for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree)
    if top:
        nodes = (
            inner
            for node in tree.body
            if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
            and not isinstance(node, ast.FunctionDef | ast.ClassDef)
            for inner in ast.walk(node)
        )
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(path: Path, *, top: bool = False) -> set[str]:
    """The modiste modules that a file imports."""
    found = set()
    for name in imports(path, top=top):
        if name.startswith("modiste."):
            inner = name.removeprefix("modiste.")
            found.add(inner if inner in MODULES else inner.rpartition(".")[0])
    return found & set(MODULES)


def test_every_folder_is_a_row():
    folders = {path.relative_to(SOURCE).parts[0] for path in SOURCE.rglob("*/*.py")}
    assert folders == set(PACKAGES) - EMPTY - {""}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_package_imports_only_from_rows_above_it(module):
    place = PACKAGES.index(package(module))
    for other in own(MODULES[module]):
        assert PACKAGES.index(package(other)) <= place, f"{module} imports {other}"


def test_no_module_imports_in_a_circle():
    graph = {name: own(path, top=True) - {name} for name, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(MODULES)


@pytest.mark.parametrize("module", sorted(name for name in MODULES if package(name) in LIGHT))
def test_light_packages_import_torch_only_inside_functions(module):
    below = PACKAGES.index(package(module)) < PACKAGES.index("models")
    found = {name.partition(".")[0] for name in imports(MODULES[module], top=not below)}
    assert not TORCH & found


def test_each_package_says_what_enters_and_what_leaves():
    for name in set(PACKAGES) - EMPTY - {""}:
        words = ast.get_docstring(ast.parse((SOURCE / name / "__init__.py").read_text(encoding="utf-8")))
        head, blank, *lines = words.splitlines()
        assert head.endswith("."), name
        assert not blank, name
        assert [line.partition(":")[0] for line in lines] == ["In", "Out"], name


def loaded_by(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


@pytest.mark.parametrize(
    "code",
    [
        "import modiste",
        HELP.format("'train', '--help'"),
        "import " + ", ".join(f"modiste.{name}" for name in MODULES if package(name) in LIGHT - {"pages", "demo"}),
    ],
)
def test_no_torch_where_none_is_needed(code):
    assert not {"torch", "timm", "torchvision", "matplotlib", "lightning_fabric"} & loaded_by(code)


def test_help_imports_nothing_heavy():
    code = HELP.format("'--help'")
    assert not {"torch", "numpy", "polars", "pydantic", "PIL"} & loaded_by(code)


def test_tagging_a_photo_loads_neither_torch_nor_the_statistics(tmp_path):
    Image.new("RGB", (40, 40), "navy").save(tmp_path / "coat.png")
    modules = loaded_by(HELP.format(f"'tag', {str(tmp_path / 'coat.png')!r}, '--json'"))
    assert "onnxruntime" in modules
    assert not {"torch", "polars", "scipy", "sklearn", "matplotlib"} & modules
    assert not {name for name in modules if name.startswith("modiste.metrics")}


WITHOUT_TRAINING = "\n".join(f"sys.modules[{name!r}] = None" for name in sorted(TORCH | {"matplotlib", "tensorboard"}))


def run(code: str) -> str:
    program = f"import sys\n{WITHOUT_TRAINING}\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_every_public_name_is_there_without_the_extra():
    said = run("import inspect, modiste; print(*(name for name, _ in inspect.getmembers(modiste)))")
    assert set(modiste.__all__) <= set(said.split())
    said = run("import modiste; help(modiste)")
    assert all(name in said for name in modiste.__all__)


def test_what_needs_the_extra_says_so_when_it_is_called():
    code = "import modiste\nfrom modiste import train\ntry: train('a')\nexcept modiste.ModisteError as e: print(e)"
    assert run(code).startswith("Expected the packages that modiste.train needs, but got no torch. Try pip install")


def test_public_names_are_sorted_and_there():
    assert modiste.__all__ == sorted(modiste.__all__)
    for name in modiste.__all__:
        assert getattr(modiste, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        modiste.nothing  # noqa: B018


def test_no_package_is_called_like_a_public_name():
    assert not set(modiste.__all__) & {*PACKAGES, *MODULES}


def test_tests_mirror_the_packages():
    tests = Path(__file__).parent
    for path in tests.rglob("test_*.py"):
        folder = path.parent.relative_to(tests).as_posix().replace("/", ".").strip(".")
        if folder:
            assert f"{folder}.{path.stem.removeprefix('test_')}" in MODULES, path


def test_files_and_functions_stay_small():
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, path.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path.name}: {node.name}"
