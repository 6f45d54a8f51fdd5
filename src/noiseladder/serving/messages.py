"""What a page may ask, checked to the last field, and how a frame is answered.

A player asks in JSON, one question at a time, and every question has one answer: JSON, or bytes for frames and films.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

LONGEST = 4096  # characters of a question
FORMATS = ("gif", "mp4")


@dataclass(frozen=True)
class Enter:
    """The first question: let me in; `walk` is the key of a walk to go on with."""

    token: str = ""
    walk: str = ""


@dataclass(frozen=True)
class Reset:
    """Begin again at a real frame: that of an opening, or of any."""

    opening: int | None = None


@dataclass(frozen=True)
class Step:
    """The next frame, after this action."""

    action: int


@dataclass(frozen=True)
class Follow:
    """The next frame after what was done in the real walk, and the real frame beside it."""


@dataclass(frozen=True)
class Back:
    """Take back the last second."""


@dataclass(frozen=True)
class Look:
    """Where the walk is, for a page that has come back; it begins where it has not yet."""


@dataclass(frozen=True)
class Dream:
    """Dream otherwise from now on: numbers of the world's `dreaming`."""

    values: Mapping[str, float]


@dataclass(frozen=True)
class Record:
    """Keep the frames from now on."""


@dataclass(frozen=True)
class Film:
    """End the recording and send it: gif or mp4."""

    format: str


Question = Enter | Reset | Step | Follow | Back | Look | Dream | Record | Film


def parse(text: str) -> Question:
    """A question from its JSON. Raises ValueError, one sentence, for anything that is none."""
    if len(text) > LONGEST:
        raise ValueError(f"a question has {len(text)} characters, expected at most {LONGEST}")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("a question must be JSON") from error
    if not isinstance(given, dict):
        raise ValueError('a question must be a JSON object, such as {"ask": "step", "action": 0}')
    ask = given.pop("ask", None)
    if not isinstance(ask, str) or ask not in _KINDS:
        raise ValueError(f"unknown question: ask is one of {', '.join(_KINDS)}")
    kind, fields = _KINDS[ask]
    if unknown := set(given) - set(fields):
        raise ValueError(f"{ask} has no {sorted(unknown)[0][:40]!r}")
    values: dict[str, Any] = {}
    for name, (check, needed) in fields.items():
        if name in given:
            values[name] = check(name, given[name])
        elif needed:
            raise ValueError(f"{ask} needs {name}")
    question: Question = kind(**values)
    return question


def _number(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise ValueError(f"{name} must be a whole number, 0 or more")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > 256:
        raise ValueError(f"{name} must be a text of at most 256 characters")
    return value


def _format(name: str, value: object) -> str:
    if value not in FORMATS:
        raise ValueError(f"{name} must be one of {', '.join(FORMATS)}")
    return str(value)


def _values(name: str, value: object) -> Mapping[str, float]:
    if not isinstance(value, dict) or not 1 <= len(value) <= 16:
        raise ValueError(f"{name} must be an object of 1 to 16 numbers")
    found: dict[str, float] = {}
    for key, number in value.items():
        # A whole number may be too large for a float.
        if not isinstance(number, int | float) or isinstance(number, bool) or not abs(number) < 1e9:
            raise ValueError(f"{key[:40]} must be a number")
        found[key[:40]] = number
    return MappingProxyType(found)


_Check = Callable[[str, object], Any]
_KINDS: dict[str, tuple[type[Any], dict[str, tuple[_Check, bool]]]] = {
    "enter": (Enter, {"token": (_text, False), "walk": (_text, False)}),
    "reset": (Reset, {"opening": (_number, False)}),
    "step": (Step, {"action": (_number, True)}),
    "follow": (Follow, {}),
    "back": (Back, {}),
    "look": (Look, {}),
    "dream": (Dream, {"values": (_values, True)}),
    "record": (Record, {}),
    "film": (Film, {"format": (_format, True)}),
}


def packed(header: Mapping[str, Any], *bodies: bytes) -> bytes:
    """Bytes of an answer: the length of the header (four bytes, little-endian), the header as JSON, the bodies."""
    text = json.dumps(header, allow_nan=False).encode()
    return b"".join((struct.pack("<I", len(text)), text, *bodies))


def unpacked(answer: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the rest of `packed`; what the page does in JavaScript, for tests and scripts."""
    (length,) = struct.unpack_from("<I", answer)
    header: dict[str, Any] = json.loads(answer[4 : 4 + length])
    return header, answer[4 + length :]
