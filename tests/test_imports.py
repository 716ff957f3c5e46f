"""Imports point one way, and what tags without torch imports no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import modiste

SOURCE = Path(modiste.__file__).parent

# A module imports only from those before it.
ORDER = [
    "errors",
    "storage",
    "labels",
    "config",
    "fetch_config",
    "grid",
    "rows",
    "cache",
    "items",
    "tables",
    "challenge",
    "columns",
    "roles",
    "splits",
    "manifest",
    "images",
    "listing",
    "ledger",
    "hosts",
    "download",
    "attempts",
    "shelf",
    "fetched",
    "fetching",
    "augment",
    "sweep",
    "metrics",
    "weighted",
    "bootstrap",
    "outcomes",
    "standings",
    "stacking",
    "blending",
    "fingerprints",
    "likeness",
    "neighbours",
    "label_facts",
    "audit",
    "repair",
    "pages",
    "audit_page",
    "evenness",
    "thresholds",
    "policies",
    "calibration",
    "reliability",
    "label_mix",
    "operating",
    "decision",
    "deciding",
    "prediction",
    "predict",
    "card",
    "runtime",
    "parquet_photos",
    "table_photos",
    "stock",
    "remote",
    "tag",
    "heatmaps",
    "bulk",
    "torchvision_ops",
    "memory",
    "dataset",
    "pixels",
    "pictures",
    "backbones",
    "model",
    "places",
    "onnx_graph",
    "cuts",
    "engines",
    "features",
    "losses",
    "optim",
    "monitor",
    "plots",
    "decision_plots",
    "standings_plots",
    "standings_page",
    "bundle",
    "blends",
    "job",
    "sources",
    "training",
    "loading",
    "quantize",
    "int8",
    "exporting",
    "model_info",
    "predictions",
    "scoring",
    "evaluation",
    "report_cards",
    "report",
    "tuning",
    "ensembles",
    "comparing",
    "folds",
    "cues",
    "drawing",
    "demo",
    "terminal",
    "terminal_models",
    "flows",
    "options",
    "answers",
    "results",
    "model_commands",
    "tag_command",
    "export_commands",
    "decision_commands",
    "compare_commands",
    "fetch_command",
    "data_commands",
    "cli",
    "__main__",
    "__init__",
]
LIGHT = ORDER[: ORDER.index("torchvision_ops")]


HELP = "from typer.testing import CliRunner; from modiste.cli import app; CliRunner().invoke(app, [{}])"


def imported(name: str) -> set[str]:
    """The modiste modules that a module names in its imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse((SOURCE / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "modiste":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("modiste."):
            found.add(node.module.split(".")[1])
    return found


def test_the_order_names_every_module():
    assert sorted(ORDER) == sorted(path.stem for path in SOURCE.glob("*.py"))


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_what_stands_before_it(name):
    assert imported(name) <= set(ORDER[: ORDER.index(name)])


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
        "import " + ", ".join(f"modiste.{name}" for name in LIGHT),
    ],
)
def test_no_torch_where_none_is_needed(code):
    assert not {"torch", "timm", "torchvision", "matplotlib", "lightning_fabric"} & loaded_by(code)


def test_help_imports_nothing_heavy():
    code = HELP.format("'--help'")
    assert not {"torch", "numpy", "polars", "pydantic", "PIL"} & loaded_by(code)


def test_tagging_a_photo_loads_neither_torch_nor_polars(tmp_path):
    Image.new("RGB", (40, 40), "navy").save(tmp_path / "coat.png")
    modules = loaded_by(HELP.format(f"'tag', {str(tmp_path / 'coat.png')!r}, '--json'"))
    assert "onnxruntime" in modules
    assert not {"torch", "polars", "scipy", "sklearn", "matplotlib"} & modules


def test_public_names_are_sorted_and_there():
    assert modiste.__all__ == sorted(modiste.__all__)
    for name in modiste.__all__:
        assert getattr(modiste, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        modiste.nothing  # noqa: B018


def test_files_and_functions_stay_small():
    for path in SOURCE.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 300, path.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path.name}: {node.name}"
