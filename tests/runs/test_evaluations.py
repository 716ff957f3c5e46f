"""metrics.json: old files, entries beside each other, and which one is the model's own test score."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest

from modiste.decisions.decision import Decision
from modiste.errors import RunError
from modiste.runs.evaluations import Origin, add_evaluation, evaluation_file_name, model_scores, read_evaluations
from modiste.runs.run import Run

OLD = {
    "test": {
        "split": "test",
        "views": "one",
        "policy": "fixed:0.5",
        "cross_fitted": False,
        "failed": [],
        "photos": 49,
        "map": 0.123,
        "macro": {"f2": 0.234},
        "intervals": {"map": [0.1, 0.2]},
    }
}


@pytest.fixture
def run(trained, tmp_path) -> Run:
    return Run.read(shutil.copytree(trained, tmp_path / "run"))


def document(run: Run, decision: Decision | None = None, split: str = "test", value: float = 0.5) -> dict:
    origin = Origin.now(run, run.manifest().part(split), decision or run.decision, ("one",))
    return {**OLD["test"], "split": split, "name": split, "map": value, "origin": asdict(origin)}


def test_a_file_of_format_1_is_read_and_is_nobodys_own_score(run):
    (run.folder / "metrics.json").write_text(json.dumps(OLD))
    (saved,) = read_evaluations(run.folder)
    assert (saved.name, saved.origin, saved.document["map"]) == ("test", None, 0.123)
    scores = model_scores(run, ("one",))
    assert scores.own_test is None
    assert [name for name, _ in scores.others] == ["test, origin unknown"]


def test_a_new_evaluation_takes_the_place_of_an_old_one_of_its_split_alone(run):
    (run.folder / "metrics.json").write_text(json.dumps({**OLD, "val": {**OLD["test"], "split": "val"}}))
    add_evaluation(run.folder, document(run))
    content = json.loads((run.folder / "metrics.json").read_text())
    assert content["format"] == 2
    assert [one["name"] for one in content["evaluations"]] == ["val", "test"]
    assert model_scores(run, ("one",)).own_test.document["map"] == 0.5


def test_each_decision_has_an_entry_and_the_present_one_is_the_models_own(run):
    other = Decision.untuned("fixed:0.9", run.label_set)
    add_evaluation(run.folder, document(run, value=0.5))
    add_evaluation(run.folder, document(run, other, value=0.6))
    add_evaluation(run.folder, document(run, value=0.7))  # again: replaces the first
    assert [one.document["map"] for one in read_evaluations(run.folder)] == [0.6, 0.7]
    scores = model_scores(run, ("one",))
    assert scores.own_test.document["map"] == 0.7
    assert [name for name, _ in scores.others] == ["test, another decision"]
    assert model_scores(run, ("flip",)).own_test is None  # exported with other views


def test_evaluations_at_once_all_stay(run):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: add_evaluation(run.folder, {**document(run), "name": f"list-{k}"}), range(24)))
    assert {one.name for one in read_evaluations(run.folder)} == {f"list-{k}" for k in range(24)}


@pytest.mark.parametrize(
    "content", ["{", "[1]", '{"test": 3}', '{"format": 2}', '{"format": 2, "evaluations": [{}]}', '{"format": 3}']
)
def test_what_holds_no_evaluations_is_named_and_kept(run, content):
    path = run.folder / "metrics.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"metrics\.json"):
        add_evaluation(run.folder, document(run))
    assert path.read_text() == content


def test_files_of_an_evaluation_are_called_by_what_was_scored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert evaluation_file_name("test") == "test"
    assert evaluation_file_name("test", "shop/other.csv", "fixed:0.9") == "test-of-shop-other.csv-fixed-0.9"
    assert evaluation_file_name("test", str(tmp_path / "shop/other.csv")) == "test-of-shop-other.csv"
    names = {evaluation_file_name("all", f"{shop}/l.csv", how) for shop in "ab" for how in (None, "top:3")}
    assert len(names) == 4
    assert evaluation_file_name("val", views="flip+translate") == "val-flip-translate"
    long = evaluation_file_name("test", "\N{CJK UNIFIED IDEOGRAPH-8863}" * 80 + ".csv", "fixed:0.9")
    (tmp_path / f"predictions-{long}.parquet").touch()
