"""Online augmentation: a decoded photo -> a square that differs in each epoch, the same for the same seed.

Order: random resized crop, else `images.resize` -> colour -> horizontal flip -> rotation and translation as
one affine map. Geometry happens at the network's size, after antialiased scaling, where it is cheapest.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from modiste.config import AugmentConfig
from modiste.data.images import Mode, resize

_CROP_TRIES = 10  # as torchvision's RandomResizedCrop
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's convert("L")


def generator(seed: int, epoch: int, photo_index: int, stream: int = 0) -> np.random.Generator:
    """Random numbers of one photo in one epoch, whichever process asks and in whatever order.

    `stream` keeps further uses for the same photo apart, such as the partner in mixup. All are >= 0.
    """
    return np.random.default_rng([seed, epoch, photo_index, stream])


def augment(photo: np.ndarray, size: int, mode: Mode, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Draw one augmented view.

    Args:
        photo: (height, width, 3) uint8 RGB.
        size: pixels a side of the result.
        mode: as in `images.resize`; without effect where `config.crop_scale` asks for crops, which are stretched.
        config: what to do and how strongly; `mixup` is left to the caller, since it takes two photos.
        rng: from `generator`.

    Returns:
        (size, size, 3) uint8 RGB, writable; exactly `images.resize` where `config` turns every part off.
    """
    if config.crop_scale == (1.0, 1.0):
        image = Image.fromarray(resize(photo, size, mode))
    else:
        box = _crop_box(photo.shape[1], photo.shape[0], config, rng)
        image = Image.fromarray(photo).resize((size, size), Image.Resampling.BICUBIC, box)
    if config.color:
        image = _recolor(image, *rng.uniform(1 - config.color, 1 + config.color, 3))
    if rng.random() < config.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if config.rotate or config.translate:
        degrees = config.rotate * rng.uniform(-1, 1)
        right, down = size * config.translate * rng.uniform(-1, 1, 2)
        image = _move(image, degrees, (right, down), config.border)
    return np.array(image)


def mixup(
    photo: np.ndarray, targets: np.ndarray, other_photo: np.ndarray, other_targets: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Blend two photos and their targets (Zhang et al. 2018, "mixup", eq. 1).

    Args:
        photo: (size, size, 3) uint8.
        targets: (labels,) float32 in [0, 1]; nan where unknown.
        other_photo: as `photo`.
        other_targets: as `targets`.
        share: weight of the first photo in [0, 1], from rng.beta(alpha, alpha).

    Returns:
        The blended photo, uint8, and targets, float32: unknown where either was.
    """
    weight = round(share * 256)  # 16-bit integers: a tenth of the time of float32
    mixed: np.ndarray = photo * np.uint16(weight) + other_photo * np.uint16(256 - weight) + np.uint16(128)
    blended = np.float32(share) * targets + np.float32(1 - share) * other_targets
    return (mixed >> 8).astype(np.uint8), blended.astype(np.float32)


def _crop_box(
    width: int, height: int, config: AugmentConfig, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in pixels; a draw that doesn't fit is repeated, the last one is cut to fit."""
    low, high = config.crop_ratio
    for _ in range(_CROP_TRIES):
        area = width * height * rng.uniform(*config.crop_scale)
        ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
        box_width, box_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if box_width <= width and box_height <= height:
            break
    box_width, box_height = min(box_width, width), min(box_height, height)
    left, top = rng.uniform(0, width - box_width), rng.uniform(0, height - box_height)
    return left, top, min(left + box_width, width), min(top + box_height, height)


def _recolor(image: Image.Image, brightness: float, contrast: float, saturation: float) -> Image.Image:
    """All three factors as one matrix: x -> brightness x, then away from the mean grey, then from each pixel's grey."""
    gain = brightness * contrast
    offset = brightness * (1 - contrast) * float(np.asarray(image.convert("L")).mean())
    rows = (
        tuple(gain * ((1 - saturation) * luma + saturation * (row == column)) for column, luma in enumerate(_LUMA))
        for row in range(3)
    )
    return image.convert("RGB", tuple(value for row in rows for value in (*row, offset)))


def _move(image: Image.Image, degrees: float, shift: tuple[float, float], border: str) -> Image.Image:
    """Turn about the centre (counter-clockwise), then shift (right, down) in pixels; bilinear."""
    size = image.width
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = -size / 2 - shift[0], -size / 2 - shift[1]  # Pillow wants the way back: from result to source
    left, top = cos * x - sin * y + size / 2, sin * x + cos * y + size / 2
    reach_x = [left, left + cos * size, left - sin * size, left + (cos - sin) * size]
    reach_y = [top, top + sin * size, top + cos * size, top + (sin + cos) * size]
    pads = [(_beyond(-min(reach)), _beyond(max(reach) - size)) for reach in (reach_y, reach_x)]
    padded = Image.fromarray(_pad(np.asarray(image), pads, border))
    matrix = (cos, -sin, left + pads[1][0], sin, cos, top + pads[0][0])
    return padded.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _beyond(reach: float) -> int:
    """Pixels to pad on one side: as far as the map reaches, and one for the bilinear neighbour."""
    return max(0, math.ceil(reach)) + 1


def _pad(photo: np.ndarray, pads: list[tuple[int, int]], border: str) -> np.ndarray:
    widths = [*pads, (0, 0)]
    if border == "white":
        return np.pad(photo, widths, mode="constant", constant_values=255)
    return np.pad(photo, widths, mode="reflect" if border == "reflect" else "edge")
