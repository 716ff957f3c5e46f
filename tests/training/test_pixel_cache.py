"""Decoded photos that are kept: those of one recipe are never given to another that wants others."""

import numpy as np
import pytest
from PIL import Image

from modiste.config import Recipe
from modiste.data.manifest import Manifest
from modiste.storage import cache
from modiste.training import pixel_cache
from modiste.training.dataset import TrainingPhotos, read_training_photo

CROPS = "augment.crop_scale=[0.5, 1.0]"
CHANGES = {  # what a recipe has besides, then what another has, and whether the second finds the first's photos
    "size": ([], ["image.size=40"], False),
    "mode": ([], ["image.mode=crop"], False),
    "crops": ([], [CROPS], False),
    "smallest crop": ([CROPS], ["augment.crop_scale=[0.2, 1.0]"], False),
    "size of crops": ([CROPS], [CROPS, "image.size=20"], False),
    "largest crop": ([CROPS], ["augment.crop_scale=[0.5, 0.9]"], True),
    "seed and colours": ([], ["seed=9", "augment.color=0.3"], True),
}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("change", CHANGES)
def test_kept_photos_are_those_that_the_recipe_reads(change, tiny, tmp_path):
    for k in range(2):  # no squares, and large enough that JPEG is decoded at several scales
        noise = np.random.default_rng(k).integers(0, 256, (40, 20, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((200, 400)).save(tmp_path / f"{k}.jpg")
    (tmp_path / "photos.csv").write_text("image,red\n0.jpg,1\n1.jpg,0\n")
    part = Manifest.read(tmp_path / "photos.csv")
    keys = cache.content_keys(part.photos())
    one, other, shared = CHANGES[change]
    computed = []
    for changes in (one, other):
        recipe = Recipe.read(tiny).replace(["image.size=32", *changes])
        photos = TrainingPhotos(part, recipe, recipe.image.size)
        assert pixel_cache.fits(photos, keys)
        pixel_cache.keep(photos, keys, progress=lambda done, total: computed.append((done, total)))
        kept = pixel_cache.open_kept(photos, keys)
        for row, path in enumerate(photos.paths):
            assert np.array_equal(kept[row], read_training_photo(path, recipe, recipe.image.size))
    assert computed == [(2, 2)] if shared else [(2, 2)] * 2


def test_photos_of_another_decoder_are_decoded_anew(drawn, tiny, monkeypatch):
    photos = TrainingPhotos(Manifest.read(drawn), Recipe.read(tiny), 32)
    folder = pixel_cache._entry(photos)[0]
    monkeypatch.setattr("modiste.data.images.DECODER", 99)
    assert pixel_cache._entry(photos)[0] != folder
