"""What follows where a photo could not be fetched: another attempt after a while, or a sentence."""

from __future__ import annotations

import random

from modiste.download import Failure

_BACKOFF = 0.5  # seconds before the second attempt; doubled each time
_LONGEST_WORDS = 200  # characters of an error that a server or library words
_FIXES = {"private address": "--allow-private where that is meant", "opted out": "asking its owner"}


def pause(failure: Failure, attempts: int, retries: int) -> float | None:
    """Seconds until the next attempt; None where there is none.

    Args:
        failure: of the last attempt.
        attempts: how many there were.
        retries: how many there may be after the first.
    """
    if not failure.heals or attempts > retries:
        return None
    backoff = _BACKOFF * 2 ** (attempts - 1)
    return (failure.wait or backoff) + random.uniform(0, backoff)  # not all of them at once


def sentence(photo: str, failure: Failure, fix: str) -> str:
    """Why a photo could not be fetched, and what to do: `fix`, unless the kind of failure asks for something else."""
    fix = _FIXES.get(failure.kind, fix)
    return f"Expected {photo} to be a photo, but got {_plain(failure.got)}. Try {fix}."


def _plain(text: str) -> str:
    """What a server or a library said, as a part of one sentence: its first line without control characters."""
    line = text.strip().split("\n", maxsplit=1)[0].encode(errors="replace").decode()
    return "".join(c for c in line if c.isprintable())[:_LONGEST_WORDS]
