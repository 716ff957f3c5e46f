"""What a comparison trains: candidates, each a recipe with changes, and seeds."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Self, get_args

from pydantic import Field, ValidationError

from modiste.config import DEFAULT_RECIPE, Frozen, Recipe, Stage, toml
from modiste.errors import RecipeError, UsageError

OPTIMIZERS: tuple[str, ...] = get_args(Stage.model_fields["optimizer"].annotation)


class Candidate(Frozen):
    """One way of training: a name, and what it changes in the recipe ("section.key=value")."""

    name: Annotated[str, Field(min_length=1)]
    set: tuple[str, ...] = ()


class Grid(Frozen):
    """A recipe, changes for all, the candidates, and how many seeds each is trained with.

    Raises:
        RecipeError: from `read`, for an unknown key or a wrong value.
    """

    recipe: str = DEFAULT_RECIPE
    seeds: Annotated[int, Field(ge=1)] = 3
    set: tuple[str, ...] = ()
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1)]

    @classmethod
    def product(
        cls,
        recipe: str,
        backbones: Sequence[str],
        optimizers: Sequence[str],
        *,
        seeds: int = 3,
        changes: Sequence[str] = (),
    ) -> Self:
        """Every backbone with every optimiser; an empty list keeps the recipe's own.

        Raises:
            RecipeError: there is no such recipe.
            UsageError: a name that can't be, or one twice.
        """
        settings = Recipe.read(recipe)
        own = dict.fromkeys(stage.optimizer for stage in settings.stages)
        for name in optimizers:
            if name not in OPTIMIZERS:
                raise UsageError.expected("optimisers", f"'{name}'", f"some of {', '.join(OPTIMIZERS)}")
        candidates = []
        for backbone, optimizer in product(backbones or [settings.model.backbone], optimizers or [""]):
            name = f"{backbone} {optimizer or '+'.join(own)}"
            stages = [f'stages.{k}.optimizer="{optimizer}"' for k in range(len(settings.stages) if optimizer else 0)]
            candidates.append(Candidate(name=name, set=(f'model.backbone="{backbone}"', *stages)))
        return cls(recipe=recipe, seeds=seeds, set=tuple(changes), candidates=tuple(candidates)).checked()

    @classmethod
    def read(cls, path: Path) -> Self:
        """A TOML file: recipe (a name, or a file beside it), seeds, set, and [[candidates]] with name and set."""
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
            beside = path.parent / str(data.get("recipe", ""))
            if beside.is_file():
                data["recipe"] = str(beside)
            return cls.model_validate(data).checked()
        except (OSError, ValueError) as error:
            why = _first(error) if isinstance(error, ValidationError) else str(error)
            fix = "recipe, seeds, set and [[candidates]] with name and set, as in docs/reference/compare.md"
            raise RecipeError.expected(f"'{path}' to describe a comparison in TOML", f"'{why}'", fix) from None

    def changed(self, changes: Sequence[str]) -> Self:
        """The same grid with further changes for all."""
        return self.model_copy(update={"set": (*self.set, *changes)}).checked()

    def checked(self) -> Self:
        """The same grid, once every recipe of it has been made.

        Raises:
            RecipeError: a change names no key of a recipe.
            UsageError: two candidates have the same name, or names that make the same folder.
        """
        names = [slug(candidate.name) for candidate in self.candidates]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError.expected("candidates with names of their own", f"'{twice}' twice", "another name")
        for _ in self.runs():
            pass
        return self

    def runs(self) -> Iterator[tuple[Candidate, Recipe]]:
        """Every candidate with every seed, a backbone's together, so that they share what is computed once."""
        base = Recipe.read(self.recipe).replace(self.set)
        made = [(one, base.replace(one.set)) for one in self.candidates]
        order = list(dict.fromkeys(recipe.model.backbone for _, recipe in made))
        for candidate, recipe in sorted(made, key=lambda pair: order.index(pair[1].model.backbone)):
            for seed in range(self.seeds):
                yield candidate, recipe.replace([f"seed={base.seed + seed}"])

    def to_toml(self) -> str:
        """The grid as TOML; `read` gives the same back."""
        lines = [f"recipe = {toml(self.recipe)}", f"seeds = {self.seeds}", f"set = {toml(list(self.set))}"]
        for one in self.candidates:
            lines += ["", "[[candidates]]", f"name = {toml(one.name)}", f"set = {toml(list(one.set))}"]
        return "\n".join(lines) + "\n"


def slug(name: str) -> str:
    """A name as part of a folder's name."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "candidate"


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
