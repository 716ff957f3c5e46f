import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modiste.demo.drawing import _GARMENTS, STYLES, _sewn, draw_dataset, draw_garment, draw_styles
from modiste.demo.styles import PRINTS, TRIMMINGS, Pen
from modiste.errors import StorageError, UsageError

BASE = (120, 124, 132)


@pytest.fixture(scope="module")
def real(shared: Path) -> np.ndarray:
    """The challenge's own label vectors, (54908, 13)."""
    lines = (shared / "data/jd2018/train-k-fold.txt").read_text().split()
    return np.array([[int(bit) for bit in line.removesuffix(".jpg").split("_")[1:]] for line in lines])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_dataset(tmp_path_factory.mktemp("data") / "drawn", 240, 32, seed=3).parent


def read(folder: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    targets = np.array([[int(row[f"l{k}"]) for k in range(1, 14)] for row in rows])
    return [row["image"] for row in rows], np.array([row["split"] for row in rows]), targets


def test_styles_and_pairs_are_as_frequent_as_in_the_challenge(real):
    n = 50_000
    sample = draw_styles(n, np.random.default_rng(0)).astype(int)
    shares, expected = sample.T @ sample / n, real.T @ real / len(real)
    error = np.sqrt(expected * (1 - expected) / n)
    # 91 pairs: 4 standard errors, and 0.15 % for the combinations that are left out
    assert (np.abs(shares - expected) <= 4 * error + 0.0015).all()
    assert (np.abs(np.diag(shares - expected)) <= 4 * np.diag(error) + 0.0008).all()


def test_only_real_combinations_are_drawn(real):
    sample = draw_styles(3_000, np.random.default_rng(1), minimum=50)
    assert {tuple(v) for v in sample.tolist()} <= {tuple(v) for v in real.tolist()}


def test_topping_up_reaches_the_minimum_and_spares_the_rest():
    plain = draw_styles(2_400, np.random.default_rng(5))
    topped = draw_styles(2_400, np.random.default_rng(5), minimum=40)
    assert topped.shape == (2_400, 13)
    assert topped.dtype == np.int8
    assert plain.sum(0).min() < 40 <= topped.sum(0).min()
    changed = (plain != topped).any(axis=1)
    assert 0 < changed.sum() < 0.07 * 2_400
    assert plain[changed][:, plain.sum(0) < 120].sum() == 0


def test_a_minimum_beyond_reach_is_refused():
    with pytest.raises(UsageError, match="more pictures"):
        draw_styles(100, np.random.default_rng(0), minimum=30)


@pytest.mark.parametrize("size", [17, 64, 128])
def test_a_garment_is_a_photo_that_its_generator_decides(size):
    styles = draw_styles(1, np.random.default_rng(0))[0]
    first, again, other = (draw_garment(styles, size, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first.shape == (size, size, 3)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (first != other).mean() > 0.5


@pytest.mark.parametrize("style", [*PRINTS, *TRIMMINGS])
def test_a_cue_shows_on_every_garment(style):
    paint = {**PRINTS, **TRIMMINGS}[style]
    for make in _GARMENTS:
        shape = make(0.0)
        _, mask = _sewn(shape, BASE, 128, np.random.default_rng(0), {})
        cloth = Image.new("RGB", (128, 128), BASE)
        paint(Pen(cloth, shape, BASE, np.random.default_rng(0)))
        painted = (np.abs(np.asarray(cloth).astype(int) - BASE).max(axis=2) > 20) & (np.asarray(mask) > 0)
        assert painted.sum() > 0.02 * (np.asarray(mask) > 0).sum()


@pytest.mark.parametrize("make", _GARMENTS)
def test_korean_is_loose_and_minimalist_is_plain(make):
    def sewn(wide: float, strength: dict[str, float], seed: int) -> tuple[np.ndarray, np.ndarray]:
        cloth, mask = _sewn(make(wide), BASE, 128, np.random.default_rng(seed), strength)
        return np.asarray(cloth, dtype=float), np.asarray(mask) > 0

    assert sewn(0.055, {}, 0)[1].sum() > 1.15 * sewn(0.0, {}, 0)[1].sum()
    printed, plain = (
        np.mean([np.abs(np.diff(sewn(0, strength, seed)[0][40:80], axis=0)).mean() for seed in range(12)])
        for strength in ({}, {"minimalist": 1.0})
    )
    assert printed > 1.5 * plain


def test_every_style_has_a_cue():
    assert {*PRINTS, *TRIMMINGS, "korean", "minimalist"} == set(STYLES)


def test_the_dataset_is_complete_and_each_style_stands_in_every_part(drawn):
    images, splits, targets = read(drawn)
    assert sorted(p.relative_to(drawn).as_posix() for p in drawn.rglob("*.jpg")) == images
    with Image.open(drawn / images[0]) as photo:
        assert photo.size == (32, 32)
    assert len(images) == 240
    for name, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        assert abs((splits == name).mean() - share) < 0.06
        assert targets[splits == name].sum(0).min() >= 1, name


def test_the_rarest_style_of_2400_pictures_is_measured_on_eight(tmp_path, monkeypatch):
    monkeypatch.setattr("modiste.demo.drawing.draw_garment", lambda *_: np.zeros((8, 8, 3), dtype=np.uint8))
    _, splits, targets = read(draw_dataset(tmp_path / "d", 2_400, 8, seed=0).parent)
    test = targets[splits == "test"].sum(0)
    assert targets.sum(0).min() >= 40
    assert test.min() >= 8
    assert (np.abs(test / targets.sum(0) - 0.2) < 0.05).all()


def test_the_same_seed_gives_the_same_bytes(drawn, tmp_path):
    def digest(folder: Path) -> list[str]:
        return [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.*"))]

    steps: list[tuple[int, int]] = []
    again = draw_dataset(tmp_path / "again", 240, 32, 3, lambda done, total: steps.append((done, total))).parent
    assert digest(again) == digest(drawn)
    assert steps == [(i, 240) for i in range(1, 241)]
    assert digest(draw_dataset(tmp_path / "other", 240, 32, 4).parent) != digest(drawn)


def test_a_stopped_drawing_leaves_nothing_behind(tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_dataset(tmp_path / "d", 240, 16, 0, stop)
    assert list(tmp_path.iterdir()) == []


def test_refusals(tmp_path):
    with pytest.raises(UsageError, match="240 pictures or more"):
        draw_dataset(tmp_path / "d", 100, 16, 0)
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="new folder"):
        draw_dataset(tmp_path / "there", 240, 16, 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        draw_dataset(tmp_path / "file" / "d", 240, 16, 0)
