import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from modiste.data.images import (
    MAX_PIXELS,
    PHOTO_SUFFIXES,
    decode,
    decode_square,
    from_pillow,
    read_photo,
    read_square,
    read_with_header,
    resize,
)
from modiste.errors import PhotoError

LOSSLESS = [("PNG", {}), ("TIFF", {}), ("WebP", {"lossless": True}), ("BMP", {})]
UPRIGHT = {  # EXIF 2.3, table 6: what row 0 and column 0 of the stored pixels are
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def noise(height=17, width=23, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height, width):
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = np.stack([np.sin(7 * x + 3 * y), np.cos(5 * y - 2 * x), np.sin(9 * x * y)], axis=-1)
    return np.uint8(np.rint(127.5 + 120 * waves))


def saved(image, kind, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_formats_give_the_pixels_back(kind, options):
    photo = decode(saved(noise(), kind, **options), name="a")
    assert np.array_equal(photo, noise())
    assert photo.dtype == np.uint8
    assert photo.flags.writeable


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WebP"])
def test_orientation_brings_lossless_photos_upright(kind, orientation):
    options = {"lossless": True} if kind == "WebP" else {}
    photo = decode(saved(noise(), kind, exif=exif(orientation), **options), name="a")
    assert np.array_equal(photo, UPRIGHT[orientation](noise()))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_and_reduced_jpeg_go_together(orientation):
    stored = smooth(400, 900)
    photo = decode(saved(stored, "JPEG", quality=95, exif=exif(orientation)), name="a", target=100)
    upright = np.ascontiguousarray(UPRIGHT[orientation](stored))
    assert photo.shape[:2] == tuple((side + 3) // 4 for side in upright.shape[:2])
    assert np.abs(resize(photo, 64, "stretch").astype(int) - resize(upright, 64, "stretch")).mean() < 1.5


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "MPO"])
def test_lossy_formats_come_close(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    other = {"save_all": True, "append_images": [Image.new("RGB", (150, 90))]} if kind == "MPO" else {}
    photo = decode(saved(smooth(90, 150), kind, quality=95, **other), name="a")
    assert np.abs(photo.astype(int) - smooth(90, 150)).mean() < 2


@pytest.mark.parametrize("target", [1, 31, 112, 113, 599, 600, 5000])
def test_reduced_jpeg_never_falls_below_the_target(target):
    full = smooth(600, 800)
    photo = decode(saved(full, "JPEG", quality=95), name="a", target=target)
    assert min(photo.shape[:2]) >= min(target, 600)
    assert min(photo.shape[:2]) < 2 * target or photo.shape[0] == 75  # 1/8 is the least libjpeg offers
    size = min(target, 224)
    assert np.abs(resize(photo, size, "stretch").astype(int) - resize(full, size, "stretch")).mean() < 1.5


def test_cmyk_with_adobe_inversion():
    data = saved(Image.fromarray(smooth(90, 150)).convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    assert np.abs(decode(data, name="a").astype(int) - smooth(90, 150)).mean() < 2


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey(mode):
    image = Image.fromarray(noise()).convert(mode)
    levels = np.array(image, dtype=np.uint8) * (255 if mode == "1" else 1)
    assert np.array_equal(decode(saved(image, "PNG"), name="a"), np.repeat(levels[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(kind):
    grey = np.linspace(0, 65535, 64 * 32).astype(np.uint16).reshape(32, 64)
    photo = decode(saved(grey, kind), name="a")
    assert np.array_equal(photo[..., 1], np.rint(grey / 257))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_grey_is_spread(dtype):
    grey = np.linspace(-3000, 90000, 64 * 32).reshape(32, 64).astype(dtype)
    expected = (grey.astype(float) + 3000) / 93000 * 255
    assert np.abs(decode(saved(grey, "TIFF"), name="a")[..., 2] - expected).max() <= 0.51


def test_float_grey_without_contrast_or_numbers():
    grey = np.array([[np.nan, np.inf], [0, 0]], dtype=np.float32)
    assert np.array_equal(decode(saved(grey, "TIFF"), name="a"), np.zeros((2, 2, 3)))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white(mode):
    pixels = noise(channels=4)
    image = Image.fromarray(pixels).convert(mode)
    colour, alpha = np.array(image)[..., :-1].astype(float), np.array(image)[..., -1:] / 255
    expected = np.broadcast_to(colour * alpha + 255 * (1 - alpha), (17, 23, 3))
    assert np.abs(decode(saved(image, "PNG"), name="a") - expected).max() <= 1


@pytest.mark.parametrize(("kind", "transparency"), [("PNG", 2), ("GIF", 2), ("PNG", bytes([255, 128, 0]))])
def test_palette_with_transparency(kind, transparency):
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([255, 0, 0, 0, 100, 0, 0, 0, 200])
    half = [127, 177, 127] if isinstance(transparency, bytes) else [0, 100, 0]
    photo = decode(saved(image, kind, transparency=transparency), name="a").astype(int)
    assert np.abs(photo - [[[255, 0, 0], half, [255, 255, 255]]]).max() <= 1


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    photo = decode(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), name="a")
    assert np.array_equal(photo, np.broadcast_to([255, 0, 0], (6, 8, 3)))


def png_header(width, height):
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(4) + b"IDAT"
    )


@pytest.mark.parametrize(("width", "height"), [(8193, 8192), (10_000, 10_000), (400_000, 400_000)])
def test_limit_is_checked_by_the_header(width, height):
    with pytest.raises(PhotoError, match=f"'bomb.png' .* {MAX_PIXELS:,} pixels, but got {width * height:,}"):
        decode(png_header(width, height), name="bomb.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP"])
def test_limit_holds_for_every_format(kind):
    data = saved(noise(), kind)
    assert decode(data, name="a", max_pixels=17 * 23).shape == (17, 23, 3)
    with pytest.raises(PhotoError, match="at most 390 pixels, but got 391"):
        decode(data, name="a", max_pixels=17 * 23 - 1)


@pytest.mark.parametrize(("side", "pixels"), [(9_000, 81_000_000), (10_000, 100_000_000), (60_000, 3_600_000_000)])
def test_limit_holds_for_a_frame_larger_than_the_header_says(side, pixels):
    data = saved(noise(), "GIF")
    frame = b"," + struct.pack("<HHHH", 0, 0, 23, 17)
    assert frame in data
    data = data.replace(frame, b"," + struct.pack("<HHHH", 0, 0, side, side))
    with pytest.raises(PhotoError, match=f"at most {MAX_PIXELS:,} pixels, but got {pixels:,}"):
        decode(data, name="a")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "an empty file"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"%PDF-1.7", "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF", "an EPS drawing"),
        (b'{"error": "not found"}', "a JSON document"),
        (b"<svg xmlns=''>", "an SVG drawing"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "an HEIC photo"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"hello", "a file of an unknown format"),
        (saved(noise(), "PPM"), "a file of an unknown format"),
        (saved(noise(200, 200), "JPEG")[:-2000], "a truncated JPEG file"),
        (saved(noise(200, 200), "PNG")[:-20000], "a truncated PNG file"),
        (b"\xff\xd8\xff", "a damaged JPEG file"),
    ],
)
def test_refusals_say_what_the_file_is(data, what):
    with pytest.raises(PhotoError, match=rf"^Expected 'x\.jpg' to be a photo, but got {what}.*\. Try .*\.$"):
        decode(data, name="x.jpg")


def test_unreadable_paths(tmp_path):
    for path in (tmp_path / "missing.jpg", tmp_path, "nul\0.jpg"):
        with pytest.raises(PhotoError, match="to be a readable file"):
            read_photo(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP", "AVIF"])
def test_damage_raises_nothing_but_photo_errors(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    rng = np.random.default_rng(1)
    options = {} if kind in ("GIF", "BMP") else {"exif": exif(6)}
    if kind == "TIFF":
        options["compression"] = "tiff_lzw"
    whole = saved(smooth(24, 32), kind, **options)
    refused = 0
    for case in range(200):
        data = bytearray(whole)
        if case % 4 == 0:
            del data[int(rng.integers(len(data))) :]
        else:  # headers lie at the front, so that half of the damage goes there
            end = min(len(data), 200) if case % 2 else len(data)
            for place in rng.integers(0, end, rng.integers(1, 6)):
                data[place] = rng.integers(256)
        try:
            photo = decode(bytes(data), name="a", target=16, max_pixels=100_000)
            assert photo.dtype == np.uint8
            assert photo.ndim == 3
            assert photo.shape[2] == 3
            assert 0 < photo.shape[0] * photo.shape[1] <= 100_000
        except PhotoError:
            refused += 1
    assert 20 < refused < 200


def test_careless_metadata_warns_nobody():
    data = saved(noise(), "JPEG", exif=exif(1))
    data = data.replace(b"\x01\x12\x00\x03\x00\x00\x00\x01", b"\x01\x12\x00\x02\x00\x00\x10\x00")  # 4096 bytes: a lie
    with pytest.warns(UserWarning, match="Skipping tag"):
        Image.open(BytesIO(data)).getexif()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ThreadPoolExecutor(4) as pool:
            photos = list(pool.map(lambda _: decode(data, name="a"), range(20)))
    assert all(photo.shape == (17, 23, 3) for photo in photos)


@pytest.mark.parametrize("mode", ["stretch", "letterbox", "crop"])
def test_a_fitting_square_stays_as_it_is(mode):
    assert np.array_equal(resize(noise(40, 40), 40, mode), noise(40, 40))


def test_stretch_is_antialiased():
    stripes = np.zeros((400, 400, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize(stripes, 100, "stretch")[:, 4:-4].astype(int) - 127).max() <= 2


def test_letterbox_is_centred_on_white():
    square = resize(np.zeros((50, 200, 3), dtype=np.uint8), 100, "letterbox")
    assert np.array_equal(np.flatnonzero((square == 0).all(axis=(1, 2))), np.arange(37, 62))
    assert (square[:37] == 255).all()
    assert (square[62:] == 255).all()
    assert np.array_equal(resize(np.zeros((200, 50, 3), dtype=np.uint8), 100, "letterbox").sum(0)[:36].min(), 25500)


@pytest.mark.parametrize("shape", [(60, 100), (100, 60)])
def test_crop_keeps_the_middle(shape):
    photo = smooth(*shape)
    top, left = (shape[0] - 60) // 2, (shape[1] - 60) // 2
    assert np.array_equal(resize(photo, 60, "crop"), photo[top : top + 60, left : left + 60])


@pytest.mark.parametrize("mode", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (2, 3)])
def test_extreme_shapes(shape, mode):
    assert resize(noise(*shape), 32, mode).shape == (32, 32, 3)


def test_real_photos_agree_with_pillow(shared):
    paths = sorted((shared / "data/clothing/images").rglob("*.jpg"))[::500]
    assert len(paths) > 5
    for path in paths:
        assert path.suffix in PHOTO_SUFFIXES
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        assert np.array_equal(read_photo(path), np.asarray(upright))
        expected = np.asarray(upright.resize((96, 96), Image.Resampling.BICUBIC))
        assert np.abs(read_square(path, 96, "stretch").astype(int) - expected).mean() < 2


def test_the_size_that_is_told_is_that_of_the_whole_upright_photo(tmp_path):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.jpg"
        Image.new("RGB", (600, 400), (90, 20, 20)).save(path, exif=exif)
        photo, header = read_with_header(path, target=64)
        whole = read_photo(path)
        assert (header.kind, header.width, header.height) == ("JPEG", whole.shape[1], whole.shape[0])
        assert photo.shape[0] < whole.shape[0]
        np.testing.assert_array_equal(photo, read_photo(path, target=64))


def detailed(width, height):
    """Waves from coarse to fine and hard edges, as a photo of cloth has them."""
    y, x = np.mgrid[:height, :width]
    waves = sum(np.sin(x / step + y / (3 * step) + step) for step in (7, 40, 300)) * 30 + 128
    photo = np.repeat(waves[..., None], 3, axis=2)
    photo[height // 5 : height // 2, width // 4 : width // 3] = 240, 30, 60
    photo[(x - width / 2) ** 2 + (y - height * 0.7) ** 2 < (min(width, height) / 6) ** 2] = 20, 20, 120
    return photo.clip(0, 255).astype(np.uint8)


# The sides are no multiples of 8, so that parts of pixels are left over where a JPEG is decoded at 1/8 of its size.
LARGE = [(1203, 805), (605, 1205), (1503, 503), (803, 801), (451, 301)]


@pytest.mark.parametrize("mode", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("size", [48, 96])
def test_a_large_jpeg_gives_the_square_of_its_pixels(shape, mode, size):
    data = saved(detailed(*shape), "JPEG", quality=95)
    difference = np.abs(
        decode_square(data, size, mode, name="a").astype(int) - resize(decode(data, name="a"), size, mode)
    )
    assert difference.mean() < 1
    assert difference.max() <= 16


@pytest.mark.parametrize("mode", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_large_jpeg_that_is_turned_gives_the_square_of_its_pixels(orientation, mode):
    data = saved(detailed(1203, 805), "JPEG", quality=95, exif=exif(orientation))
    difference = np.abs(decode_square(data, 64, mode, name="a").astype(int) - resize(decode(data, name="a"), 64, mode))
    assert difference.mean() < 1
    assert difference.max() <= 16


@pytest.mark.parametrize("shape", [(1, 4000), (4000, 3), (9, 9)])
def test_a_narrow_jpeg_gives_a_square_in_every_mode(shape):
    data = saved(np.zeros((*shape, 3), np.uint8), "JPEG")
    for mode in ("stretch", "letterbox", "crop"):
        np.testing.assert_array_equal(decode_square(data, 96, mode, name="a"), resize(decode(data, name="a"), 96, mode))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 5, 6])
def test_an_opened_picture_gives_the_pixels_of_its_file(kind, orientation):
    data = saved(noise(), kind, exif=exif(orientation))
    np.testing.assert_array_equal(from_pillow(Image.open(BytesIO(data)), name="a"), decode(data, name="a"))


def test_an_opened_picture_that_is_cut_short_or_too_large_is_refused():
    cut = Image.open(BytesIO(saved(noise(200, 200), "PNG")[:-20000]))
    with pytest.raises(PhotoError, match="'a' to be a photo"):
        from_pillow(cut, name="a")
    with pytest.raises(PhotoError, match="at most 67,108,864 pixels"):
        from_pillow(Image.new("1", (20_000, 20_000)), name="a")
