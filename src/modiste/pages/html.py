"""What HTML pages share: one template engine and style, and photos that lie inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from PIL import Image

from modiste.data import images
from modiste.errors import PhotoError


def render(template: str, filters: Mapping[str, Callable], **content: object) -> str:
    """A page from one of the package's templates; all that it holds is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_source)
    )
    environment.filters |= filters
    return environment.get_template(template).render(**content)


def data_uri(kind: str, content: bytes) -> str:
    """An image of a kind (png, jpeg) as a URI that holds its bytes."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def thumbnail(photo: Path, side: int) -> str | None:
    """A small JPEG of a photo, its longer side at most `side` pixels, as a URI; None where it can't be read."""
    try:
        picture = Image.fromarray(images.read_photo(photo, target=side))
    except PhotoError:
        return None
    picture.thumbnail((side, side))
    return jpeg_uri(picture)


def jpeg_uri(picture: Image.Image) -> str:
    """A picture as a JPEG, as a URI."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return data_uri("jpeg", file.getvalue())


def _source(name: str) -> str:
    return resources.files("modiste.pages").joinpath("templates", name).read_text(encoding="utf-8")
