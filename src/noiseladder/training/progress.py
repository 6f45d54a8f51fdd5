"""One line that says how training goes; on a terminal it is redrawn, elsewhere a new one comes every few seconds."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

from .loop import Report

TERMINAL_SECONDS, LOG_SECONDS = 0.1, 5.0


class Line:
    """A line on `out` that is written anew, no more often than it can be read.

    patience: seconds from now in which nothing is shown; what is quick needs no line.
    """

    def __init__(self, out: TextIO, patience: float = 0.0) -> None:
        self.out, self.live = out, out.isatty()
        self.pause = TERMINAL_SECONDS if self.live else LOG_SECONDS
        self.next = time.monotonic() + patience
        self.text, self.seen = "", False

    def say(self, text: str) -> None:
        """Show a text, unless the last one was shown a moment ago."""
        self.text = text
        now = time.monotonic()
        if now >= self.next:
            self.next = now + self.pause
            self._show()

    def close(self) -> None:
        """Show the last text, whenever it came, unless none has been shown."""
        if self.seen:
            self._show()
            if self.live:
                self.out.write("\n")
        self.out.flush()
        self.text, self.seen = "", False

    def _show(self) -> None:
        if self.live:
            # Carriage return and "erase line" clear one line only, so the text may not wrap into a second.
            width = shutil.get_terminal_size().columns - 1
            self.out.write(f"\r\x1b[2K{self.text[:width]}")
        else:
            self.out.write(f"{self.text}\n")
        self.out.flush()
        self.seen = True


class Progress:
    """Shows reports on `out`."""

    def __init__(self, out: TextIO, steps: int, steps_done: int = 0) -> None:
        self.shown, self.steps = Line(out), steps
        self.start, self.first_step = time.monotonic(), steps_done
        self.validation = ""

    def add(self, report: Report) -> None:
        """Show a report, unless the last one was shown a moment ago."""
        if report.validation is not None:
            self.validation = f"  validation {report.validation.loss:.4f}{' (best)' * report.validation.best}"
        self.shown.say(self.line(report, time.monotonic()))

    def line(self, report: Report, now: float) -> str:
        """The line for a report."""
        per_step = (now - self.start) / max(1, report.step - self.first_step)
        left = duration(per_step * (self.steps - report.step))
        return (
            f"step {report.step}/{self.steps}  loss {report.loss:.4f}{self.validation}"
            f"  {compact(report.tokens_per_second)} tokens/s  {left} left"
        )

    def close(self) -> None:
        """Show the last report, whenever it came."""
        self.shown.close()


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: 75 is 1:15."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def compact(number: float) -> str:
    """Three digits and a letter: 31400 is 31.4k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
