"""Which engine computes frozen-backbone features, and what is told where it is the slower one."""

import numpy as np
import pytest
import torch

from modiste.config import ModelConfig
from modiste.models.split import NetworkSplitter
from modiste.models.tagger import Tagger
from modiste.training import feature_engine
from modiste.training.feature_engine import make_engine

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def part():
    torch.manual_seed(0)
    return NetworkSplitter(Tagger(ModelConfig(backbone="test_byobnet", weights="none"), 5), 32).locked(["none"])


def failing(*_):
    raise ZeroDivisionError("no such operation\nand more")


@pytest.mark.parametrize(
    ("name", "replacement", "why"),
    [
        ("_onnx_runtime", failing, "ZeroDivisionError: no such operation"),
        ("find_spec", lambda package: package != "onnxscript", "onnxscript missing"),
    ],
)
def test_the_slower_engine_is_told_with_the_reason(name, replacement, why, *, part, monkeypatch, caplog):
    caplog.set_level("INFO", "modiste")
    monkeypatch.setattr(feature_engine, "WORTH_EXPORTING", 0)
    monkeypatch.setattr(feature_engine, name, replacement)
    photos = np.zeros((2, 3, 32, 32), np.uint8)
    (features,) = make_engine(part, 32, 2, CPU)(photos)
    with torch.inference_mode():
        np.testing.assert_allclose(features, part(torch.from_numpy(photos))[0], rtol=1e-3, atol=1e-3)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("modiste", "INFO")
    assert record.message.endswith(f"as slow as ONNX Runtime: {why}")


def test_few_photos_are_no_slower_way(part, caplog):
    caplog.set_level("INFO", "modiste")
    make_engine(part, 32, 2, CPU)
    assert caplog.records == []
