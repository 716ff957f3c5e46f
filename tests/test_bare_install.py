"""Without the extra "train": tagging works, every command explains itself, and training says what it needs.

`make test-bare` runs this where the extra isn't installed. Elsewhere its packages are hidden.
"""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from modiste.cli.app import _EXTRA, app
from modiste.runs.load import BUNDLED

VERBS = sorted(command.callback.__name__ for command in app.registered_commands)
HIDE = f"""
import sys
class Hidden:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {sorted(_EXTRA)}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)
sys.meta_path.insert(0, Hidden())
"""
MAIN = "from modiste.cli.app import main; main()"
HELP = """
from modiste.cli.app import app
for verb in [None, *sys.argv[1:]]:
    app([verb, "--help"] if verb else ["--help"], standalone_mode=False)
"""


@pytest.fixture
def bare(tmp_path):
    """Run one command, or other code, without the packages of training -> exit code, stdout, stderr."""
    Image.fromarray(np.full((40, 30, 3), 90, np.uint8)).save(tmp_path / "a.jpg")

    def run(*arguments, code=MAIN):
        command = [sys.executable, "-W", "error", "-c", HIDE + code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        return done.returncode, done.stdout, done.stderr

    return run


def test_every_command_explains_itself(bare):
    code, out, err = bare(*VERBS, code=HELP)
    assert (code, err) == (0, "")
    assert out.count("Usage:") == 1 + len(VERBS)


def test_the_model_in_the_box_tags(bare):
    code, out, err = bare("tag", "a.jpg", "--json")
    assert code == 0, err
    assert json.loads(out)["model"] == BUNDLED
    assert set(json.loads(out)["photos"][0]["probs"]) > {"dress", "skirt"}


def test_training_says_what_it_needs(bare, drawn, tmp_path):
    code, out, err = bare("train", str(drawn), "-o", str(tmp_path / "run"))
    assert (code, out) == (2, "")
    assert err.startswith("modiste: Expected the packages of training, but got no ")
    assert "[train]" in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_list_is_checked_and_split(bare, drawn, tmp_path):
    assert bare("check", str(drawn))[0] in (0, 1)  # 1: something was found
    code, _, err = bare("split", str(drawn), "-o", str(tmp_path / "split.csv"))
    assert code == 0, err
    assert (tmp_path / "split.csv").exists()


@pytest.mark.skipif(find_spec("torch") is not None, reason="the extra is installed here; make test-bare has none")
def test_nothing_of_the_extra_is_installed():
    assert [name for name in sorted(_EXTRA) if find_spec(name)] == []
