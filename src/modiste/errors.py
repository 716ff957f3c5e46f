"""Every error modiste raises on purpose, as one tree.

    ModisteError                 exit 2, HTTP 500
    |-- UsageError               exit 2, HTTP 400   an option or argument that can't be used
    |-- RecipeError              exit 2, HTTP 400   a recipe with an unknown key or a wrong value
    |-- LabelError               exit 2, HTTP 400   an unknown label, a malformed label set
    |-- ManifestError            exit 2, HTTP 400   a manifest that can't be read as photos and labels
    |-- PhotoError               exit 1, HTTP 415   one photo that can't be read; the others go on
    |-- WeightsError             exit 2, HTTP 500   weights that are missing or don't fit
    |-- RunError                 exit 2, HTTP 500   a run folder that exists, is missing or doesn't fit
    |-- TrainingError            exit 2, HTTP 500   a loss that is not finite
    `-- StorageError             exit 2, HTTP 507   a file that can't be written (full disk, no permission)

The library raises; only the edges (`cli.py`, later the server) print a message and choose an exit
code or an HTTP status. Every message is one sentence pair of the same shape, made by
`ModisteError.expected`: "Expected X to be A, but got B. Try C."
"""

from __future__ import annotations

from typing import Self


class ModisteError(Exception):
    """Base of all errors raised on purpose; its message is meant for the user as it stands.

    `got` is the part of the message that says what came instead.
    """

    exit_code = 2
    http_status = 500
    got = ""

    @classmethod
    def expected(cls, want: str, got: object, fix: str) -> Self:
        """Make the error that says "Expected {want}, but got {got}. Try {fix}."."""
        error = cls(f"Expected {want}, but got {got}. Try {fix}.")
        error.got = str(got)
        return error


class UsageError(ModisteError):
    """An option or argument that can't be used."""

    http_status = 400


class RecipeError(ModisteError):
    """A recipe with an unknown key or a wrong value."""

    http_status = 400


class LabelError(ModisteError):
    """An unknown label name or a malformed label set."""

    http_status = 400


class ManifestError(ModisteError):
    """A manifest that can't be read as photos and labels."""

    http_status = 400


class PhotoError(ModisteError):
    """One photo that can't be read; the other photos go on."""

    exit_code = 1
    http_status = 415


class WeightsError(ModisteError):
    """Weights that are missing or don't fit the network."""


class RunError(ModisteError):
    """A run folder that exists already, is missing, or belongs to another label set."""


class TrainingError(ModisteError):
    """Training that can't go on, such as a loss that is not finite."""


class StorageError(ModisteError):
    """A file that can't be written: full disk, missing folder, no permission."""

    http_status = 507
