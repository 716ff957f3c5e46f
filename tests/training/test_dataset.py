"""Photos as training reads them."""

import math

import numpy as np
import pytest
from PIL import Image

from modiste.config import Recipe
from modiste.training.dataset import read_square


@pytest.mark.parametrize("smallest", [0.03, 0.2, 0.9])
def test_the_smallest_crop_is_decoded_no_coarser_than_it_is_shown(smallest, tiny, tmp_path):
    Image.fromarray(np.zeros((600, 800, 3), np.uint8)).save(tmp_path / "a.jpg")
    recipe = Recipe.read(tiny).replace([f"augment.crop_scale=[{smallest}, 1.0]"])
    photo = read_square(str(tmp_path / "a.jpg"), recipe, 64)
    height, width = photo.shape[:2]
    assert (height < 600) == (smallest > 0.1)  # at 1/2 or less where that is enough
    assert math.sqrt(smallest) * min(height, width) >= 64
