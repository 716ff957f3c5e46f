import math
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from modiste.config import AugmentConfig
from modiste.data.images import read_photo, resize
from modiste.training import augment as module
from modiste.training.augment import augment, generator, mixup

OFF = {"flip": 0.0, "translate": 0.0, "rotate": 0.0}
EVERYTHING = AugmentConfig(crop_scale=(0.5, 1.0), color=0.3, rotate=30, translate=0.2)


def noise(height=30, width=40):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def views(photo, config, count, size=32, mode="stretch"):
    return [augment(photo, size, mode, config, generator(0, 0, index)) for index in range(count)]


@pytest.mark.parametrize("mode", ["stretch", "letterbox", "crop"])
def test_everything_off_is_exactly_resize(mode):
    view = augment(noise(), 24, mode, AugmentConfig(**OFF), generator(0, 0, 0))
    assert np.array_equal(view, resize(noise(), 24, mode))
    assert view.flags.writeable
    assert view.flags.c_contiguous


def test_flip_is_a_mirror_and_its_own_inverse():
    always = AugmentConfig(**{**OFF, "flip": 1.0})
    once = augment(noise(32, 32), 32, "stretch", always, generator(0, 0, 0))
    assert np.array_equal(once, noise(32, 32)[:, ::-1])
    assert np.array_equal(augment(once, 32, "stretch", always, generator(0, 0, 1)), noise(32, 32))


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_flip_rate(share):
    flipped = [
        not np.array_equal(view, noise(32, 32))
        for view in views(noise(32, 32), AugmentConfig(**{**OFF, "flip": share}), 1000)
    ]
    assert abs(np.mean(flipped) - share) < 4 * math.sqrt(share * (1 - share) / 1000)


def source_pixel(photo, row, column, border):
    """The photo continued beyond its edges, one pixel at a time."""
    size = len(photo)
    if border == "white" and not (0 <= row < size and 0 <= column < size):
        return np.full(3, 255.0)
    while border == "reflect" and not 0 <= row < size:  # mirrored at the edge pixel, which is not repeated
        row = -row if row < 0 else 2 * (size - 1) - row
    while border == "reflect" and not 0 <= column < size:
        column = -column if column < 0 else 2 * (size - 1) - column
    return photo[min(max(row, 0), size - 1), min(max(column, 0), size - 1)].astype(float)


def moved(photo, degrees, shift, border):
    """Brute force: turn counter-clockwise about the centre, shift; each pixel by its four bilinear weights."""
    size = len(photo)
    turn = np.exp(1j * np.radians(degrees))  # y points down, so that this turns back
    result = np.zeros(photo.shape)
    for row in range(size):
        for column in range(size):
            centred = complex(column + 0.5 - size / 2 - shift[0], row + 0.5 - size / 2 - shift[1]) * turn
            x, y = centred.real + size / 2 - 0.5, centred.imag + size / 2 - 0.5
            left, top = math.floor(x), math.floor(y)
            for down in (0, 1):
                for right in (0, 1):
                    weight = abs(1 - right - (x - left)) * abs(1 - down - (y - top))
                    result[row, column] += weight * source_pixel(photo, top + down, left + right, border)
    return result


@pytest.mark.parametrize("border", ["reflect", "edge", "white"])
@pytest.mark.parametrize(
    ("degrees", "shift"), [(0, (0, 0)), (0, (3, -5)), (90, (0, 0)), (17, (0, 0)), (-33, (4.3, -2.6)), (171, (-10, 10))]
)
def test_movement_agrees_with_brute_force(degrees, shift, border):
    photo = noise(20, 20)
    fast = np.asarray(module._move(Image.fromarray(photo), degrees, shift, border))
    assert np.abs(fast - moved(photo, degrees, shift, border)).max() < 1.01  # Pillow drops the fraction


def test_a_quarter_turn_is_counter_clockwise():
    turned = np.asarray(module._move(Image.fromarray(noise(20, 20)), 90, (0, 0), "edge"))
    assert np.abs(turned.astype(int) - np.rot90(noise(20, 20))).max() <= 1


def test_translation_stays_within_its_share_and_uses_all_of_it():
    photo = np.full((100, 100, 3), 255, dtype=np.uint8)
    photo[50, 50] = 0
    config = AugmentConfig(**{**OFF, "translate": 0.2}, border="white")
    places = []
    for view in views(photo, config, 300, size=100):
        dark = 255.0 - view[..., 0]
        places.append([(dark.sum(axis) * np.arange(100)).sum() / dark.sum() - 50 for axis in (0, 1)])
    assert np.abs(places).max() <= 20.1
    assert np.all(np.max(places, axis=0) > 18)
    assert np.all(np.min(places, axis=0) < -18)
    assert np.all(np.abs(np.mean(places, axis=0)) < 4 * 20 / math.sqrt(3 * 300))


@pytest.mark.parametrize("border", ["reflect", "edge"])
def test_nothing_is_left_uncovered(border):
    config = AugmentConfig(rotate=180, translate=0.5, border=border)
    for view in views(np.full((40, 30, 3), 200, dtype=np.uint8), config, 200):
        assert (view == 200).all()


def test_white_border_is_white():
    config = AugmentConfig(rotate=180, translate=0.5, border="white")
    stack = np.stack(views(np.zeros((32, 32, 3), dtype=np.uint8), config, 50))
    assert (stack == 255).any(axis=(1, 2, 3)).all()
    assert (stack == stack[..., :1]).all()


def crop_boxes(width, height, count=500, **options):
    config = AugmentConfig(**options)
    return np.array([module._crop_box(width, height, config, generator(0, 0, index)) for index in range(count)])


def test_crops_keep_to_scale_ratio_and_photo():
    left, top, right, bottom = crop_boxes(300, 400, crop_scale=(0.3, 0.6), crop_ratio=(0.8, 1.25)).T
    shares = (right - left) * (bottom - top) / (300 * 400)
    ratios = (right - left) / (bottom - top)
    assert min(left.min(), top.min()) >= 0
    assert right.max() <= 300
    assert bottom.max() <= 400
    assert shares.min() >= 0.3 - 1e-9
    assert shares.max() <= 0.6 + 1e-9
    assert ratios.min() >= 0.8 - 1e-9
    assert ratios.max() <= 1.25 + 1e-9
    assert abs(np.log(ratios).mean()) < 0.03  # as often wide as high
    assert abs((left + right).mean() / 2 - 150) < 8
    assert abs((top + bottom).mean() / 2 - 200) < 12


def test_the_ratio_of_a_crop_is_width_to_height():
    left, top, right, bottom = crop_boxes(300, 300, 50, crop_scale=(0.2, 0.3), crop_ratio=(1.5, 2.0)).T
    ratio = (right - left) / (bottom - top)
    assert ratio.min() >= 1.5 - 1e-9
    assert ratio.max() <= 2 + 1e-9


def test_crops_of_impossible_shape_are_cut_to_fit():
    boxes = crop_boxes(1000, 10, count=20, crop_scale=(0.9, 0.9))
    assert (boxes[:, 2] - boxes[:, 0] > 0).all()
    assert (boxes[:, 3] - boxes[:, 1] == 10).all()


def test_a_crop_shows_its_box():
    rows, columns = np.mgrid[:200, :240]
    photo = np.stack([columns, rows, rows * 0], axis=-1).astype(np.uint8)
    config = AugmentConfig(**OFF, crop_scale=(0.3, 0.5))
    left, top, right, bottom = module._crop_box(240, 200, config, generator(0, 0, 3))
    view = augment(photo, 50, "stretch", config, generator(0, 0, 3)).astype(float)
    steps = (np.arange(50) + 0.5) / 50
    assert np.abs(view[..., 0] - (left + (right - left) * steps - 0.5)[None, :])[4:-4, 4:-4].max() < 1
    assert np.abs(view[..., 1] - (top + (bottom - top) * steps - 0.5)[:, None])[4:-4, 4:-4].max() < 1


def recoloured(photo, brightness, contrast, saturation):
    """One factor after the other, as torchvision's ColorJitter defines them, clipped once."""
    luma = np.array([0.299, 0.587, 0.114])
    photo = photo.astype(float) * brightness
    photo = contrast * photo + (1 - contrast) * (photo @ luma).mean()
    grey = (photo @ luma)[..., None]
    return np.clip(saturation * photo + (1 - saturation) * grey, 0, 255)


@pytest.mark.parametrize("factors", [(1, 1, 1), (0.5, 1, 1), (1, 1.5, 1), (1, 1, 0), (1.2, 0.7, 1.4)])
def test_colour_agrees_with_one_factor_after_the_other(factors):
    fast = np.asarray(module._recolor(Image.fromarray(noise()), *factors))
    assert np.abs(fast - recoloured(noise(), *factors)).max() <= 1.5


def test_colour_factors_stay_within_bounds():
    grey = np.full((16, 16, 3), 100, dtype=np.uint8)  # contrast and saturation leave plain grey alone
    levels = np.array([view.mean() for view in views(grey, AugmentConfig(**OFF, color=0.4), 400, size=16)])
    assert 59 <= levels.min() < 63
    assert 137 < levels.max() <= 141
    assert abs(levels.mean() - 100) < 5


def test_view_depends_on_seed_epoch_photo_and_nothing_else():
    def view(*key):
        return augment(noise(), 32, "crop", EVERYTHING, generator(*key)).tobytes()

    keys = [
        (seed, epoch, index, stream) for seed in (0, 7) for epoch in (0, 1) for index in (0, 1, 2) for stream in (0, 1)
    ]
    forwards = {key: view(*key) for key in keys}
    backwards = {key: view(*key) for key in reversed(keys)}
    assert forwards == backwards
    assert len(set(forwards.values())) == len(keys)
    assert view(7, 1, 2) == forwards[7, 1, 2, 0]


def test_another_process_draws_the_same_view():
    script = (
        "import zlib, numpy as np; from modiste.training.augment import *; from modiste.config import AugmentConfig;"
        "photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8);"
        "config = AugmentConfig(crop_scale=(0.5, 1.0), color=0.3, rotate=30, translate=0.2);"
        "print(zlib.crc32(augment(photo, 32, 'stretch', config, generator(5, 4, 3))))"
    )
    theirs = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert int(theirs) == zlib.crc32(augment(noise(), 32, "stretch", EVERYTHING, generator(5, 4, 3)))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_mixup_agrees_with_floats(share):
    one, other = noise(), noise()[::-1]
    nan = np.nan
    targets, others = np.float32([1, 0, 1, nan, 0.5]), np.float32([0, 0, 1, 1, nan])
    photo, mixed = mixup(one, targets, other, others, share)
    assert photo.dtype == np.uint8
    assert mixed.dtype == np.float32
    assert np.abs(photo - (share * one.astype(float) + (1 - share) * other)).max() <= 1
    assert np.allclose(mixed, [share, 0, 1, nan, nan], equal_nan=True)


def test_mixup_with_itself_changes_nothing():
    photo, targets = mixup(noise(), np.float32([1, 0]), noise(), np.float32([1, 0]), 0.37)
    assert np.array_equal(photo, noise())
    assert np.allclose(targets, [1, 0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_extreme_shapes(shape):
    assert all(view.shape == (32, 32, 3) for view in views(noise(*shape), EVERYTHING, 20))


def test_gentle_views_of_real_photos_keep_their_colours(shared):
    """A mirrored border continues the photo, so that the mean colour hardly moves; white or black would."""
    for path in sorted((shared / "data/clothing/images").rglob("*.jpg"))[::900]:
        photo = read_photo(path, target=64)
        plain = resize(photo, 64, "stretch").mean(axis=(0, 1))
        drawn = np.mean([view.mean(axis=(0, 1)) for view in views(photo, AugmentConfig(), 30, size=64)], axis=0)
        assert np.abs(drawn - plain).max() < 12
