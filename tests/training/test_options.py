"""Options from a recipe's JSON: of the right types, whole, and what came later as usual."""

import json
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from noiseladder.training import TrainingOptions
from noiseladder.training.options import from_json, to_json


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True, kw_only=True)
class Mine(TrainingOptions):
    width: int = 3
    share: float = 0.5
    wide: bool = False
    data: str = "doom"
    start: Path | None = None
    colour: Colour = Colour.RED
    shares: tuple[float, ...] = (0.5,)


WRITTEN = json.loads(json.dumps(to_json(Mine())))


def test_what_was_written_is_read() -> None:
    read = from_json(Mine, {"recipe": "mine", **WRITTEN, "gone": 1})
    assert to_json(read) == WRITTEN
    other = Mine(width=7, share=1, start=Path("a"), patience=3, colour=Colour.BLUE)
    assert from_json(Mine, json.loads(json.dumps(to_json(other)))).width == 7
    older = {name: value for name, value in WRITTEN.items() if name not in ("width", "shard")}
    assert from_json(Mine, older) == replace(read, shard=False), "what came later is as usual"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"width": "abc"}, "mine.json says that width is 'abc', expected a whole number: restore it"),
        ({"width": 3.0}, "width is 3.0, expected a whole number"),
        ({"width": True}, "width is True, expected a whole number"),
        ({"width": None}, "width is None, expected a whole number"),
        ({"share": "0.5"}, "share is '0.5', expected a number"),
        ({"share": False}, "share is False, expected a number"),
        ({"wide": 1}, "wide is 1, expected true or false"),
        ({"data": 5}, "data is 5, expected a text"),
        ({"start": 5}, "start is 5, expected a path or null"),
        ({"patience": "x"}, "patience is 'x', expected a whole number or null"),
        ({"colour": "GREEN"}, "colour is 'GREEN', expected one of RED, BLUE"),
        ({"colour": []}, r"colour is \[\], expected one of RED, BLUE"),
        ({"shares": 0.5}, "shares is 0.5, expected a list"),
        ({"steps": 0}, "--steps is 0, expected at least 1"),
    ],
)  # fmt: skip
def test_other_types_get_one_sentence(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        from_json(Mine, {**WRITTEN, **changed}, "mine.json")


def test_a_recipe_that_is_not_whole_is_none() -> None:
    with pytest.raises(
        ValueError, match=r"mine\.json does not say steps, learning_rate, seed: it is not what a training"
    ):
        from_json(Mine, {"recipe": "mine"}, Path("mine.json"))
