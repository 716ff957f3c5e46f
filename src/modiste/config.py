"""Recipes: every choice of a run as frozen values, read from TOML. A default exists once, here.

A recipe names what the paper's table of settings names; unknown keys are refused, so that a typing
error never turns into a silent default.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from modiste.errors import RecipeError
from modiste.files import StrPath

DEFAULT_RECIPE = "quick"  # of every command that trains
DEFAULT_VIEWS = 2  # of each photo where features are kept; as good as fresh ones: benchmarks/README.md

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
PathText = Annotated[str, BeforeValidator(lambda path: os.fspath(path) if isinstance(path, os.PathLike) else path)]


class Frozen(BaseModel):
    """Settings that can't be changed, with no key but those they name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Frozen):
    """How to read a manifest; what is None is found by the rules in docs/reference/manifest.md."""

    label_set: PathText | None = None  # "jd2018" or a TOML/JSON file; else made from the columns
    label_columns: tuple[str, ...] | None = None
    delimiter: Literal[",", ";", "|", " "] | None = None  # of list columns
    rename: tuple[tuple[str, str], ...] = ()  # labels, old and new name; two old ones may have one new name
    keep_as_label: tuple[str, ...] = ()  # words such as "None" that else mean unknown
    encoding: str | None = None  # of a text file; else UTF-8, or guessed
    sheet: str | None = None  # of a spreadsheet
    image_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None  # photos of one product or person, never dealt into two splits
    stratify_columns: tuple[str, ...] = ()  # evened out between splits beside the labels
    fold_column: str | None = None
    fold: int | None = None  # with folds: this one validates, the others train
    root: PathText | None = None  # folder that relative photo paths start from; else the manifest's own
    min_positives: Annotated[int, Field(ge=1)] = 10  # training photos; labels with fewer are left out
    val_fraction: Fraction = 0.1  # of photos, where the manifest names no validation split
    test_fraction: Fraction = 0.1  # likewise


class ImageConfig(Frozen):
    """The square that the network sees."""

    size: Annotated[int, Field(ge=16, le=4096)] = 299  # pixels a side
    mode: Literal["stretch", "letterbox", "crop"] = "stretch"


class AugmentConfig(Frozen):
    """Online augmentation, drawn anew for each photo in each epoch; 0 turns a part off."""

    flip: Fraction = 0.5  # probability of a horizontal flip
    translate: Annotated[float, Field(ge=0, le=0.5)] = 0.1  # +- this share of the side
    rotate: Annotated[float, Field(ge=0, le=180)] = 15.0  # +- degrees
    border: Literal["reflect", "edge", "white"] = "reflect"  # what rotation and translation uncover
    crop_scale: tuple[Positive, Positive] = (1.0, 1.0)  # random resized crop: share of the area
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)  # and width / height
    color: Fraction = 0.0  # brightness, contrast, saturation: factors in 1 +- this
    mixup: Annotated[float, Field(ge=0)] = 0.0  # alpha of the Beta distribution
    views: Annotated[int, Field(ge=1)] | None = None  # where layers are locked: docs/reference/cache.md


class ModelConfig(Frozen):
    """Backbone -> global average pooling -> dropout -> one linear layer."""

    backbone: str = "inception_resnet_v2"  # any name of timm.list_models()
    weights: PathText = "hub"  # "hub" (timm's own), "none", or a safetensors file
    features: Literal["last", "layers"] = "last"  # layers: the mean of each earlier layer too
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5

    @property
    def title(self) -> str:
        """Backbone and features, for readers of reports."""
        return self.backbone + (", means of earlier layers beside the last" if self.features == "layers" else "")


class LossConfig(Frozen):
    """Binary cross-entropy (paper, eq. 2-3) or the asymmetric loss (Ridnik et al. 2021, eq. 7) of each label.

    An exclusive group may be one softmax instead, over its values and "none of these", with cross-entropy.
    """

    name: Literal["bce", "asymmetric"] = "bce"
    groups: Literal["softmax", "sigmoid"] = "softmax"  # how labels of exclusive groups are learnt
    positive_weight: Literal["none", "balanced"] = "none"  # of sigmoids; balanced: negatives / positives, at most 100
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # inside exclusive groups 1/k each, else 1/2
    gamma_positive: Annotated[float, Field(ge=0)] = 0.0  # asymmetric only
    gamma_negative: Annotated[float, Field(ge=0)] = 4.0  # asymmetric only
    margin: Fraction = 0.05  # asymmetric only: probability shift of negatives


class Stage(Frozen):
    """One stretch of training with one learning rate and one set of unlocked layers.

    Where `epochs` is "converged", the last layer is fitted to the frozen backbone's features until nothing is left to
    gain; the stage then has no learning rate, optimiser or schedule.
    """

    name: str
    epochs: Annotated[int, Field(ge=1)] | Literal["converged"]
    lr: Positive
    unlock: Literal["none", "all"] | Annotated[int, Field(ge=1)] = "none"  # k: the last k groups
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # sgd only
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    warmup: Fraction = 0.25  # one-cycle only: share of the stage's steps in which lr rises
    batch_statistics: Literal["updated", "locked"] = "updated"  # of the unlocked batch-norms
    size: Annotated[int, Field(ge=16, le=4096)] | None = None  # photo side in this stage, else image.size
    l2: Positive | None = None  # converged only: strength of L2 on the head; None: the best on validation photos

    @model_validator(mode="before")
    @classmethod
    def _without_rate(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("epochs") == "converged":
            return {"lr": 1.0, **data}  # of no effect
        return data

    @model_validator(mode="after")
    def _head_alone(self) -> Self:
        if self.epochs == "converged" and self.unlock != "none":
            raise ValueError(f'epochs = "converged" needs unlock = "none", got {self.unlock!r}')
        return self

    @property
    def rounds(self) -> int:
        """Rows that it adds to the history: one an epoch, one where it is fitted to convergence."""
        return 1 if self.epochs == "converged" else self.epochs

    @property
    def length(self) -> str:
        """How long it trains, in words."""
        return "to convergence" if self.epochs == "converged" else f"{self.epochs} epochs"


class TrainConfig(Frozen):
    """How the stages run."""

    batch_size: Annotated[int, Field(ge=1)] = 96  # global: over all devices together
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true"] = "32-true"
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0  # decay of the moving average of weights that is kept
    workers: Annotated[int, Field(ge=0)] | None = None  # processes a device that decode; None: by the cores
    checkpoint_seconds: Positive = 60.0  # how much work a kill can cost
    cache: Literal["auto", "pixels", "off"] = "auto"  # what is computed once: locked layers, decoded photos


class EvaluateConfig(Frozen):
    """Test-time augmentation."""

    views: Literal["one", "flip", "flip+translate"] = "one"  # averaged in probability


class DecideConfig(Frozen):
    """How probabilities become decisions, tuned on validation photos after training."""

    policy: str = "fixed:0.5"  # the paper's; fbeta:2, precision:0.9, recall:0.9, top:3; "+never-empty" behind it
    calibration: Literal["none", "auto", "temperature", "platt", "isotonic"] = "none"
    folds: Annotated[int, Field(ge=3, le=100)] = 5  # photos of one are judged by what the others tuned


class Recipe(Frozen):
    """A whole run as a value.

    Raises:
        RecipeError: from `read` and `replace`, for an unknown key or a wrong value.
    """

    name: str
    seed: Annotated[int, Field(ge=0)] = 0
    data: DataConfig = DataConfig()
    image: ImageConfig = ImageConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    decide: DecideConfig = DecideConfig()

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self.augment, name)
            if low > high:
                raise ValueError(f"augment.{name} must rise, got [{low}, {high}]")
        if self.augment.crop_scale[1] > 1:
            raise ValueError("augment.crop_scale is a share of the area and can't exceed 1")
        return self

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "recipe") -> Self:
        """Check plain data and turn it into a Recipe."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _recipe_error(source, error) from None

    @classmethod
    def read(cls, name_or_path: StrPath) -> Self:
        """A recipe that comes with modiste ("jd2018", "quick", ...) or a TOML file."""
        path = _find(name_or_path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            known = ", ".join(built_in())
            raise RecipeError.expected(
                f"'{name_or_path}' to be a recipe in TOML", error, f"one of {known}, or a file like them"
            ) from error
        return cls.from_dict({"name": path.stem, **_complete(data)}, str(path))

    def replace(self, assignments: Iterable[str]) -> Self:
        """A copy with "section.key=value" assignments applied; values are read as TOML, else as text.

        A stage is addressed by its place from 0: "stages.1.lr=1e-5".
        """
        data = self.model_dump()
        for assignment in assignments:
            key, equals, text = assignment.partition("=")
            if not equals:
                raise RecipeError.expected("an assignment 'key=value'", f"'{assignment}'", "'train.batch_size=32'")
            _assign(data, key.strip(), _value(text.strip()))
        return self.from_dict(data)

    def size_assignments(self, size: int) -> list[str]:
        """What makes all photos of training, validation and tagging `size` pixels a side."""
        return [f"image.size={size}", *(f"stages.{k}.size={size}" for k, one in enumerate(self.stages) if one.size)]

    def epochs_assignments(self, epochs: int) -> list[str]:
        """What makes the last stage that trains by epochs train for `epochs`.

        Raises:
            RecipeError: every stage trains to convergence.
        """
        last = next((k for k in reversed(range(len(self.stages))) if self.stages[k].epochs != "converged"), None)
        if last is None:
            want = f"a stage of '{self.name}' that trains by epochs, for --epochs {epochs}"
            raise RecipeError.expected(want, "one that trains to convergence alone", "leaving --epochs out")
        return [f"stages.{last}.epochs={epochs}"]

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return sum(stage.rounds for stage in self.stages)

    def to_toml(self) -> str:
        """The recipe as TOML, every value written out; `read` gives the same recipe back."""
        data = self.model_dump(mode="json", exclude_none=True)
        lines = [f"{key} = {toml(value)}" for key, value in data.items() if not isinstance(value, dict | list)]
        for key, value in data.items():
            tables = [(f"[{key}]", value)] if isinstance(value, dict) else []
            tables += [(f"[[{key}]]", item) for item in value] if isinstance(value, list) else []
            for head, table in tables:
                lines += ["", head, *(f"{k} = {toml(v)}" for k, v in table.items())]
        return "\n".join(lines) + "\n"


def _complete(data: dict[str, Any]) -> dict[str, Any]:
    """A recipe with the keys that did not exist when it was written out.

    Where every other key of [loss] stands, an earlier modiste wrote it, to which all labels were sigmoids.
    """
    loss = data.get("loss")
    if isinstance(loss, dict) and set(LossConfig.model_fields) - set(loss) == {"groups"}:
        return {**data, "loss": {**loss, "groups": "sigmoid"}}
    return data


def recipe_folder() -> Path:
    """Where the recipes that come with modiste lie: in the wheel, or in the checkout."""
    packaged = Path(__file__).parent / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "recipes"


def built_in() -> list[str]:
    """Names of the recipes that come with modiste."""
    return sorted(path.stem for path in recipe_folder().glob("*.toml"))


def _find(name_or_path: StrPath) -> Path:
    path = Path(name_or_path)
    packaged = recipe_folder() / f"{path}.toml"
    return packaged if path.suffix != ".toml" and packaged.is_file() else path


def _assign(data: Any, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    try:
        for part in parents:
            data = data[int(part)] if isinstance(data, list | tuple) else data[part]
        data[last] = value  # an unknown last key is refused by the check that follows
    except (KeyError, IndexError, ValueError, TypeError):
        raise RecipeError.expected(
            "a recipe key", f"'{key}'", "a key of recipe.toml, such as 'train.batch_size' or 'stages.0.lr'"
        ) from None


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def toml(value: Any) -> str:
    """A plain value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value)


def _recipe_error(source: str, error: ValidationError) -> RecipeError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("literal[", "constrained-")))
    if first["type"] == "extra_forbidden":
        known = ", ".join(_keys(first["loc"][:-1]))
        return RecipeError.expected(f"known keys in {source}", f"'{key}'", f"one of {known}")
    if first["type"] == "missing":
        return RecipeError.expected(f"'{key}' in {source}", "nothing", "adding it")
    got = f"{first['input']!r} ({first['msg']})" if key else first["msg"].removeprefix("Value error, ")
    want = f"'{key}' in {source} to be valid" if key else f"{source} to be valid"
    return RecipeError.expected(want, got, "a value from docs/reference/recipes.md")


def _keys(loc: tuple[int | str, ...]) -> list[str]:
    section = Stage if loc and loc[0] == "stages" else Recipe
    if loc and loc[0] != "stages":
        section = Recipe.model_fields[str(loc[0])].annotation  # type: ignore[assignment]
    return list(section.model_fields)
