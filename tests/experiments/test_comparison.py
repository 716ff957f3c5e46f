"""Comparing as a function: made, resumed, refused, and a table."""

import numpy as np
import pytest

import modiste as package
from modiste.errors import RunError

CHANGES = ("stages.0.epochs=1", "stages.1.epochs=1", "train.cache='off'")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_comparison_from_python(drawn, tiny, tmp_path):
    settings = {"recipe": str(tiny), "optimizers": ["adam", "sgd"], "seeds": 1, "changes": CHANGES}
    found = package.compare(str(drawn), str(tmp_path / "table"), **settings)
    assert [one.candidate for one in found.ranked] == [
        one.candidate for one in sorted(found.ranked, key=lambda one: -one.val_map.mean)
    ]
    assert (tmp_path / "table" / "best" / "recipe.toml").is_file()
    weights = {path: path.stat().st_mtime_ns for path in (tmp_path / "table" / "runs").rglob("model.safetensors")}
    again = package.compare(drawn, tmp_path / "table", **settings)
    assert again.to_dict() == found.to_dict()
    assert {path: path.stat().st_mtime_ns for path in weights} == weights  # nothing was trained again
    with pytest.raises(RunError, match="to hold a comparison of these candidates, but got others"):
        package.compare(drawn, tmp_path / "table", **{**settings, "seeds": 2})

    frame = found.to_frame()
    assert frame["candidate"].to_list() == [one.candidate for one in found.ranked]
    assert frame["val_map"].to_list() == [one.val_map.mean for one in found.ranked]
    np.testing.assert_allclose(frame["map.low"].to_numpy(), [one.scores["map"].interval.low for one in found.ranked])
    assert frame["map.behind"][0] is None
    assert frame["map.behind"][1] == found.differences[0].value
    assert frame["val_map.sd"].null_count() == 2  # of one seed
