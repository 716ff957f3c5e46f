"""The search for look-alikes against brute force, scipy, planted edits and real photos."""

import io

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageEnhance
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from modiste.audit import near_duplicates
from modiste.audit.hashes import MIRRORED, RADIUS, WHOLE, View, align, detail, hashes, samples
from modiste.audit.near_duplicates import HashIndex, find_near_duplicates
from modiste.audit.thumbnails import SIDE, make_thumbnails
from modiste.data.groups import components
from modiste.demo.drawing import draw_dataset


def brute_force(queries, values):
    distances = np.bitwise_count(queries[:, None] ^ values[None])
    return set(zip(*(axis.tolist() for axis in np.nonzero(distances <= RADIUS)), strict=True))


def found(index, queries):
    return set(zip(*(axis.tolist() for axis in index.near(queries)), strict=True))


def clustered(generator, n, centres):
    """Hashes at up to 14 bits from a few centres."""
    middle = generator.integers(0, 2**64, centres, np.uint64)[generator.integers(centres, size=n)]
    flips = [np.bitwise_or.reduce(np.uint64(1) << generator.choice(64, k, replace=False).astype(np.uint64)) if k else 0
             for k in generator.integers(0, 15, n)]  # fmt: skip
    return middle ^ np.array(flips, np.uint64)


@pytest.mark.parametrize("centres", [1, 5, 200, None])
def test_every_pair_within_the_radius_is_found_and_no_other(centres, monkeypatch):
    generator = np.random.default_rng(3)
    values = generator.integers(0, 2**64, 1500, np.uint64) if centres is None else clustered(generator, 1500, centres)
    monkeypatch.setattr(near_duplicates, "MOST_NEAR", 1500)
    monkeypatch.setattr(near_duplicates, "MOST_IN_BUCKET", 1500)  # of one centre alone, all lie in one bucket
    queries = values[::3] ^ np.uint64(1 << 40 | 1 << 3)
    index = HashIndex(values)
    assert found(index, queries) == brute_force(queries, values)
    assert not index.crowded.any()


def test_a_crowd_costs_some_pairs_and_says_so(monkeypatch):
    monkeypatch.setattr(near_duplicates, "MOST_NEAR", 1500)
    monkeypatch.setattr(near_duplicates, "MOST_IN_BUCKET", 50)
    generator = np.random.default_rng(0)
    values = np.concatenate([clustered(generator, 1000, 1), generator.integers(0, 2**64, 300, np.uint64)])
    index = HashIndex(values)
    some, all_ = found(index, values), brute_force(values, values)
    assert {(k, k) for k in range(1000, 1300)} <= some < all_
    assert index.crowded[:1000].sum() > 500
    assert index.crowded[1000:].sum() < 10  # by chance in a bucket of the crowd


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.data())
def test_clusters_are_connected_components(n, data):
    pairs = data.draw(hnp.arrays(np.int64, st.tuples(st.integers(0, 50), st.just(2)), elements=st.integers(0, n - 1)))
    ours = components(n, pairs)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, theirs = connected_components(graph, directed=False)
    np.testing.assert_array_equal(ours[:, None] == ours, theirs[:, None] == theirs)
    assert all(ours[k] == np.flatnonzero(theirs == theirs[k])[0] for k in range(n))


def thumbnail(picture):
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))


def test_a_view_is_seen_as_if_the_photo_had_been_cut_or_mirrored(drawn):
    photo = Image.open(drawn.parent / pl.read_csv(drawn)["image"][0]).convert("RGB").resize((320, 320))
    cut = photo.crop((0, 32, 288, 320))
    view = View(rows=(0.1, 1.0), columns=(0.0, 0.9))
    seen, made = hashes(thumbnail(photo)[None], view), hashes(thumbnail(cut)[None])
    assert np.bitwise_count(seen ^ made)[0] <= 3
    np.testing.assert_allclose(samples(thumbnail(photo)[None], view), samples(thumbnail(cut)[None]), atol=12)
    mirrored = np.asarray(thumbnail(photo))[None, :, ::-1]
    assert hashes(mirrored)[0] == hashes(thumbnail(photo)[None], MIRRORED)[0] != hashes(mirrored, MIRRORED)[0]


def test_alignment_finds_the_shift_and_detail_forgives_it():
    generator = np.random.default_rng(5)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), np.uint8)).resize(
        (340, 340), Image.Resampling.BICUBIC
    )
    one, moved = coarse.crop((10, 10, 330, 330)), coarse.crop((15, 10, 335, 330))  # 5 / 320 of the width to the left
    pair = [thumbnail(picture)[None] for picture in (one, moved)]
    moves, fits = align(samples(pair[0]), samples(pair[1]))
    assert fits[0]
    assert moves[0, 0] == pytest.approx(5 / 320 * 16, abs=0.05)
    assert moves[0, 2] == pytest.approx(0, abs=0.05)
    still = detail(*pair, np.zeros((1, 4)), WHOLE)[0]
    assert still < detail(*pair, moves, WHOLE)[0]
    assert detail(*pair, moves, WHOLE)[0] > 0.98


def jpeg(picture, quality=90):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


EDITS = {
    "half": lambda p: jpeg(p.resize((p.width // 2, p.height // 2), Image.Resampling.BICUBIC)),
    "quality": lambda p: jpeg(p, 40),
    "crop": lambda p: jpeg(p.crop((0, p.height * 5 // 100, p.width * 95 // 100, p.height))),
    "bright": lambda p: jpeg(ImageEnhance.Brightness(p).enhance(0.85)),
    "flip": lambda p: jpeg(p.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
}


def planted(paths, folder):
    """Each photo with one edited copy behind it, edits in turn; photos, and the edit of each pair."""
    folder.mkdir()
    both = []
    for k, path in enumerate(paths):
        name = list(EDITS)[k % len(EDITS)]
        copy = folder / f"{k}-{name}.jpg"
        copy.write_bytes(EDITS[name](Image.open(path).convert("RGB")))
        both += [path, copy]
    return both, [list(EDITS)[k % len(EDITS)] for k in range(len(paths))]


def recall_and_others(paths, tmp_path):
    both, edits = planted(paths, tmp_path / "edited")
    alike = find_near_duplicates(
        make_thumbnails(both, tmp_path / "kept", workers=2), both, tmp_path / "kept", workers=2
    )
    recall = {}
    for name in EDITS:
        at = [2 * k for k, edit in enumerate(edits) if edit == name]
        clusters = alike.any if name == "flip" else alike.near
        recall[name] = np.mean(clusters[at] == clusters[np.array(at) + 1])
    others = alike.pairs[alike.pairs[:, 0] // 2 != alike.pairs[:, 1] // 2] // 2
    assert alike.crowded == 0
    return recall, len(np.unique(others, axis=0))


def test_edited_copies_of_drawn_pictures_are_found_and_others_are_not(tmp_path):
    table = draw_dataset(tmp_path / "drawn", 240, 128, 0)  # larger than the fixture's, whose halves are stamps
    paths = [table.parent / name for name in pl.read_csv(table)["image"]]
    recall, others = recall_and_others(paths, tmp_path)
    assert all(share >= 0.95 for share in recall.values()), recall
    assert others <= 28  # of 28,680: flat drawings are far more alike than photos, some differ in one small cue


def test_edited_copies_of_real_photos_are_found_and_others_are_not(shared, tmp_path):
    rows = pl.read_csv(shared / "data" / "clothing" / "labels.csv", infer_schema=False)
    paths = [shared / "data" / "clothing" / name for name in rows["image"].head(500)]
    recall, others = recall_and_others(paths, tmp_path)
    assert all(share >= 0.97 for share in recall.values()), recall
    assert others <= 1


def test_a_thousand_copies_are_one_cluster_and_quick_to_find(tmp_path):
    generator = np.random.default_rng(1)
    coarse = generator.integers(0, 256, (8, 8, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    thumbnails = np.repeat(np.asarray(picture)[None], 3000, axis=0).astype(np.int64)
    thumbnails = np.clip(thumbnails + generator.integers(-2, 3, thumbnails.shape), 0, 255).astype(np.uint8)
    pairs, alike, mirrored, _ = near_duplicates._search(thumbnails, None)
    assert (components(3000, pairs) == 0).all()
    assert len(pairs) < 60 * 3000  # by way of representatives, not all with all
    assert not mirrored.any()
    assert (alike > 0.9).all()
