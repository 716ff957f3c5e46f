"""Frozen-backbone features of photos, computed once: by either engine, in any order, killed or not."""

import os
import shutil

import numpy as np
import polars as pl
import pytest
import torch

from modiste.config import ModelConfig, Recipe
from modiste.data.manifest import Manifest
from modiste.errors import PhotoError, TrainingError
from modiste.models.split import NetworkSplitter
from modiste.models.tagger import Tagger
from modiste.storage import cache
from modiste.storage.arrays import Share
from modiste.training import feature_cache, feature_engine
from modiste.training.dataset import TrainingPhotos, ViewPlan
from modiste.training.feature_cache import FeatureEntry, boundaries, compute
from modiste.training.feature_engine import make_engine
from modiste.training.fixed_views import FixedViews

PHOTOS = 40


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def part(drawn):
    return Manifest.read(drawn).select(np.arange(PHOTOS))


@pytest.fixture(scope="module")
def cutter():
    return made(0)


def made(seed):
    """A network with random weights whose statistics fit them."""
    torch.manual_seed(seed)
    model = Tagger(ModelConfig(backbone="test_byobnet", weights="none"), 5)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8))
    return NetworkSplitter(model, 32)


@pytest.fixture
def recipe(tiny):
    return Recipe.read(tiny)


def augmented(part, recipe, views=2, size=32):
    plan = ViewPlan.make(views, cache.content_keys(part.photos()), recipe.seed)
    return FixedViews.augmented(TrainingPhotos(part, recipe, size, views=plan))


def plain(part, recipe, views="one"):
    return FixedViews.plain(part.photos(), cache.content_keys(part.photos()), recipe, views)


def entry(cutter, pictures, unlock=2):
    (boundary,) = boundaries(cutter, unlock, (pictures.size,))
    return FeatureEntry(pictures, boundary, "test_byobnet")


@pytest.fixture
def calls(monkeypatch):
    """How many pictures each call of the engine was about."""
    counted = []

    def counting(*arguments):
        engine = make_engine(*arguments)
        return lambda photos: (counted.append(len(photos)), engine(photos))[1]

    monkeypatch.setattr(feature_cache, "make_engine", counting)
    return counted


def everything(one):
    """All features of an entry, (views, photos, numbers) float16."""
    kept = one.open()
    rows = range(len(one.pictures.keys))
    return np.stack([view.take(rows) for view in kept.views])


def said_by_hand(cutter, pictures, unlock, view, row):
    locked = cutter.locked([unlock]).eval()
    with torch.inference_mode():
        said = locked(torch.from_numpy(pictures.squares[(view, row)])[None])
    return torch.cat([tensor.flatten() for tensor in said]).numpy()


def assert_near(ours, theirs):
    """Relative to the numbers that there are; float16 has eleven bits."""
    assert np.abs(ours.astype(np.float64) - theirs).max() < 1e-3 * np.abs(theirs).max()


def test_each_row_is_what_the_locked_part_says_of_that_view(cutter, part, recipe):
    for pictures in (augmented(part, recipe), plain(part, recipe)):
        one = entry(cutter, pictures)
        compute(cutter, [[one]], workers=0)
        kept = one.open()
        for view, row in ((0, 0), (0, PHOTOS - 1), (pictures.views - 1, 17)):
            assert_near(kept.views[view][row].reshape(-1), said_by_hand(cutter, pictures, 2, view, row))
            (tensor,) = kept.tensors([view], [row])
            assert tensor.shape == (1, *one.boundary.shapes[0])
            assert tensor.dtype == torch.float32
            assert np.array_equal(tensor.numpy().reshape(-1), kept.views[view][row].reshape(-1).astype(np.float32))


def test_onnx_runtime_says_what_pytorch_says(cutter, part, recipe, monkeypatch):
    locked = cutter.locked(["none", 2])
    pixels = np.stack([augmented(part, recipe).squares[(1, row)] for row in range(5)])
    ours = make_engine(locked, 32, PHOTOS, torch.device("cpu"))(pixels)
    monkeypatch.setattr(feature_engine, "WORTH_EXPORTING", 1)
    session = make_engine(locked, 32, PHOTOS, torch.device("cpu"))
    assert "_onnx_runtime" in session.__qualname__
    for count in (5, 1, 3):  # any number of photos
        theirs = session(pixels[:count])
        assert {tensor.dtype for tensor in theirs} == {np.dtype(np.float16)}
        for one, other in zip(ours, theirs, strict=True):
            assert_near(other, one[:count].astype(np.float64))


def test_what_is_kept_is_not_computed_again(cutter, part, recipe, calls):
    one = entry(cutter, augmented(part, recipe))
    told = []
    compute(cutter, [[one]], workers=0, progress=lambda *progress: told.append(progress))
    assert sum(calls) == 2 * PHOTOS
    assert told[-1] == (2 * PHOTOS, 2 * PHOTOS)
    before = everything(one)
    compute(cutter, [[one]], workers=0)
    compute(cutter, [[entry(made(0), augmented(part, recipe))]], workers=0)  # another run with the same weights
    assert sum(calls) == 2 * PHOTOS
    assert one.missing_bytes() == 0
    assert np.array_equal(everything(one), before)


def test_one_pass_fills_the_entries_of_several_stages(cutter, part, recipe, calls):
    pictures, val = augmented(part, recipe), plain(part, recipe)
    entries = [[entry(cutter, one, unlock) for unlock in ("none", 2)] for one in (pictures, val)]
    compute(cutter, entries, workers=0)
    assert sum(calls) == 3 * PHOTOS
    assert len({one.folder for own in entries for one in own}) == 4
    for own in entries:
        for unlock, one in zip(("none", 2), own, strict=True):
            assert_near(one.open().views[0][3].reshape(-1), said_by_hand(cutter, own[0].pictures, unlock, 0, 3))
    compute(cutter, [[entry(cutter, pictures, "none")], [entry(cutter, val, 2)]], workers=0)
    assert sum(calls) == 3 * PHOTOS


@pytest.mark.parametrize("after", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(4, marks=pytest.mark.slow)])
def test_killed_and_gone_on_ends_with_the_same_features(after, cutter, part, recipe, *, calls, monkeypatch):
    monkeypatch.setattr("modiste.storage.arrays._FLUSH_BYTES", 1)

    def killed(done, total):
        if done >= 16 * after:
            raise KeyboardInterrupt

    one = entry(cutter, augmented(part, recipe))
    with pytest.raises(KeyboardInterrupt):
        compute(cutter, [[one]], workers=0, progress=killed)
    assert 0 < one.missing_bytes() < 2 * PHOTOS * one.boundary.bytes
    first = sum(calls)
    compute(cutter, [[one]], workers=0)
    assert sum(calls) - first < 2 * PHOTOS
    broken = everything(one)
    shutil.rmtree(cache.cache_folder())
    compute(cutter, [[one]], workers=0)
    assert_near(broken, everything(one).astype(np.float64))  # other batches may round another way
    assert (broken != everything(one)).mean() < 0.01


def test_the_number_of_workers_changes_nothing(cutter, part, recipe):
    one = entry(cutter, augmented(part, recipe))
    compute(cutter, [[one]], workers=0)
    alone = everything(one)
    shutil.rmtree(cache.cache_folder())
    compute(cutter, [[one]], workers=2)
    assert np.array_equal(everything(one), alone)


CHANGES = {
    "another size": (["image.size=40"], 80),
    "another augmentation": (["augment.rotate=16"], 80),
    "another border": (["augment.border=white"], 80),
    "another mode": (["image.mode=crop"], 80),
    "another crop": (["augment.crop_scale=[0.5, 1.0]"], 80),
    "another shape of crops": (["augment.crop_ratio=[0.5, 2.0]"], 80),
    "one view more": (["augment.views=3"], 40),
    "one view less": (["augment.views=1"], 0),
    "another seed": (["seed=9"], 0),
    "mixup, dropout, batch": (["augment.mixup=0.2", "model.dropout=0.1", "train.batch_size=7"], 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_another_recipe_computes(change, cutter, part, recipe, calls):
    compute(cutter, [[entry(cutter, augmented(part, recipe))]], workers=0)
    changed = recipe.replace(["augment.views=2"]).replace(CHANGES[change][0])
    other = entry(cutter, augmented(part, changed, changed.augment.views, changed.image.size))
    calls.clear()
    compute(cutter, [[other]], workers=0)
    assert sum(calls) == CHANGES[change][1]
    assert len(cache.entries()) == (2 if sum(calls) == 80 else 1)


def test_plain_views_depend_on_size_and_mode_alone(cutter, part, recipe):
    changes = (["image.size=40"], ["image.mode=crop"], ["augment.rotate=16", "seed=9"], [])
    folders = [entry(cutter, plain(part, recipe.replace(change))).folder for change in changes]
    assert len(set(folders)) == 3
    assert folders[2] == folders[3]


def test_views_of_another_decoder_are_computed_anew(cutter, part, recipe, monkeypatch):
    made_now = [entry(cutter, views(part, recipe)).folder for views in (plain, augmented)]
    monkeypatch.setattr("modiste.data.images.DECODER", 99)
    assert not {*made_now} & {entry(cutter, views(part, recipe)).folder for views in (plain, augmented)}


def test_what_another_network_computes(cutter, part, recipe, calls):
    pictures = augmented(part, recipe, views=1)
    folders = [entry(one, pictures, unlock).folder for one in (cutter, made(1)) for unlock in ("none", 1, 2)]
    assert len(set(folders)) == 6
    other = made(0)
    with torch.no_grad():  # of a lock's part that trains, no weight matters; of the locked part, each
        list(other.model.backbone.parameters())[-1].add_(1)
        other.model.head.weight.add_(1)
    assert [entry(other, pictures, unlock).folder for unlock in (1, 2)] == folders[1:3]
    assert entry(other, pictures, "none").folder != folders[0]
    next(iter(other.model.backbone.buffers())).add_(1e-3)
    assert entry(other, pictures, 2).folder != folders[2]


def test_more_photos_are_added(cutter, part, recipe, calls):
    compute(cutter, [[entry(cutter, augmented(part.select(np.arange(25)), recipe))]], workers=0)
    whole = entry(cutter, augmented(part, recipe))
    compute(cutter, [[whole]], workers=0)
    assert sum(calls) == 2 * PHOTOS
    assert_near(whole.open().views[1][33].reshape(-1), said_by_hand(cutter, whole.pictures, 2, 1, 33))


def test_photos_of_the_same_content_are_computed_once(cutter, part, recipe, calls, tmp_path):
    names = [str(part.photo(k)) for k in (0, 1, 0, 2, 1)]
    for k in (2, 4):
        names[k] = str(shutil.copy(names[k], tmp_path / f"{k}.png"))
    pl.DataFrame({"image": names, "sports": [1, 0, 1, 1, 0]}).write_csv(tmp_path / "twice.csv")
    one = entry(cutter, augmented(Manifest.read(tmp_path / "twice.csv"), recipe))
    compute(cutter, [[one]], workers=0)
    assert sum(calls) == 2 * 3
    kept = everything(one)
    assert np.array_equal(kept[:, [2, 4]], kept[:, [0, 1]])
    assert not np.array_equal(kept[:, 0], kept[:, 1])


def test_fewer_plain_views_are_the_first_of_more(cutter, part, recipe, calls):
    one, two = entry(cutter, plain(part, recipe, "one")), entry(cutter, plain(part, recipe, "flip"))
    assert one.folder == two.folder
    compute(cutter, [[two]], workers=0)
    compute(cutter, [[one]], workers=0)
    assert sum(calls) == 2 * PHOTOS
    assert np.array_equal(everything(one)[0], everything(two)[0])
    squares = two.pictures.squares
    assert np.array_equal(squares[(1, 5)], squares[(0, 5)][:, :, ::-1])
    assert plain(part, recipe, "flip+translate").views == 10


@pytest.mark.parametrize("exporting", [False, True])
def test_a_value_beyond_16_bits_is_told(exporting, part, recipe, monkeypatch, request):
    if exporting:
        monkeypatch.setattr(feature_engine, "WORTH_EXPORTING", 1)
    cutter = made(0)
    cutter.model.std.fill_(1e-9)
    one = entry(cutter, plain(part, recipe), "none")
    with pytest.raises(TrainingError, match=r"^Expected features of locked layers to fit into 16 bits, but got .*Try "):
        compute(cutter, [[one]], workers=0)
    assert len(one.missing(0)) == PHOTOS


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_photo_is_named(workers, cutter, drawn, recipe, tmp_path):
    shutil.copytree(drawn.parent, tmp_path / "data")
    part = Manifest.read(tmp_path / "data" / drawn.name).select(np.arange(PHOTOS))
    part.photo(30).write_bytes(part.photo(30).read_bytes()[:400])
    for pictures in (augmented(part, recipe), plain(part, recipe)):
        one = entry(cutter, pictures)
        with pytest.raises(PhotoError, match=rf"^Expected .*{part.photo(30).name}.*, but got .*Try "):
            compute(cutter, [[one]], workers=workers)


def test_processes_share_the_work_whoever_begins_first(cutter, part, recipe):
    one = entry(cutter, plain(part, recipe))
    for rank in range(3):
        compute(cutter, [[one]], workers=0, share=Share(rank, 3))
    assert one.missing_bytes() == 0


def test_an_entry_is_in_use_while_it_grows(monkeypatch, cutter, part, recipe):
    monkeypatch.setattr(cache, "TOUCH_SECONDS", 0)
    one = entry(cutter, augmented(part, recipe))

    def look(done, _):
        assert done % 16 or cache.entries()[0].in_use
        os.utime(one.folder / "entry.json", (0, 0))

    compute(cutter, [[one]], workers=0, progress=look)
    one.open()
    assert cache.entries()[0].in_use
