"""How photos are fetched: limits and waits as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError

from modiste.config import Frozen, Positive
from modiste.errors import UsageError

PRIVATE, OPTED_OUT, TOO_LARGE = "private address", "opted out", "too large"  # kinds of failure that settings decide on


class FetchConfig(Frozen):
    """How photos are fetched."""

    size: Annotated[int, Field(ge=16)] | None = None  # pixels of the shorter side after shrinking; None keeps the file
    output: Literal["files", "webdataset", "parquet"] = "files"
    shard_size: Annotated[int, Field(ge=1)] = 1000  # photos in one tar or Parquet file
    workers: Annotated[int, Field(ge=1)] = 64  # requests at once, over all hosts
    per_host: Annotated[int, Field(ge=1)] = 16  # requests at once to one host
    rate: Positive | None = None  # requests a second to one host
    connect_timeout: Positive = 10.0  # seconds to open a connection
    read_timeout: Positive = 20.0  # seconds without a byte
    total_timeout: Positive = 60.0  # seconds for one attempt, redirects included
    retries: Annotated[int, Field(ge=0)] = 3  # further attempts after a failure that may heal
    redirects: Annotated[int, Field(ge=0)] = 5
    max_bytes: Annotated[int, Field(ge=1)] = 30_000_000  # of one photo's file
    allow_private: bool = False  # fetch from loopback, private and link-local addresses
    ignore_opt_out: bool = False  # fetch what its server asks not to be used for AI
    user_agent: Annotated[str, Field(pattern=r"^[\x20-\x7e]+$")] = "modiste"

    @property
    def allowed(self) -> frozenset[str]:
        """Kinds of failure that can't be while these settings hold."""
        kinds = {PRIVATE: self.allow_private, OPTED_OUT: self.ignore_opt_out}
        return frozenset(kind for kind, lifted in kinds.items() if lifted)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """From plain data, in which None stands for the default.

        Raises:
            UsageError: a value that can't be.
        """
        try:
            return cls.model_validate({key: value for key, value in settings.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            option = "--" + str(first["loc"][0]).replace("_", "-")
            fix = "a value from modiste fetch --help"
            raise UsageError.expected(f"{option} to be valid", f"{first['input']!r} ({first['msg']})", fix) from None
