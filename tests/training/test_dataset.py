"""Training photos: how fine they are decoded, what goes to worker processes, and how many there are."""

import math
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from modiste.config import Recipe
from modiste.data.manifest import Manifest
from modiste.storage import cache
from modiste.training import dataset, pixel_cache
from modiste.training.dataset import Showing, TrainingPhotos, ViewPlan, make_loader, read_training_photo, reader_count

SHOWN = [[Showing(0, 3), Showing(1, 3)], [Showing(2, 0), Showing(0, 11)]]


@pytest.fixture
def kept(drawn, tiny, tmp_path, monkeypatch):
    """Twelve drawn photos, kept as pixels beside many others, and the same ones without."""
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))
    recipe, whole = Recipe.read(tiny), Manifest.read(drawn)
    every = TrainingPhotos(whole, recipe, 32)
    pixel_cache.keep(every, cache.content_keys(every.paths))
    some = whole.select(np.arange(12))
    keys = cache.content_keys(some.photos())
    plain = TrainingPhotos(some, recipe, 32, views=ViewPlan.make(3, keys, 1))
    opened = pixel_cache.open_kept(plain, keys)
    assert sum(file.nbytes for file in opened.files) == 240 * 32 * 32 * 3
    return TrainingPhotos(some, recipe, 32, views=plain.views, kept=opened), plain


def loaded(photos, **settings):
    return list(DataLoader(photos, batch_sampler=SHOWN, collate_fn=dataset._collate, **settings))


def assert_equal(batches, others):
    for (photos, targets), (others_, targets_) in zip(batches, others, strict=True):
        assert torch.equal(photos, others_)
        assert torch.equal(targets, targets_)


def test_a_worker_that_is_spawned_gets_no_pixels_and_reads_the_same(kept):
    photos, plain = kept
    assert len(pickle.dumps(photos)) < len(pickle.dumps(plain)) + 1000  # of 740,000 bytes of pixels
    spawned = loaded(photos, num_workers=1, multiprocessing_context="spawn")
    assert_equal(spawned, loaded(plain))


def test_a_worker_that_is_spawned_after_the_cache_was_removed_decodes_the_photos(kept):
    photos, plain = kept
    shutil.rmtree(cache.cache_folder())
    assert_equal(loaded(photos), loaded(plain))  # its maps are still open
    again = pickle.loads(pickle.dumps(photos))
    assert again.kept is None
    assert_equal(loaded(again), loaded(plain))


@pytest.mark.parametrize(
    ("cores", "devices", "readers"), [(1, 1, 1), (2, 1, 1), (8, 1, 4), (64, 1, 8), (64, 8, 4), (4, 4, 1)]
)
def test_readers_follow_the_cores_that_a_device_has(cores, devices, readers, tiny, monkeypatch):
    monkeypatch.setattr(dataset, "usable_cores", lambda: cores)
    free = Recipe.read(tiny).replace(["name=free"]).model_dump()
    free["train"]["workers"] = None
    assert reader_count(Recipe.from_dict(free), devices) == readers
    for workers in (0, 3):
        assert reader_count(Recipe.read(tiny).replace([f"train.workers={workers}"]), devices) == workers


def test_any_number_of_readers_gives_the_same_batches(kept):
    photos = kept[1]
    rows = [np.array([3, 1, 4]), np.array([11, 5, 9]), np.array([2, 6, 0])]
    alone = list(make_loader(photos, 1, rows, 0))
    for workers in (1, 2):
        assert_equal(make_loader(photos, 1, rows, workers), alone)


@pytest.mark.parametrize("smallest", [0.03, 0.2, 0.9])
def test_the_smallest_crop_is_decoded_no_coarser_than_it_is_shown(smallest, tiny, tmp_path):
    Image.fromarray(np.zeros((600, 800, 3), np.uint8)).save(tmp_path / "a.jpg")
    recipe = Recipe.read(tiny).replace([f"augment.crop_scale=[{smallest}, 1.0]"])
    photo = read_training_photo(str(tmp_path / "a.jpg"), recipe, 64)
    height, width = photo.shape[:2]
    assert (height < 600) == (smallest > 0.1)  # at 1/2 or less where that is enough
    assert math.sqrt(smallest) * min(height, width) >= 64
