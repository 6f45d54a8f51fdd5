"""Who may come in, as a table: what a browser says of a page, and whether it is ours."""

import pytest

from noiseladder.serving.door import Door
from noiseladder.serving.limits import Limits

HERE = Door.of_this_machine(8420)
PUBLIC = Door(None, "a token of some length")


@pytest.mark.parametrize(
    ("origin", "host", "admitted"),
    [
        ("http://127.0.0.1:8420", "127.0.0.1:8420", True),
        ("http://localhost:8420", "localhost:8420", True),
        ("http://localhost:8420", "127.0.0.1:8420", True),
        (None, "127.0.0.1:8420", True),  # a script
        (None, None, False),
        (None, "127.0.0.1", False),
        (None, "evil.com:8420", False),
        ("http://evil.com:8420", "evil.com:8420", False),  # a name made to point here
        ("http://evil.com", "127.0.0.1:8420", False),
        ("http://127.0.0.1:8421", "127.0.0.1:8420", False),  # another server of this machine
        ("http://127.0.0.1:8420.evil.com", "127.0.0.1:8420", False),
        ("http://evil.com@127.0.0.1:8420", "127.0.0.1:8420", False),
        ("null", "127.0.0.1:8420", False),
        ("", "127.0.0.1:8420", False),
        ("ws://127.0.0.1:8420", "127.0.0.1:8420", False),
        ("http://[", "127.0.0.1:8420", False),
    ],
)
def test_on_this_machine(origin: str | None, host: str | None, admitted: bool) -> None:
    assert HERE.admits(origin, host) is admitted


@pytest.mark.parametrize(
    ("origin", "host", "admitted"),
    [
        ("http://192.168.1.7:8420", "192.168.1.7:8420", True),
        ("https://worlds.example", "worlds.example", True),  # behind a proxy
        ("https://evil.com", "worlds.example", False),
        ("null", "worlds.example", False),
        (None, "worlds.example", True),
    ],
)
def test_in_public(origin: str | None, host: str | None, admitted: bool) -> None:
    assert PUBLIC.admits(origin, host) is admitted


def test_the_port_that_http_means_may_be_left_out() -> None:
    assert Door.of_this_machine(80).admits("http://127.0.0.1", "127.0.0.1")


def test_the_token() -> None:
    assert PUBLIC.opens_for("a token of some length")
    for wrong in ("", "a token of some lengt", "a token of some length ", "\udcff", "\u0000"):
        assert not PUBLIC.opens_for(wrong)
    assert HERE.opens_for("")
    for short in ("", "fifteen letters"):
        with pytest.raises(ValueError, match="at least 16"):
            Door(None, short)


def test_limits_are_above_nothing() -> None:
    with pytest.raises(ValueError, match="idle is 0"):
        Limits(idle=0)
