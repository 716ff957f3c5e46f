"""What the edge of the command line says, to whom, and how it ends."""

import logging
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from modiste.cli import app, output
from modiste.cli.output import counted, one_voice
from modiste.errors import RunError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK"])
def test_errors_are_told_on_every_rank_where_nothing_is_trained(variable, modiste, monkeypatch, tmp_path):
    monkeypatch.setenv(variable, "3")
    for command in (("tag", tmp_path / "no*.jpg"), ("evaluate", tmp_path / "no"), ("info", tmp_path / "no")):
        code, out, err = modiste(*command)
        assert (code, out) == (2, "")
        assert err.startswith("modiste: Expected ")


def test_of_processes_that_train_together_only_the_first_speaks(modiste, monkeypatch, tmp_path):
    command = ("train", tmp_path / "no.csv", "-o", tmp_path / "run")
    monkeypatch.setenv("RANK", "3")
    assert modiste(*command) == (2, "", "")
    monkeypatch.setenv("RANK", "0")
    code, _, err = modiste(*command)
    assert code == 2 and "no such file" in err


def test_one_voice_keeps_the_exit_code(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(typer.Exit) as ended, one_voice():
        raise RunError("silent")
    assert ended.value.exit_code == RunError.exit_code


def falling_back(monkeypatch):
    """Let `modiste info` log as a module does that takes a slower way."""

    def info(*_: object) -> dict:
        log = logging.getLogger("modiste.models")
        try:
            raise ValueError("no graph")
        except ValueError:
            log.info("the network can't be cut: training from pixels", exc_info=True)
        log.warning("[seen] always")
        raise RunError.expected("a model", "none", "another")

    monkeypatch.setattr("modiste.exporting.info.model_info", info)


@pytest.mark.parametrize("behind", [True, False], ids=["behind the verb", "before it"])
@pytest.mark.parametrize("option", [None, "--verbose", "--debug"])
def test_the_log_is_shown_as_asked(option, behind, modiste, monkeypatch):
    falling_back(monkeypatch)
    words = [] if option is None else [option]
    code, out, err = modiste("info", *words) if behind else modiste(*words, "info")
    assert (code, out) == (2, "")
    assert ("modiste: the network can't be cut: training from pixels\n" in err) == (option is not None)
    assert "modiste: [seen] always\n" in err
    assert err.count("Traceback") == (2 if option == "--debug" else 0)
    assert ("ValueError: no graph" in err) == (option == "--debug")
    assert err.endswith("modiste: Expected a model, but got none. Try another.\n")


def test_what_one_command_asked_for_is_not_kept_for_the_next(modiste, monkeypatch):
    falling_back(monkeypatch)
    modiste("info", "--debug")
    assert "Traceback" not in modiste("info")[2]
    assert logging.getLogger("modiste").level == logging.WARNING


def test_options_of_all_commands_may_be_photos_behind_two_dashes(modiste, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = modiste("tag", "--", "--debug")
    assert code == 2
    assert "at '--debug'" in err and "Traceback" not in err


def test_help_names_the_options_of_all_commands(modiste):
    help_ = modiste("--help")[1]
    assert "--verbose" in help_ and "--debug" in help_


def end_of(command: str) -> tuple[int, str]:
    """Run a shell's pipeline -> the exit code of its first command, what stands on stderr."""
    modiste = f"{shlex.quote(sys.executable)} -m modiste"
    script = command.replace("modiste", modiste, 1) + "; exit ${PIPESTATUS[0]}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "command", ["modiste tag --format jsonl {photos} | head -1", "modiste info | true", "modiste --help | true"]
)
def test_a_closed_pipe_ends_a_command_quietly_as_it_does_other_tools(command, photos):
    many = " ".join(shlex.quote(str(path)) for path in photos * 40)
    assert end_of(command.format(photos=many)) == (141, "")


def test_a_full_disk_is_told_where_the_output_is_short():
    code, err = end_of("modiste cache ls --json > /dev/full")
    assert code == 2 and "No space left" in err and "Traceback" not in err and "Exception" not in err


def test_the_packages_of_training_are_installed_as_the_hint_says(modiste, monkeypatch, tmp_path):
    def missing(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("modiste.exporting.info.model_info", missing)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for here, target in ((tmp_path, ROOT), (ROOT, ".")):
        monkeypatch.chdir(here)
        code, _, err = modiste("info")
        command = shlex.split(err.partition(" Try ")[2].partition(", or")[0])
        assert (code, command[:3]) == (2, ["pip", "install", "-e"])
        assert command[3:] == [f"{target}[train]"]
    assert "train" in extras
    installed = tmp_path / "site-packages" / "modiste" / "cli" / "app.py"
    monkeypatch.setattr(app, "__file__", str(installed))
    assert "Try pip install 'modiste[train]', or an exported file." in modiste("info")[2]


@pytest.mark.parametrize(("n", "words"), [(0, "0 photos"), (1, "1 photo"), (2, "2 photos"), (1234, "1,234 photos")])
def test_numbers_have_their_nouns(n, words):
    assert counted(n, "photo") == words
    assert counted(n, "entry", "entries") == words.replace("photos", "entries").replace("photo", "entry")


def test_one_photo_that_failed_is_one(capsys):
    with pytest.raises(typer.Exit):
        output.name_failures(["one"], 1)
    assert capsys.readouterr().err == "modiste: one\nmodiste: 1 of 1 photo failed\n"
