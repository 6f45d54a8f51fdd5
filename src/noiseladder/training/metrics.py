"""The numbers of a run, step by step: always as a CSV, on request for TensorBoard too."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any, Protocol

from .durable import replace_text
from .loop import Report
from .validation import LEVELS

AT_LEVEL = {level: f"validation_at_{level:g}" for level in LEVELS}
COLUMNS = (
    *("step", "loss", "gradient_norm", "learning_rate", "seconds", "tokens_per_second", "validation_loss"),
    *AT_LEVEL.values(),
)
FLUSH_SECONDS = 2.0


class Sink(Protocol):
    """Where reports go."""

    def add(self, report: Report) -> None:
        """Take a report in."""
        ...

    def flush(self) -> None:
        """Put everything taken in on disk."""
        ...

    def close(self) -> None:
        """Flush, and take no more."""
        ...


def as_row(report: Report) -> dict[str, float]:
    """A report as numbers by column; validation columns only in the steps that validated."""
    row: dict[str, float] = {
        "step": report.step,
        "loss": report.loss,
        "gradient_norm": report.gradient_norm,
        "learning_rate": report.learning_rate,
        "seconds": report.seconds,
        "tokens_per_second": report.tokens_per_second,
    }
    if report.validation is not None:
        row["validation_loss"] = report.validation.loss
        row |= {AT_LEVEL[level]: loss for level, loss in report.validation.by_level}
    return row


class CSVMetrics:
    """A row for every step; a resumed run first drops the rows of steps that it will do again."""

    def __init__(self, path: Path, steps_done: int = 0) -> None:
        kept = [row for row in read_rows(path) if row["step"] <= steps_done]
        lines = [",".join(COLUMNS), *(",".join(_shown(row.get(name)) for name in COLUMNS) for row in kept)]
        replace_text(path, "\n".join(lines) + "\n")
        self.file = path.open("a", encoding="utf-8", newline="")
        self.flushed = time.monotonic()

    def add(self, report: Report) -> None:
        row = as_row(report)
        self.file.write(",".join(_shown(row.get(name)) for name in COLUMNS) + "\n")
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        self.file.flush()
        self.flushed = time.monotonic()

    def close(self) -> None:
        self.file.close()


class TensorBoardMetrics:
    """The same numbers as TensorBoard events. Raises ImportError, naming the extra, where it is not installed."""

    def __init__(self, folder: Path, steps_done: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoard is not installed: pip install 'noiseladder[tensorboard]'") from error
        # What a killed run logged after its last checkpoint is hidden, because it comes again.
        writer: Any = SummaryWriter(folder, purge_step=steps_done + 1)
        self.writer = writer

    def add(self, report: Report) -> None:
        for name, value in as_row(report).items():
            if name != "step":
                self.writer.add_scalar(name, value, report.step)

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics file, empty cells left out; none if there is no file.

    A last line cut short by a power cut is dropped.
    """
    if not path.exists():
        return []
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for cells in csv.DictReader(file):
            try:
                rows.append({name: float(cells[name]) for name in COLUMNS if cells[name] != ""})
            except (KeyError, TypeError, ValueError):
                continue
    return rows


def _shown(value: float | None) -> str:
    # Every digit: a refactoring shows itself in the last one.
    return "" if value is None else repr(int(value)) if value == int(value) else repr(value)
