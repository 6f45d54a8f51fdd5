"""A line of progress is written no more often than it can be read, and not at all for what is quick."""

from io import StringIO

import pytest

from noiseladder.training import progress
from noiseladder.training.progress import Line


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test may set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_come_every_few_seconds_and_the_last_is_shown(clock: list[float]) -> None:
    out = StringIO()
    line = Line(out)
    for second in range(12):
        clock[0] = 100 + second
        line.say(f"step {second}")
    line.close()
    assert out.getvalue().split("\n") == ["step 0", "step 5", "step 10", "step 11", ""]


def test_a_terminal_has_one_line_that_is_redrawn(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "9")
    out = Terminal()
    line = Line(out)
    line.say("a")
    clock[0] += 0.05
    line.say("not read")
    clock[0] += 0.1
    line.say("longer than it")
    line.close()
    assert out.getvalue() == "\r\x1b[2Ka" + 2 * "\r\x1b[2Klonger t" + "\n"


@pytest.mark.parametrize("out", [StringIO(), Terminal()])
def test_what_is_quick_is_not_told(out: StringIO, clock: list[float]) -> None:
    line = Line(out, patience=10)
    for second in (0, 5, 9.9):
        clock[0] = 100 + second
        line.say("soon")
    line.close()
    assert out.getvalue() == ""


def test_what_lasts_is_told_from_then_on(clock: list[float]) -> None:
    out = StringIO()
    line = Line(out, patience=10)
    for second in (0, 9, 10, 11, 16):
        clock[0] = 100 + second
        line.say(f"second {second}")
    line.close()
    line.close()
    assert out.getvalue().split("\n") == ["second 10", "second 16", "second 16", ""]
