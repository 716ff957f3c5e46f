"""Predictor without any network: the order, the views and the errors are what is tested."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from modiste.config import ImageConfig
from modiste.data import images
from modiste.decisions.blend import Blend
from modiste.decisions.decision import Decision
from modiste.errors import LabelError, PhotoError, UsageError
from modiste.inference.predictor import Ensemble, Predictor, make_views
from modiste.labels import LabelSet
from modiste.prediction import MapCells, NetworkOutput

LABELS = LabelSet.free("sides", ["left", "right", "top"])
RNG = np.random.default_rng(0)


def brightness(photos, *, maps=True):
    """(n, size, size, 3) -> mean of the left half, the right half and the upper half, in [0, 1]."""
    assert photos.dtype == np.uint8
    half = photos.shape[1] // 2
    parts = photos[:, :, :half], photos[:, :, half:], photos[:, :half]
    probs = np.stack([part.mean(axis=(1, 2, 3)) / 255 for part in parts], axis=1).astype(np.float32)
    places = photos.reshape(-1, 1, 2, half, 2, half, 3).mean(axis=(3, 5, 6), dtype=np.float32)
    return NetworkOutput(probs, probs, np.repeat(places - 100, 3, axis=1) if maps else None)


def predictor(**changes):
    settings = {"batch_size": 3, "readers": 2, "cells": MapCells(32, (0.25, 0.75)), **changes}
    return Predictor(brightness, LABELS, ImageConfig(size=32), Decision.untuned("fixed:0.5", LABELS), **settings)


def test_a_stream_keeps_order_and_equals_one_by_one(photos):
    many = list(predictor().stream(photos))
    assert [p.photo for p in many] == [str(path) for path in photos]
    for path, prediction in zip(photos, many, strict=True):
        alone = brightness(images.read_square(path, 32, "stretch")[None]).probs[0]
        np.testing.assert_allclose(prediction.prob_array, alone, atol=1e-6)
        assert prediction.labels == tuple(label for label, p in zip(LABELS.ids, alone, strict=True) if p > 0.5)


def test_paths_bytes_and_arrays_give_the_same(photos):
    said = [predictor().predict(s).probs for s in (photos[0], str(photos[0]), photos[0].read_bytes())]
    assert said[0] == said[1] == said[2]
    assert predictor().predict(images.read_photo(photos[0])).probs == said[0]


def test_a_broken_photo_never_stops_the_rest(photos, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no photo")
    missing = tmp_path / "missing.jpg"
    said = list(predictor().stream([photos[0], broken, photos[1], missing, *photos[2:]]))
    assert [p.error is not None for p in said] == [False, True, False, True] + [False] * (len(photos) - 2)
    assert "broken.jpg" in said[1].error
    assert said[1].labels == ()
    assert np.isnan(said[1].prob_array).all()
    with pytest.raises(PhotoError, match=r"missing\.jpg"):
        predictor().predict(missing)


def test_flip_averages_the_two_sides():
    photos = RNG.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    plain, flipped = predictor().ask(photos).probs, predictor(views="flip").ask(photos).probs
    np.testing.assert_allclose(flipped[:, 0], (plain[:, 0] + plain[:, 1]) / 2, atol=1e-6)
    np.testing.assert_allclose(flipped[:, 0], flipped[:, 1], atol=1e-6)
    np.testing.assert_allclose(flipped[:, 2], plain[:, 2], atol=1e-6)


def test_translated_views_are_moved_photos_with_their_edges_repeated():
    photos = RNG.integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
    views = [view[0] for view in make_views(photos, "flip+translate")]
    assert len(views) == 10
    photo, mirror, right, left, down, up = views[:6]
    np.testing.assert_array_equal(mirror, photos[0, :, ::-1])
    np.testing.assert_array_equal(right[:, 2:], photo[:, :-2])  # 5 % of 40 pixels
    np.testing.assert_array_equal(right[:, :2], photo[:, [0, 0]])
    np.testing.assert_array_equal(left[:, :-2], photo[:, 2:])
    np.testing.assert_array_equal(down[2:], photo[:-2])
    np.testing.assert_array_equal(up[:-2], photo[2:])
    assert all(view.shape == photo.shape for view in views)


def test_views_of_one_colour_change_nothing():
    photos = np.full((2, 32, 32, 3), 77, dtype=np.uint8)
    moved, still = (predictor(views=views).ask(photos).probs for views in ("flip+translate", "one"))
    np.testing.assert_allclose(moved, still, atol=1e-6)


def test_a_heatmap_is_the_evidence_of_the_plain_view_as_a_share_of_the_most():
    photo = np.zeros((32, 32, 3), np.uint8)
    photo[:16, :16], photo[:16, 16:], photo[16:, :16] = 110, 140, 90  # evidence 10, 40, none, none
    said = predictor(views="flip").predict(photo)
    np.testing.assert_allclose(said.heatmap("top", 2), [[0.25, 1], [0, 0]], atol=1e-6)
    heat = said.heatmap("top")
    assert heat.shape == (32, 32)
    assert heat.max() == 1
    assert {int(place) for place in np.argwhere(heat == 1)[0]} <= {7, 8, 23, 24}  # the centre of its cell
    with pytest.raises(LabelError, match="'bottom'"):
        said.heatmap("bottom")
    nothing = predictor().predict(np.zeros((32, 32, 3), np.uint8))
    assert not nothing.heatmap("top").any()


def test_a_network_without_places_has_no_heatmap(photos):
    blind = Predictor(
        lambda photos, maps: brightness(photos)._replace(maps=None),
        LABELS,
        ImageConfig(size=32),
        Decision.untuned("fixed:0.5", LABELS),
    )
    with pytest.raises(UsageError, match="a network that has none"):
        blind.predict(photos[0]).heatmap("left")


def test_reading_ahead_is_bounded(photos):
    taken = []
    sources = (taken.append(k) or photos[k % 10] for k in range(200))
    stream = predictor().stream(sources)
    next(stream)
    assert len(taken) < 20


@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 4), (0, 40, 3)])
def test_an_array_that_is_no_photo_is_an_error_of_its_own(shape, photos):
    said = list(predictor().stream([photos[0], np.zeros(shape, np.uint8), np.zeros((4, 4, 3)), photos[1]]))
    assert [p.error is not None for p in said] == [False, True, True, False]


def test_a_manifest_in_another_label_order_is_refused(trained):
    from modiste.data.manifest import Manifest
    from modiste.errors import RunError
    from modiste.evaluation.evaluate import evaluate
    from modiste.runs.run import Run

    own = Run.read(trained).manifest()
    turned = LabelSet.free("turned", own.label_set.ids[::-1])
    with pytest.raises(RunError, match="in order, but got ethnic"):
        evaluate(trained, "val", manifest=Manifest(turned, own.frame, own.targets[:, ::-1], own.root, own.source))


def member(size, mode="stretch", **changes):
    settings = {"batch_size": 3, **changes}
    image = ImageConfig(size=size, mode=mode)
    return Predictor(brightness, LABELS, image, Decision.untuned("fixed:0.5", LABELS), **settings)


@pytest.mark.parametrize("kind", ["path", "bytes"])
def test_an_ensemble_decodes_a_photo_once_a_size_and_mode(kind, photos, tmp_path, monkeypatch):
    members = (member(32), member(32, views="flip"), member(16), member(32, "crop"))
    nested = Ensemble((members[0], members[2]), Blend.mean(2), members[0].decision)
    weights = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
    both = Ensemble((*members, nested), Blend("weights", weights), members[0].decision)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no photo")
    sources = [*photos, tmp_path / "broken.jpg"]
    if kind == "bytes":
        sources = [path.read_bytes() for path in sources]
    alone = [np.array([one.probs for one in tagger.raw(sources)]) for tagger in (*members, nested)]

    decoded, real = Counter(), images.decode_square

    def decode_square(data, size, mode, *, name):
        decoded[size, mode] += 1
        return real(data, size, mode, name=name)

    monkeypatch.setattr(images, "decode_square", decode_square)
    said = list(both.raw(sources))
    assert decoded == {(32, "stretch"): 11, (16, "stretch"): 10, (32, "crop"): 10}  # the broken one is tried once
    expected = np.tensordot(weights, np.stack(alone), axes=1)
    np.testing.assert_allclose(np.array([one.probs for one in said]), expected, atol=1e-6)
    assert [one.error is not None for one in said] == [False] * 10 + [True]


def test_maps_are_asked_for_only_where_heatmaps_are_wanted(photos):
    asked = []

    def forward(squares, *, maps):
        asked.append(maps)
        return brightness(squares, maps=maps)

    network = predictor(views="flip")
    network = Predictor(forward, LABELS, network.image, network.decision, views="flip", cells=network.cells)
    for photo in network.stream(photos[:2]):
        assert photo.maps is None
        with pytest.raises(UsageError, match=r"a prediction without heatmaps.*heatmaps=True"):
            photo.heatmap("left")
    list(network.raw(photos[:2]))
    network.predict(photos[0], heatmaps=False)
    assert not any(asked)
    asked.clear()
    assert network.predict(photos[0]).heatmap("left").shape == (32, 32)
    assert next(network.stream(photos[:2], heatmaps=True)).heatmap("left").shape == (32, 32)
    assert asked == [True, False] * 2  # of two views only the plain one


@pytest.mark.parametrize("views", ["ten", "", "Flip", None])
def test_unknown_views_are_refused(views):
    words = "Expected views to be one of one, flip, flip\\+translate"
    with pytest.raises(UsageError, match=words):
        predictor(views=views)
    with pytest.raises(UsageError, match=words):
        list(make_views(np.zeros((1, 8, 8, 3), np.uint8), views))


def test_a_table_of_photos(photos, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    frame = predictor().frame([*photos, broken])
    assert frame.columns == ["photo", "labels", "unsure", "review", "error", *LABELS.ids]
    assert frame["photo"].to_list() == [*map(str, photos), str(broken)]
    for row, said in zip(frame.iter_rows(named=True), predictor().stream(photos), strict=False):
        assert tuple(row["labels"]) == said.labels
        np.testing.assert_allclose([row[label] for label in LABELS.ids], said.prob_array)
    assert frame["left"][-1] is None
    assert "broken.jpg" in frame["error"][-1]
    assert predictor().frame([]).height == 0


def test_what_is_no_photo_stands_in_its_place(photos):
    said = list(predictor().stream([photos[0], None, photos[1]]))
    assert [one.error is not None for one in said] == [False, True, False]
    with pytest.raises(PhotoError, match="but got a list"):
        predictor().predict([photos[0]])
    with photos[0].open("rb") as file:
        assert predictor().predict(file).probs == predictor().predict(photos[0]).probs


@pytest.mark.parametrize("mode", ["stretch", "letterbox", "crop"])
def test_a_path_and_its_pixels_say_nearly_the_same_in_every_mode(mode, tmp_path):
    y, x = np.mgrid[:905, :603]
    photo = np.stack([np.sin(x / 9 + y / 40), np.cos(y / 11), np.sin((x + y) / 60)], axis=-1) * 110 + 128
    Image.fromarray(photo.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    tagger = member(48, mode)
    one, two = tagger.predict(tmp_path / "a.jpg"), tagger.predict(images.read_photo(tmp_path / "a.jpg"))
    np.testing.assert_allclose(one.prob_array, two.prob_array, atol=0.002)
