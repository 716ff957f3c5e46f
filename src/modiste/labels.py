"""LabelSet: the labels a photo may have, their order, their names in several languages.

This is the only file that knows label order. A label belongs to one group; a group is exclusive
(a photo has exactly one of its labels, like garment type) or free (any number, like style).
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from modiste.errors import LabelError
from modiste.files import StrPath, write_text

UNKNOWN = -1  # in targets: not annotated; masked in the loss and in every metric

# Official order of the JD AI Fashion Challenge (2018): columns l1..l13 of its lists.
_JD2018 = (
    ("sports", "Sports", "运动"),
    ("casual", "Casual", "休闲"),
    ("commuting", "OL/Commuting", "OL/通勤"),
    ("japanese", "Japanese", "日系"),
    ("korean", "Korean", "韩版"),
    ("western", "European/American", "欧美"),
    ("british", "British", "英伦"),
    ("girly", "Girly", "少女"),
    ("ladylike", "Lady/Socialite", "名媛/淑女"),
    ("minimalist", "Minimalist", "简约"),
    ("natural", "Natural", "自然"),
    ("street", "Street/Punk", "街头/朋克"),
    ("ethnic", "Ethnic", "民族"),
)


@dataclass(frozen=True)
class Label:
    """One label: a stable id and display names by language code ("en", "zh", ...)."""

    id: str
    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, language: str = "en") -> str:
        """Display name in `language`, or the id where there is none."""
        return self.names.get(language, self.id)


@dataclass(frozen=True)
class Group:
    """Labels that belong together; `exclusive` means exactly one of them holds for a photo."""

    name: str
    labels: tuple[Label, ...]
    exclusive: bool = False


@dataclass(frozen=True, repr=False)
class LabelSet:
    """Groups of labels; the order of the labels is the order of every array's label axis.

    Raises:
        LabelError: no labels, an empty id, or an id that stands twice.
    """

    name: str
    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        if not self.ids:
            raise LabelError.expected(f"label set '{self.name}' to have labels", "none", "naming at least one")
        groups = [group.name for group in self.groups]
        if len(set(groups)) < len(groups):
            raise LabelError.expected(f"group names of '{self.name}' to differ", ", ".join(groups), "renaming one")
        seen: set[str] = set()
        for label in self.ids:
            if not label or label in seen:
                got = f"'{label}' twice" if label else "an empty id"
                raise LabelError.expected(f"label ids of '{self.name}' to be unique words", got, "renaming one of them")
            seen.add(label)

    def __repr__(self) -> str:
        groups = [f"{one.name} ({'one of ' if one.exclusive else ''}{len(one.labels)})" for one in self.groups]
        return f"LabelSet({self.name!r}, {_some(groups)})"

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Label]:
        return (label for group in self.groups for label in group.labels)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Label ids in order."""
        return tuple(label.id for label in self)

    def names(self, language: str = "en") -> list[str]:
        """Display names in order."""
        return [label.name(language) for label in self]

    @cached_property
    def _position(self) -> dict[str, int]:
        return {label: k for k, label in enumerate(self.ids)}

    def index(self, label: str) -> int:
        """Position of a label id on the label axis.

        Raises:
            LabelError: there is no such label; the message names the closest ones.
        """
        try:
            return self._position[label]
        except KeyError:
            close = difflib.get_close_matches(label, self.ids, n=3) or list(self.ids[:3])
            raise LabelError.expected(
                f"a label of '{self.name}'", f"'{label}'", "one of " + ", ".join(f"'{c}'" for c in close)
            ) from None

    def chosen(self, decisions: np.ndarray) -> tuple[str, ...]:
        """Ids of the labels that one photo's decisions (labels,) say 1 of, in order."""
        return tuple(label for label, yes in zip(self.ids, decisions, strict=True) if yes)

    @cached_property
    def exclusive(self) -> dict[str, np.ndarray]:
        """Name of each exclusive group -> positions of its labels, int array."""
        return {name: where for name, where in self._members.items() if self._group(name).exclusive}

    @cached_property
    def free_labels(self) -> np.ndarray:
        """Positions of the labels that are in no exclusive group, int array."""
        parts = [where for name, where in self._members.items() if not self._group(name).exclusive]
        return np.concatenate([*parts, np.arange(0)])

    @cached_property
    def _members(self) -> dict[str, np.ndarray]:
        members, start = {}, 0
        for group in self.groups:
            members[group.name] = np.arange(start, start + len(group.labels))
            start += len(group.labels)
        return members

    def _group(self, name: str) -> Group:
        return next(group for group in self.groups if group.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the layout of `labels.json`."""
        return {
            "name": self.name,
            "groups": [
                {
                    "name": group.name,
                    "exclusive": group.exclusive,
                    "labels": [{"id": label.id, "names": dict(label.names)} for label in group.labels],
                }
                for group in self.groups
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "label set") -> Self:
        """Read the layout of `to_dict`; a label may also be just its id.

        Raises:
            LabelError: the layout is another one.
        """
        try:
            groups = tuple(
                Group(
                    name=str(group["name"]),
                    labels=tuple(_label(item) for item in group["labels"]),
                    exclusive=bool(group.get("exclusive", False)),
                )
                for group in data["groups"]
            )
            return cls(str(data["name"]), groups)
        except (KeyError, TypeError, AttributeError) as error:
            raise LabelError.expected(
                f"{source} to have 'name' and 'groups' of 'name', 'exclusive', 'labels'",
                f"{type(error).__name__}: {error}",
                "the layout in docs/reference/labels.md",
            ) from error

    def write(self, path: StrPath) -> None:
        """Write as JSON, atomically."""
        write_text(path, json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def read(cls, name_or_path: StrPath) -> Self:
        """The built-in set of that name ("jd2018"), or a TOML or JSON file.

        Raises:
            LabelError: neither a built-in name nor a readable label set.
        """
        if os.fspath(name_or_path) == "jd2018":
            return cls("jd2018", (Group("style", tuple(Label(i, {"en": e, "zh": z}) for i, e, z in _JD2018)),))
        path = Path(name_or_path)
        try:
            text = path.read_text(encoding="utf-8")
            data = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
        except (OSError, ValueError) as error:
            raise LabelError.expected(
                f"'{path}' to be 'jd2018' or a TOML or JSON label set", error, "the layout in docs/reference/labels.md"
            ) from error
        return cls.from_dict(data, str(path))

    @classmethod
    def free(cls, name: str, ids: Sequence[str]) -> Self:
        """A set of one free group, named after the ids alone."""
        return cls(name, (Group(name, tuple(Label(i) for i in ids)),))


def _label(item: str | Mapping[str, Any]) -> Label:
    if isinstance(item, str):
        return Label(item)
    return Label(str(item["id"]), dict(item.get("names", {})))


def _some(words: Sequence[str], most: int = 4) -> str:
    """The first few of a list, and how many follow."""
    more = [f"{len(words) - most} more"] if len(words) > most else []
    return ", ".join([*words[:most], *more])
