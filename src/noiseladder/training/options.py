"""How long, how fast and how carefully to train; a recipe inherits these and adds what it trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options of the training loop; each is an option of `noiseladder train` too."""

    steps: int = 1000
    """Training steps in all."""
    learning_rate: float = 1e-3
    """The highest learning rate, reached after the warm-up; then it falls to 0 along a cosine."""
    warmup: int = 100
    """Steps in which the learning rate rises from 0."""
    weight_decay: float = 0.01
    """AdamW's weight decay; on matrices only."""
    clip: float = 1.0
    """The longest gradient; longer ones are shortened to this."""
    average: float = 0.999
    """Decay of the averaged weights, which are the ones that are validated and kept (less in the first steps)."""
    accumulate: int = 1
    """Parts each batch is cut into, one after the other, for batches that do not fit into memory."""
    bfloat16: bool = False
    """Compute in bfloat16 where it is safe (autocast); weights stay float32."""
    validate_every: int = 100
    """Steps between validations; the best weights are kept."""
    patience: int | None = None
    """Stop after this many validations without a better one; without it, train all steps."""
    checkpoint_every: int = 100
    """Steps between checkpoints: what a power cut can cost."""
    seed: int = 0
    """The same options and the same seed give the same weights on the same machine."""
    threads: int | None = None
    """Processor threads; without it, one and two are timed at the start and the faster is kept."""
    device: str = "cpu"
    """Where to train: cpu, cuda, cuda:1."""
    shard: bool = False
    """Under torchrun, spread the weights over the ranks (fully_shard) instead of copying them to each (DDP)."""

    def __post_init__(self) -> None:
        check_at_least(self, steps=1, warmup=0, accumulate=1, validate_every=1, checkpoint_every=1)
        check_at_least(self, patience=1, threads=1, weight_decay=0)
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0 or (name == "learning_rate" and self.learning_rate == float("inf")):
                raise ValueError(f"{as_option(name)} is {getattr(self, name)}, expected a number above 0")
        if not 0 <= self.average < 1:
            raise ValueError(f"--average is {self.average}, expected a decay in [0, 1): 0 averages nothing")


def as_option(name: str) -> str:
    """A field's name as it is written on the command line."""
    return f"--{name.replace('_', '-')}"


def check_at_least(options: object, **least: int) -> None:
    """Raise ValueError for an option, where it is given, below what it can be."""
    for name, smallest in least.items():
        value = getattr(options, name)
        if value is not None and not value >= smallest:
            raise ValueError(f"{as_option(name)} is {value}, expected at least {smallest}")


Options = TypeVar("Options", bound=TrainingOptions)

MAY_CHANGE = frozenset({"steps", "validate_every", "patience", "checkpoint_every", "device", "shard"})
"""What a resumed run may set anew: how long it lasts, how closely it is watched and where it runs, not what is learned.

With other `steps` the learning rate follows the new cosine from the resumption on; another device rounds otherwise.
"""


def to_json(options: TrainingOptions) -> dict[str, Any]:
    """The options as JSON values. Raises ValueError for a field that has none."""
    return {field.name: _plain(field.name, getattr(options, field.name)) for field in fields(options)}


ALWAYS = ("steps", "learning_rate", "seed")
"""Options that are in every recipe that a training wrote; others may have come later."""

KINDS: Mapping[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    str: ((str,), "a text"),
    Path: ((str,), "a path"),
    NoneType: ((NoneType,), "null"),
}
"""Of an option: what it is in JSON, and how that is called."""


def from_json(kind: type[Options], recipe: Mapping[str, Any], source: Path | str = "the recipe") -> Options:
    """Options of a class from a recipe's JSON; what is none of its fields is left out.

    source: where the recipe stands, for what is said of it. Raises ValueError for a value of another type than its
    option, for one that the options refuse, and for a recipe that is not whole.
    """
    missing = [name for name in ALWAYS if name not in recipe]
    if missing:
        raise ValueError(f"{source} does not say {', '.join(missing)}: it is not what a training wrote, restore it")
    hints = get_type_hints(kind)
    given = {field.name: recipe[field.name] for field in fields(kind) if field.name in recipe}
    for name, value in given.items():
        if not any(_is_of(value, one) for one in _alternatives(hints[name])):
            expected = " or ".join(_called(one) for one in _alternatives(hints[name]))
            raise ValueError(f"{source} says that {name} is {value!r}, expected {expected}: restore it")
    return kind(**given)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a JSON value can be that of an option of a type; true for types that are unknown here."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return isinstance(value, str) and value in hint.__members__
    if get_origin(hint) in (tuple, list):
        return isinstance(value, list)
    if hint not in KINDS:
        return True
    return isinstance(value, KINDS[hint][0]) and (hint is bool or not isinstance(value, bool))


def _called(hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(hint.__members__)}"
    return KINDS[hint][1] if hint in KINDS else "a list"


def _plain(name: str, value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Enum():
            return value.name
        case Path():
            return str(value)
        case tuple() | list():
            return [_plain(name, item) for item in value]
    raise ValueError(
        f"option {name} is a {type(value).__name__}, which JSON cannot hold: expected numbers, strings, booleans,"
        " None, paths, enums, or tuples of these"
    )


def check_same_recipe(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError, naming every option that differs, unless a run with `saved` options may go on with `now`."""
    missing = object()
    differing = [
        f"{name} was {_shown(saved.get(name, missing), missing)} and is {_shown(now.get(name, missing), missing)}"
        for name in sorted({*saved, *now})
        if saved.get(name, missing) != now.get(name, missing) and name not in MAY_CHANGE
    ]
    if differing:
        raise ValueError(
            f"the checkpoint belongs to another recipe: {'; '.join(differing)}. Resume with the options it was"
            f" started with (only {', '.join(sorted(MAY_CHANGE))} may change), or start a new run in another folder"
        )


def _shown(value: Any, missing: object) -> str:
    return "not an option" if value is missing else repr(value)
