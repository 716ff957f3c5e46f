"""Bytes -> RGB uint8 (height, width, 3) -> square: the only decoder, for training and tagging alike.

A file that is no whole photo of a known format is one PhotoError; no other exception leaves `decode`,
whatever the bytes. Details and formats: docs/reference/images.md.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from PIL.AvifImagePlugin import SUPPORTED as AVIF_SUPPORTED
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ExifTags import Base as ExifTag
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from modiste.errors import PhotoError

Mode = Literal["stretch", "letterbox", "crop"]

MAX_PIXELS = 8192 * 8192  # 67 million, 0.2 GB as RGB; Pillow itself warns from 89 million and refuses 179 million
_JPEG_SIDE = 65_500  # pixels; libjpeg's JPEG_MAX_DIMENSION
_WHITE = 255
_FORMATS = "a JPEG, PNG, WebP, AVIF, GIF, TIFF or BMP photo"

# Opened by its own class, not by Image.open, which would try 40 formats (EPS starts Ghostscript) and
# check the pixel count against process-wide limits before ours.
_READERS: dict[str, tuple[re.Pattern[bytes], Callable[[BytesIO], ImageFile]]] = {
    "JPEG": (re.compile(rb"\xff\xd8\xff"), JpegImageFile),  # an MPO is a JPEG with more photos behind the first
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    "WebP": (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImageFile),
    "AVIF": (re.compile(rb".{4}ftyp(avi[fs]|.{8,36}avi[fs])", re.DOTALL), AvifImageFile),
    "GIF": (re.compile(rb"GIF8[79]a"), GifImageFile),
    "TIFF": (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
    "BMP": (re.compile(rb"BM"), BmpImageFile),
}
_ALIENS = {
    "a web page (HTML)": re.compile(rb"\s*<(!doctype html|html|head|body)", re.IGNORECASE),
    "an SVG drawing": re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.{0,200}-->\s*)?<svg", re.IGNORECASE | re.DOTALL),
    "an XML document": re.compile(rb"\s*<\?xml"),
    "a JSON document": re.compile(rb"\s*[{\[]\s*[\"{\[\]}\d]"),
    "a PDF document": re.compile(rb"%PDF"),
    "an EPS drawing": re.compile(rb"%!PS"),
    "a gzip-compressed file": re.compile(rb"\x1f\x8b"),
    "a ZIP archive": re.compile(rb"PK\x03\x04"),
    "a Photoshop document": re.compile(rb"8BPS"),
    "an HEIC photo": re.compile(rb".{4}ftyp(he[ivx]|hev|mif1|msf1)", re.DOTALL),
    "a JPEG 2000 photo": re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    "a Git LFS pointer": re.compile(rb"version https://git-lfs"),
}
_UNREAD = {"HEIC": "an HEIC photo", "JPEG 2000": "a JPEG 2000 photo"}  # photos that Pillow alone can't read
_TURNS = {  # EXIF 2.3, tag 0x0112: what brings the stored pixels upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = frozenset(_TURNS[k] for k in (5, 6, 7, 8))
_FROM_RIGHT = frozenset(_TURNS[k] for k in (2, 3, 6, 7))  # those after which the stored left or top lies right
_FROM_BELOW = frozenset(_TURNS[k] for k in (3, 4, 7, 8))
_FINER = 2  # times the pixels that a square shows, which a reduced JPEG keeps at least (docs/reference/images.md)
DECODER = 2  # raise it where the same file gives other pixels: what is kept of photos depends on it
_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as warnings.filterwarnings writes it


@dataclass(frozen=True)
class Header:
    """What a file says of its photo: `kind` ("JPEG", "PNG", ...), and its sides in pixels when upright."""

    kind: str
    width: int
    height: int


class _Photo(NamedTuple):
    """A decoded photo.

    Attributes:
        image: RGB, upright.
        header: what the file says, whatever the image was reduced to.
        reduced: pixels of the file that one pixel of `image` stands for, a side.
        turn: what brought it upright.
    """

    image: Image.Image
    header: Header
    reduced: int = 1
    turn: Image.Transpose | None = None

    def box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        """Where a box of the whole photo lies in `image`.

        Sides that are no multiples of `reduced` were filled up to one, at the end that was stored last.
        """
        width, height = self.header.width / self.reduced, self.header.height / self.reduced
        x = self.image.width - width if self.turn in _FROM_RIGHT else 0
        y = self.image.height - height if self.turn in _FROM_BELOW else 0
        return x + left / self.reduced, y + top / self.reduced, x + right / self.reduced, y + bottom / self.reduced


Room = Callable[[int, int], float]  # width and height of a file -> how many times smaller it may be decoded


def decode(data: bytes, *, name: str, target: int | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode one photo, turned upright by its EXIF orientation.

    Args:
        data: the whole file.
        name: what error messages call it.
        target: pixels a side that suffice; a JPEG is then decoded at 1/2, 1/4 or 1/8 where both sides stay at
            least this long, which is faster.
        max_pixels: refuse more than this, by the header, before any pixel is decoded.

    Returns:
        (height, width, 3) uint8 RGB, writable; transparency lies on white, of an animation the first frame.

    Raises:
        PhotoError: `data` is empty, too large, damaged or no photo.
    """
    return np.array(_decoded(data, name, _room(target), max_pixels).image)


def decode_square(data: bytes, size: int, mode: Mode, *, name: str) -> np.ndarray:
    """Decode one photo, no finer than its square needs, and make that: (size, size, 3) uint8, writable.

    What `decode` and `resize` give, but for what decoding a large JPEG at a part of its size changes
    (docs/reference/images.md): `resize` shows the same part of the photo, to the fraction of a pixel.

    Args:
        data: the whole file.
        size, mode: as in `resize`.
        name: what error messages call it.

    Raises:
        PhotoError: as `decode`.
    """
    shown = max if mode == "letterbox" else min  # the side that becomes `size` pixels, before anything is stretched
    photo = _decoded(data, name, lambda width, height: shown(width, height) / (_FINER * size), MAX_PIXELS)
    return _square(photo, size, mode)


def from_pillow(image: Image.Image, *, name: str) -> np.ndarray:
    """The pixels of an opened picture as `decode` gives those of its file, upright too.

    Raises:
        PhotoError: it is too large, or its file is damaged.
    """
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise PhotoError.expected(f"'{name}' to have at most {MAX_PIXELS:,} pixels", f"{pixels:,}", "a smaller copy")
    try:
        image.load()
        turn = _turn(image)
        upright = _rgb(image)
        return np.array(upright if turn is None else upright.transpose(turn))
    except Exception as error:  # Pillow reads the file only now, and its decoders raise nearly anything
        raise _refusal(name, "an image that Pillow can't read", "opening its file again") from error


def verify(data: bytes, *, name: str) -> Header:
    """Decode one photo as quickly as shows that every byte of it is there; and return its header.

    Raises:
        PhotoError: as `decode`.
    """
    return _decoded(data, name, _room(1), MAX_PIXELS).header


def shrink(data: bytes, side: int, *, name: str) -> tuple[bytes, Header]:
    """Scale a photo down, proportions kept, until its shorter side has `side` pixels.

    Args:
        data: the whole file.
        side: pixels.
        name: what an error calls it.

    Returns:
        A JPEG file of quality 95 and what it is; `data` itself where the shorter side is no longer than `side`.

    Raises:
        PhotoError: as `decode`; or its longer side still has more than 65,500 pixels, more than a JPEG can have.
    """
    image, header, *_ = _decoded(data, name, _room(side), MAX_PIXELS)
    scale = side / min(header.width, header.height)
    if scale >= 1:
        return data, header
    width, height = round(header.width * scale), round(header.height * scale)
    if max(width, height) > _JPEG_SIDE:
        want = f"'{name}' to have at most {_JPEG_SIDE:,} pixels a side"
        raise PhotoError.expected(want, f"{max(width, height):,}", "another size")
    file = BytesIO()
    # Hamming: as sharp as bicubic where photos get smaller, in two thirds of the time (Pillow's documentation).
    image.resize((width, height), Image.Resampling.HAMMING).save(file, "JPEG", quality=95)
    return file.getvalue(), Header("JPEG", width, height)


def _room(target: int | None) -> Room:
    """Both sides stay at least `target` pixels long."""
    return lambda width, height: 1 if target is None else min(width, height) / target


def _decoded(data: bytes, name: str, room: Room, max_pixels: int) -> _Photo:
    """The photo as RGB, upright; a JPEG at 1/2, 1/4 or 1/8 where there is room."""
    _silence_pillow()
    kind = next((kind for kind, (magic, _) in _READERS.items() if magic.match(data)), None)
    if kind is None:
        raise _refusal(name, *_alien(data))
    try:
        image = _READERS[kind][1](BytesIO(data))
        width, height = image.size
        if width * height <= max_pixels:
            reduced = 1
            if isinstance(image, JpegImageFile):
                most = min(room(width, height), width, height)
                reduced = next((by for by in (8, 4, 2) if by <= most), 1)
                image.draft(None, (width // reduced, height // reduced))
            image.load()
            turn = _turn(image)
            if turn in _ON_ITS_SIDE:
                width, height = height, width
            upright = _rgb(image) if turn is None else _rgb(image).transpose(turn)
            return _Photo(upright, Header(kind, width, height), reduced, turn)
        pixels = width * height
    except Image.DecompressionBombError as error:  # a tile or frame larger than the header said
        numbers = re.findall(r"\d+", str(error))
        pixels, max_pixels = int(numbers[0]), min(max_pixels, int(numbers[1]))
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        state = "truncated" if "truncated" in str(error).lower() else "damaged"
        raise _refusal(name, f"a {state} {kind} file", "fetching it again") from error
    want = f"'{name}' to have at most {max_pixels:,} pixels"
    raise PhotoError.expected(want, f"{pixels:,}", "a smaller copy of it")


def read_photo(path: Path | str, *, target: int | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """`decode` the file at `path`.

    Raises:
        PhotoError: the file can't be read, or for the reasons of `decode`.
    """
    return decode(read_file(path), name=str(path), target=target, max_pixels=max_pixels)


def read_with_header(path: Path | str, *, target: int) -> tuple[np.ndarray, Header]:
    """`read` the photo at `path`, and what the file's header said, whatever the target.

    Raises:
        PhotoError: as `read`.
    """
    image, header, *_ = _decoded(read_file(path), str(path), _room(target), MAX_PIXELS)
    return np.array(image), header


def read_file(path: Path | str) -> bytes:
    """The bytes of a photo's file.

    Raises:
        PhotoError: it can't be read.
    """
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        got = f"'{getattr(error, 'strerror', None) or error}'"
        raise PhotoError.expected(f"'{path}' to be a readable file", got, "another path") from error


def content_kind(head: bytes) -> tuple[str, bool] | None:
    """What the first bytes of a file (64 suffice) say: "JPEG" or the like, and whether it can be read here.

    None for what is no photo. Stricter than `decode`, which is told what is a photo: text may begin with "BM".
    """
    kind = next((kind for kind, (magic, _) in _READERS.items() if magic.match(head)), None)
    if kind == "BMP" and head[6:10] != bytes(4):
        return None
    if kind is not None:
        return kind, kind != "AVIF" or AVIF_SUPPORTED
    return next(((name, False) for name, what in _UNREAD.items() if _ALIENS[what].match(head)), None)


def foreign_kind(head: bytes) -> str | None:
    """What the first bytes of a file that is no photo say it is, with its article: "a PDF document"."""
    return next((what for what, magic in _ALIENS.items() if magic.match(head)), None)


def resize(photo: np.ndarray, size: int, mode: Mode) -> np.ndarray:
    """Make a square by antialiased bicubic interpolation.

    Args:
        photo: (height, width, 3) uint8.
        size: pixels a side of the result.
        mode: "stretch" ignores the proportions (the paper), "letterbox" keeps the whole photo between white
            bars, "crop" keeps the square in the middle.

    Returns:
        (size, size, 3) uint8, writable.
    """
    image = Image.fromarray(photo)
    return _square(_Photo(image, Header("array", *image.size)), size, mode)


def _square(photo: _Photo, size: int, mode: Mode) -> np.ndarray:
    """As `resize`, of a photo that may be reduced: its own sides decide what is shown where."""
    width, height = photo.header.width, photo.header.height
    if mode == "letterbox":
        scale = size / max(height, width)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = Image.new("RGB", (size, size), (_WHITE,) * 3)
        corner = ((size - inner[0]) // 2, (size - inner[1]) // 2)
        shown = photo.image.resize(inner, Image.Resampling.BICUBIC, photo.box(0, 0, width, height))
        canvas.paste(shown, corner)
        return np.array(canvas)
    left, top = ((width - height) / 2, (height - width) / 2) if mode == "crop" else (0, 0)
    left, top = max(0, left), max(0, top)
    box = photo.box(left, top, width - left, height - top)
    return np.array(photo.image.resize((size, size), Image.Resampling.BICUBIC, box))


def read_square(path: Path | str, size: int, mode: Mode) -> np.ndarray:
    """`decode_square` the file at `path`: (size, size, 3) uint8.

    Raises:
        PhotoError: as `read_photo`.
    """
    return decode_square(read_file(path), size, mode, name=str(path))


def _silence_pillow() -> None:
    """Keep Pillow's warnings about careless metadata from the user, who can't act on them.

    One filter in front of all others, not `catch_warnings`, which swaps process-wide state and so isn't safe
    in threads before Python 3.14. Looked after at each call, since test runners replace the list of filters.
    """
    if not warnings.filters or warnings.filters[0] != _QUIET:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)  # 65535 is white; convert("L") would clip at 255
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_spread(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (_WHITE,) * 4), layer).convert("RGB")
    return image.convert("RGB")


def _spread(grey: np.ndarray) -> np.ndarray:
    """32-bit grey (height, width) has no agreed white: spread from darkest to brightest, uint8."""
    values = np.where(np.isfinite(grey), grey, 0).astype(np.float64)
    values -= values.min()
    levels: np.ndarray = np.rint(values * (_WHITE / (values.max() or 1.0))).astype(np.uint8)
    return levels


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTag.Orientation, 1))
    except Exception:  # damaged metadata is no reason to lose the photo
        return None


def _alien(data: bytes) -> tuple[str, str]:
    if not data:
        return "an empty file", "fetching it again"
    return foreign_kind(data) or "a file of an unknown format", _FORMATS


def _refusal(name: str, got: str, fix: str) -> PhotoError:
    return PhotoError.expected(f"'{name}' to be a photo", got, fix)


PHOTO_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)
