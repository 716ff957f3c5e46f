"""Stratified folds against what they promise, random dealing, and the challenge's own folds."""

import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modiste.data.manifest import Manifest
from modiste.data.splits import stratified_folds
from modiste.errors import ManifestError
from modiste.labels import UNKNOWN, LabelSet


def spread(targets, folds):
    """(labels,) largest minus smallest label frequency over the folds; only known targets count."""
    frequencies = []
    for fold in np.unique(folds):
        rows = targets[folds == fold]
        frequencies.append([(column == 1).sum() / max(1, (column != UNKNOWN).sum()) for column in rows.T])
    return np.ptp(frequencies, axis=0)


tables = hnp.arrays(np.int8, st.tuples(st.integers(1, 60), st.integers(1, 5)), elements=st.integers(-1, 1))
shares = st.lists(st.floats(0.05, 1), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(tables, shares, st.integers(0, 99), st.data())
def test_every_photo_has_one_fold_its_group_is_whole_and_the_seed_decides(targets, fractions, seed, data):
    groups = data.draw(hnp.arrays(np.int64, len(targets), elements=st.integers(0, 20)))
    folds = stratified_folds(targets, groups, fractions, seed)
    assert folds.shape == (len(targets),)
    assert ((folds >= 0) & (folds < len(fractions))).all()
    assert all(len(set(folds[groups == group])) == 1 for group in groups)
    np.testing.assert_array_equal(folds, stratified_folds(targets, groups, fractions, seed))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.integers(2, 6), st.integers(50, 300))
def test_sizes_of_single_photos_match_the_fractions(seed, k, n):
    generator = np.random.default_rng(seed)
    targets = (generator.random((n, 4)) < [0.5, 0.3, 0.1, 0.02]).astype(np.int8)
    fractions = generator.uniform(0.1, 1, k)
    sizes = np.bincount(stratified_folds(targets, None, fractions, seed), minlength=k)
    assert np.abs(sizes - n * fractions / fractions.sum()).max() < 4


def test_another_seed_deals_other_photos():
    targets = np.random.default_rng(0).integers(0, 2, (200, 3)).astype(np.int8)
    assert (stratified_folds(targets, None, [1, 1], 0) != stratified_folds(targets, None, [1, 1], 1)).any()


def test_identical_photos_are_dealt_exactly():
    targets = np.repeat(np.array([[1, 0], [0, 1], [UNKNOWN, 1]], np.int8), [50, 30, 20], axis=0)
    folds = stratified_folds(targets, None, [0.8, 0.1, 0.1], seed=3)
    for start, many in ((0, 50), (50, 30), (80, 20)):
        counted = np.bincount(folds[start : start + many])
        np.testing.assert_array_equal(counted, [many * 8 // 10, many // 10, many // 10])


def test_unknown_is_no_negative():
    # 40 photos of which 20 are known: if unknown counted as 0, nothing would spread the known ones.
    targets = np.full((40, 1), UNKNOWN, np.int8)
    targets[:20, 0] = np.arange(20) % 2
    folds = stratified_folds(targets, None, [1, 1], seed=0)
    for value in (0, 1):
        np.testing.assert_array_equal(np.bincount(folds[targets[:, 0] == value]), [5, 5])


@pytest.mark.parametrize("grouped", [False, True])
def test_evener_than_any_of_many_random_splits(grouped):
    generator = np.random.default_rng(5)
    targets = (generator.random((600, 6)) < [0.6, 0.4, 0.2, 0.1, 0.05, 0.02]).astype(np.int8)
    groups = np.arange(600) // 3 if grouped else np.arange(600)
    ours = spread(targets, stratified_folds(targets, groups, [1, 1, 1], seed=0))
    random = []
    for _ in range(200):
        fold_of_group = generator.permutation(groups.max() + 1) % 3
        random.append(spread(targets, fold_of_group[groups]).mean())
    assert ours.mean() < min(random)


def test_the_rarest_labels_are_dealt_first():
    spreads = []
    for seed in range(6):
        generator = np.random.default_rng(seed)
        often = [0.5, 0.4, 0.3, 0.2] * 2 + [0.05, 0.04, 0.03, 0.02]
        targets = (generator.random((400, 12)) < often).astype(np.int8)
        spreads.append(spread(targets, stratified_folds(targets, None, [0.8, 0.1, 0.1], seed)).mean())
    assert np.mean(spreads) < 0.016  # 0.012; 0.021 where the commonest are dealt first


def test_a_million_photos_in_a_minute():
    generator = np.random.default_rng(0)
    targets = (generator.random((1_000_000, 13)) < generator.uniform(0.01, 0.5, 13)).astype(np.int8)
    start = time.perf_counter()
    folds = stratified_folds(targets, None, [0.8, 0.1, 0.1], seed=0)
    assert time.perf_counter() - start < 60
    assert spread(targets, folds).max() < 1e-3


def test_evener_than_the_official_folds_of_the_challenge(shared):
    manifest = Manifest.read(shared / "data/jd2018/train-k-fold.txt")
    official = spread(manifest.targets, manifest.frame["fold"].to_numpy())
    for seed in range(3):
        folds = manifest.with_folds(5, seed).frame["fold"].to_numpy()
        ours = spread(manifest.targets, folds)
        assert ours.max() < official.max() / 10
        assert ours.mean() < official.mean() / 10
        assert np.ptp(np.bincount(folds)) <= 5


def test_contributors_of_real_photos_stay_whole(shared):
    table = pl.read_csv(shared / "data/clothing/labels.csv")
    targets = table.select(pl.col("garment").fill_null("?")).to_dummies().to_numpy().astype(np.int8)
    groups = table["contributor"].to_numpy()
    folds = stratified_folds(targets, groups, [0.8, 0.1, 0.1], seed=0)
    assert table.with_columns(fold=folds).group_by("contributor").agg(pl.col("fold").n_unique())["fold"].max() == 1
    np.testing.assert_allclose(np.bincount(folds) / len(folds), [0.8, 0.1, 0.1], atol=0.015)  # the largest gave 12 %


# Of a manifest: which photos are dealt


def with_columns(n, **columns):
    targets = (np.random.default_rng(0).random((n, 3)) < [0.5, 0.2, 0.1]).astype(np.int8)
    paths = [f"{k}.jpg" for k in range(n)]
    frame = pl.DataFrame({"id": paths, "path": paths, **columns})
    return Manifest(LabelSet.free("f", ["a", "b", "c"]), frame, targets, Path("photos"), "made")


def sizes(manifest):
    return {split: int((manifest.frame["split"] == split).sum()) for split in ("train", "val", "test", "")}


def test_splits_are_made_where_there_are_none():
    manifest = with_columns(400, group=[str(k // 4) for k in range(400)]).with_split(0.1, 0.2, seed=1)
    assert sizes(manifest) == pytest.approx({"train": 280, "val": 40, "test": 80, "": 0}, abs=4)
    assert manifest.frame.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
    assert len(manifest.part("val")) == sizes(manifest)["val"]
    again = with_columns(400, group=[str(k // 4) for k in range(400)]).with_split(0.1, 0.2, seed=1)
    assert again.frame.equals(manifest.frame)


def test_a_missing_split_is_carved_out_of_train():
    given = ["train"] * 300 + ["test"] * 80 + [""] * 20
    manifest = with_columns(400, split=given).with_split(0.1, 0.5, seed=1)
    assert sizes(manifest) == pytest.approx({"train": 270, "val": 30, "test": 80, "": 20}, abs=2)
    assert manifest.frame["split"][300:].to_list() == given[300:]
    whole = ["train"] * 200 + ["val"] * 100 + ["test"] * 100
    assert with_columns(400, split=whole).with_split(0.3, 0.3, seed=1).frame["split"].to_list() == whole
    assert sizes(with_columns(10).with_split(0, 0, seed=1))["train"] == 10


def test_blank_groups_are_photos_of_their_own():
    manifest = with_columns(200, group=[""] * 200).with_split(0.5, 0, seed=0)
    assert sizes(manifest)["val"] == pytest.approx(100, abs=2)


def test_other_columns_can_be_spread_too():
    rare = ["pixel" if k % 20 == 0 else "image" for k in range(400)]
    manifest = with_columns(400, annotation=rare).with_folds(4, seed=0, stratify=["annotation"])
    pixel = manifest.frame.filter(pl.col("annotation") == "pixel")["fold"].to_numpy()
    np.testing.assert_array_equal(np.bincount(pixel), [5, 5, 5, 5])
    with pytest.raises(ManifestError, match="column 'anotation'"):
        manifest.with_folds(4, seed=0, stratify=["anotation"])


def test_folds_leave_test_photos_alone():
    manifest = with_columns(100, split=["train"] * 60 + ["val"] * 20 + ["test"] * 10 + [""] * 10).with_folds(4, seed=0)
    assert sorted(set(manifest.frame["fold"][:80].to_list())) == [0, 1, 2, 3]
    assert set(manifest.frame["fold"][80:].to_list()) == {-1}
    assert sizes(manifest.with_fold(2)) == {"train": 60, "val": 20, "test": 10, "": 10}
    assert (manifest.with_fold(2).part("val").frame["fold"] == 2).all()
    with pytest.raises(ManifestError, match="fold 9 in made, but got 0, 1, 2, 3"):
        manifest.with_fold(9)


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (1, 0), (-0.1, 0.1)])
def test_fractions_that_leave_nothing_are_refused(val, test):
    with pytest.raises(ManifestError, match="leave photos to train on"):
        with_columns(10).with_split(val, test, seed=0)


def test_an_empty_part_names_the_splits_there_are():
    with pytest.raises(ManifestError, match="'val' in made, but got 3 of 'train', 1 of 'test'"):
        with_columns(4, split=["train"] * 3 + ["test"]).part("val")
