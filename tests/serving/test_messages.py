"""Questions are checked to the last field; whatever else arrives is a ValueError and nothing worse."""

import json

import pytest
from hypothesis import given, settings, strategies as st

from noiseladder.serving.messages import LONGEST, Dream, Film, Follow, Question, Reset, Step, packed, parse, unpacked

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["enter", "reset", "step", "follow", "back", "look", "dream", "record", "film"])
fields = st.sampled_from(["action", "opening", "values", "format", "token", "walk", "ask", "self", "kind"])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200) | values.map(json.dumps))
def test_anything_at_all(text: str) -> None:
    try:
        question = parse(text)
    except ValueError:
        return
    assert isinstance(question, Question)


@settings(max_examples=150, deadline=None)
@given(names, st.dictionaries(fields, values, max_size=3))
def test_anything_that_looks_like_a_question(ask: str, others: dict[str, object]) -> None:
    try:
        question = parse(json.dumps({**others, "ask": ask}))
    except ValueError:
        return
    match question:
        case Step(action):
            assert type(action) is int
            assert action >= 0
        case Reset(opening):
            assert opening is None or (type(opening) is int and opening >= 0)
        case Dream(numbers):
            assert numbers
            assert all(abs(number) < 1e9 for number in numbers.values())
        case Film(format):
            assert format in ("gif", "mp4")


def test_what_is_meant_is_understood() -> None:
    assert parse('{"ask": "step", "action": 2}') == Step(2)
    assert parse('{"ask": "reset"}') == Reset(None)
    assert parse('{"ask": "reset", "opening": 3}') == Reset(3)
    assert parse('{"ask": "follow"}') == Follow()
    dream = parse('{"ask": "dream", "values": {"steps": 4, "stabilization": 0.1}}')
    assert isinstance(dream, Dream)
    assert dict(dream.values) == {"steps": 4, "stabilization": 0.1}


def test_a_question_has_a_length() -> None:
    with pytest.raises(ValueError, match="at most 4096"):
        parse(" " * (LONGEST + 1))


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5)), st.binary(max_size=50))
def test_answers_are_unpacked_as_they_were_packed(header: dict[str, object], body: bytes) -> None:
    assert unpacked(packed(header, body)) == (header, body)
