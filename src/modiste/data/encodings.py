"""How the bytes of a text file are text: UTF-8 where they can be, else what their marks and letters show."""

from __future__ import annotations

import codecs
import contextlib
from pathlib import Path
from typing import NamedTuple

from modiste.errors import ManifestError

_GUESSED = 1 << 20  # bytes that an encoding is guessed from
_BLOCK = 1 << 20
# Encodings that spreadsheets save in where they don't save in UTF-8, by region.
_ENCODINGS = ["cp1252", "gb18030", "big5", "cp932", "cp949", "cp1251", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256"]
_COMMON = "cp1252"
_MESSY = (0.2, 0.5)  # how odd a text may look in the encoding that is guessed: short ones look odd in any
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Encoding(NamedTuple):
    """How a file's bytes are text, and the sentence that tells that it was guessed; "" where it was not."""

    name: str
    note: str = ""


def find_encoding(path: Path, asked: str | None = None) -> Encoding:
    """How the bytes of a file are text: UTF-8 where they can be, UTF-16 by its mark, else the likeliest other one.

    Raises:
        ManifestError: they are not in the encoding asked for, or in none.
    """
    with path.open("rb") as file:
        head = file.read(_GUESSED)
    if asked is not None:
        try:
            name = codecs.lookup(asked).name
        except LookupError:
            raise ManifestError.expected(
                "--encoding to be known", f"'{asked}'", "utf-8, utf-16, cp1252 or gb18030"
            ) from None
        return Encoding("utf-8-sig" if name == "utf-8" else asked)  # as it was asked for, for messages
    for mark, name in _BOMS:
        if head.startswith(mark):
            return Encoding(name)
    if b"\0" in head[:4000]:
        odd, even = head[1:4000:2].count(0), head[0:4000:2].count(0)
        if max(odd, even) > len(head[:4000]) // 8:
            return Encoding("utf-16-le" if odd > even else "utf-16-be")
    if _is_utf8(path):
        return Encoding("utf-8-sig")
    return _guessed(path, head)


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _guessed(path: Path, head: bytes) -> Encoding:
    from charset_normalizer import from_bytes

    lines = head.splitlines(keepends=True)
    strange = [line for line in lines if not line.isascii()] or [_first_strange(path)]
    sample = b"".join(strange)
    found = (from_bytes(sample, cp_isolation=_ENCODINGS, threshold=most).best() for most in _MESSY)
    best = next((one for one in found if one is not None), None)
    if best is None or b"\0" in head:
        raise ManifestError.expected(
            f"{path} to be text", "bytes of no known encoding", "--encoding, or saving it as UTF-8"
        )
    name, text = best.encoding, str(best)
    with contextlib.suppress(UnicodeDecodeError):  # the most common one, where both read the same
        name = _COMMON if sample.decode(_COMMON) == text else name
    example = next((word for word in _words(text) if not word.isascii()), "")
    return Encoding(name, f"{path.name} isn't UTF-8: read as {name}, which gives '{example}'; --encoding says another.")


def _first_strange(path: Path) -> bytes:
    with path.open("rb") as file:
        return next((line for line in file if not line.isascii()), b"")


def _words(text: str) -> list[str]:
    return "".join(c if c.isalpha() else " " for c in text).split()
