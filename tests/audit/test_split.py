"""Split as a function gives what the command writes."""

import numpy as np
import pytest

import modiste as package
from modiste.data.manifest import Manifest
from modiste.errors import UsageError

WAYS = {
    "shares": ({"val": 0.2, "test": 0.3, "seed": 5}, ["--val", 0.2, "--test", 0.3, "--seed", 5]),
    "folds": ({"folds": 3}, ["--folds", 3]),
    "alone": ({"near_duplicates": False}, ["--no-near-duplicates"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_what_the_command_writes(way, drawn, tmp_path, modiste, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings, options = WAYS[way]
    made = package.split(str(drawn), **settings)
    assert modiste("split", drawn, "-o", tmp_path / "split.csv", *options)[0] == 0
    written = Manifest.read(tmp_path / "split.csv")
    np.testing.assert_array_equal(made.parts, written.parts)
    np.testing.assert_array_equal(made.targets, written.targets)


def test_folds_beside_shares_are_refused(drawn):
    with pytest.raises(UsageError, match="folds, or val and test, but got both"):
        package.split(drawn, folds=3, val=0.1)
