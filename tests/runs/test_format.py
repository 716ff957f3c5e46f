"""The format of folders: written down, absent in old ones, refused where it is newer."""

import json
import shutil
from importlib.metadata import version

import pytest
from PIL import Image

import modiste as public
from modiste.errors import RunError
from modiste.experiments.ensemble import blend
from modiste.runs.format import FOLDER_FORMAT, check_format, write_format
from modiste.runs.run import Run


def newer(folder):
    (folder / "format.json").write_text('{"format": 3, "modiste": "7.8.9", "more": []}')


def test_a_folder_names_its_format_and_the_modiste_that_made_it(trained, tmp_path):
    facts = json.loads((trained / "format.json").read_text())
    assert facts == {"format": 2, "modiste": version("modiste")}
    assert FOLDER_FORMAT == 2
    write_format(tmp_path)
    check_format(tmp_path)


def test_a_folder_that_names_none_is_of_the_first(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "format.json").unlink()
    assert Run.read(run).label_set == Run.read(trained).label_set
    check_format(tmp_path / "nothing")


def test_a_newer_run_names_the_modiste_to_use(trained, tmp_path, modiste):
    run = shutil.copytree(trained, tmp_path / "run")
    newer(run)
    (run / "recipe.toml").unlink()  # a newer format may have others
    with pytest.raises(RunError) as raised:
        Run.read(run)
    assert str(raised.value) == (
        f"Expected {run} to be of format 2, but got format 3, of modiste 7.8.9. "
        f"Try modiste 7.8.9; this is {version('modiste')}."
    )
    with pytest.raises(RunError, match="of modiste 7"):
        public.load(run)
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg")
    for verb in (("evaluate", run), ("tag", tmp_path / "x.jpg", "-m", run), ("train", "--resume", run)):
        code, out, err = modiste(*verb)
        assert (code, out) == (2, "") and "Try modiste 7.8.9" in err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "new", "modiste": "1"}'])
def test_a_damaged_one_is_told(content, tmp_path):
    (tmp_path / "format.json").write_text(content)
    with pytest.raises(RunError, match=r"format\.json to name a format"):
        check_format(tmp_path)


def test_a_blend_and_its_members_name_theirs(trained, tmp_path):
    runs = [shutil.copytree(trained, tmp_path / name) for name in ("one", "two")]
    (runs[0] / "format.json").unlink()  # an old run as a member
    made = blend(runs, tmp_path / "blend", split="train", policy="fixed:0.5").run
    for folder in (made.folder, *(member.folder for member in made.members)):
        assert json.loads((folder / "format.json").read_text())["format"] == 2
    newer(made.folder)
    with pytest.raises(RunError, match=r"of modiste 7\.8\.9"):
        public.load(made.folder)


@pytest.mark.parametrize(("verb", "name"), [("compare", "compare.toml"), ("train", "folds.json")])
def test_newer_comparisons_and_folds_are_refused(verb, name, tmp_path, modiste):
    pytest.importorskip("torch", reason="comparing and training need PyTorch")
    (tmp_path / name).write_text("{}")
    newer(tmp_path)
    code, out, err = modiste(verb, "--resume", tmp_path)
    assert (code, out) == (2, "") and "Try modiste 7.8.9" in err
