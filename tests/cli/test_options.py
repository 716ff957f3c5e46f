"""Files that are read, or that exist, are not lost; defaults that help texts name are those of the code."""

import shutil
from pathlib import Path

import polars as pl
import pytest
import typer.main

from modiste.cli.app import app
from modiste.cli.options import new_file
from modiste.config import DEFAULT_RECIPE
from modiste.errors import UsageError
from modiste.experiments.grid import Grid


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_an_input_is_never_overwritten_by_whatever_name(tmp_path):
    photos, link, hard = tmp_path / "photos.csv", tmp_path / "link.csv", tmp_path / "hard.csv"
    photos.write_text("image\n")
    link.symlink_to(photos)
    hard.hardlink_to(photos)
    (tmp_path / "sub").mkdir()
    for name in (photos, link, hard, tmp_path / "sub" / ".." / "photos.csv"):
        for overwrite in (False, True):
            with pytest.raises(UsageError, match="one that this command reads"):
                new_file(name, ["https://shop.example/a.jpg", None, str(photos)], overwrite=overwrite)


def test_what_exists_is_overwritten_only_when_asked(tmp_path):
    old = tmp_path / "old.csv"
    assert new_file(old, [], overwrite=False) == old
    old.write_text("old")
    with pytest.raises(UsageError, match="--overwrite"):
        new_file(old, [tmp_path / "no.csv"], overwrite=False)
    assert new_file(old, [tmp_path / "no.csv"], overwrite=True) == old


@pytest.fixture
def table(photos, tmp_path) -> Path:
    path = tmp_path / "in.csv"
    labels = [k % 2 for k in range(len(photos))]
    pl.DataFrame({"image": list(map(str, photos)), "red": labels, "blue": labels[::-1]}).write_csv(path)
    return path


COMMANDS = {
    "tag": ("tag", "{table}", "-o", "{file}"),
    "check": ("check", "{table}", "-o", "{report}", "--fix", "{file}", "--min-side", "8"),
    "split": ("split", "{table}", "-o", "{file}", "--no-near-duplicates"),
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_commands_that_write_a_file_ask_before_one_is_lost(verb, table, modiste, tmp_path):
    def run(file: Path, *more: str) -> tuple[int, str]:
        names = {"table": table, "file": file, "report": tmp_path / "report"}
        code, _, err = modiste(*(word.format(**names) for word in COMMANDS[verb]), *more)
        return code, err

    before = content(tmp_path)
    for more in ((), ("--overwrite",)):
        code, err = run(table, *more)
        assert code == 2 and "that this command reads" in err
    assert content(tmp_path) == before
    assert run(tmp_path / "out.csv")[0] == 0
    (tmp_path / "out.csv").write_text("old")
    code, err = run(tmp_path / "out.csv")
    assert code == 2 and "--overwrite" in err
    assert (tmp_path / "out.csv").read_text() == "old"
    assert run(tmp_path / "out.csv", "--overwrite")[0] == 0
    assert (tmp_path / "out.csv").read_text() != "old"
    assert table.read_bytes() == before["in.csv"]


def test_tag_keeps_photos_patterns_of_tables_and_models(modiste, table, photos, tmp_path):
    photo, model = shutil.copy(photos[0], tmp_path / "a.jpg"), tmp_path / "model.onnx"
    model.write_bytes(b"a model")
    before = content(tmp_path)
    for arguments in (
        (photo, "-o", photo, "--format", "csv"),
        (tmp_path / "*.csv", "-o", table),
        (photo, "-m", model, "-o", model, "--format", "csv"),
    ):
        code, out, err = modiste("tag", *arguments, "--overwrite")
        assert (code, out) == (2, "") and "that this command reads" in err
    assert content(tmp_path) == before


def test_check_replaces_nothing_without_a_file_to_write(modiste, table, tmp_path):
    code, out, err = modiste("check", table, "-o", tmp_path / "report", "--overwrite")
    assert (code, out) == (2, "") and "--fix clean.csv" in err
    assert not (tmp_path / "report").exists()


def test_a_folder_of_parts_goes_on_without_asking(modiste, table, tmp_path):
    for _ in range(2):
        assert modiste("tag", table, "-o", tmp_path / "tags")[0] == 0
    assert "--overwrite with a file as -o" in modiste("tag", table, "-o", tmp_path / "tags", "--overwrite")[2]


def test_export_asks_before_a_file_is_lost(modiste, trained, tmp_path):
    file = tmp_path / "tiny.onnx"
    file.write_text("old")
    code, _, err = modiste("export", trained, "-o", file)
    assert code == 2 and "--overwrite" in err and file.read_text() == "old"
    assert modiste("export", trained, "-o", file, "--overwrite")[0] == 0
    assert modiste("info", file)[0] == 0


def test_every_command_that_trains_has_one_default_recipe():
    verbs = typer.main.get_command(app).commands
    for verb in ("train", "compare"):
        option = next(option for option in verbs[verb].params if option.name == "recipe")
        assert option.default is None and f"Default: {DEFAULT_RECIPE}." in option.help
    assert Grid.model_fields["recipe"].default == DEFAULT_RECIPE


def test_compare_without_a_recipe_takes_the_default(modiste, table, tmp_path):
    """On labels of one's own, which the recipe of the challenge does not know."""
    options = ("-o", tmp_path / "comparison", "--backbones", "no_such_backbone", "--min-positives", 1)
    code, _, err = modiste("compare", table, *options)
    assert code == 2 and "no_such_backbone" in err  # the labels were read


def test_a_table_of_renames_that_is_missing_is_told_as_such(modiste, table, tmp_path):
    code, out, err = modiste("check", table, "-o", tmp_path / "report", "--rename", tmp_path / "nosuch.csv")
    assert (code, out) == (2, "") and "nosuch.csv to be a table, but got no such file" in err
    (tmp_path / "nosuch.csv").write_text("old,new\nred,rouge\n")
    code, _, err = modiste("check", table, "-o", tmp_path / "report", "--rename", tmp_path / "nosuch.csv")
    assert "rouge" in err
    code, _, err = modiste("check", table, "-o", tmp_path / "report", "--rename", "red=v. 2")
    assert "v. 2" in err  # a dot makes no table of it
