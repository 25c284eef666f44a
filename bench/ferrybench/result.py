"""What a row found: a table, and the budgets it is held to."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Callable, Iterable

from .bench import Sample
from .settings import MIB


@dataclass
class Budget:
    """A promise and how it stands. `key` is what notes.txt calls it."""

    key: str
    text: str
    value: float
    limit: float
    at_most: bool = True

    @property
    def met(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def json(self) -> dict:
        return {**self.__dict__, "met": self.met}


@dataclass
class Result:
    """One row of the benchmark."""

    setting: str
    columns: list[str] = field(default_factory=list)
    lines: list[list[str]] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    #: Why there is nothing, if there is nothing.
    skipped: str = ""

    def json(self) -> dict:
        return {
            "setting": self.setting,
            "columns": self.columns,
            "lines": self.lines,
            "budgets": [budget.json() for budget in self.budgets],
            "samples": [sample.json() for sample in self.samples],
            "skipped": self.skipped,
        }


def median(samples: Iterable[Sample], of: Callable[[Sample], float]) -> float:
    values = [of(sample) for sample in samples]
    return statistics.median(values) if values else float("nan")


class Samples:
    """The runs of a row, by who ran."""

    def __init__(self, samples: list[Sample]):
        self.all = samples
        self.names = list(dict.fromkeys(sample.who for sample in samples))

    def of(self, who: str) -> list[Sample]:
        return [sample for sample in self.all if sample.who == who]

    def wall(self, who: str) -> float:
        return median(self.of(who), lambda s: s.wall)

    def cpu(self, who: str) -> float:
        return median(self.of(who), lambda s: s.cpu)

    def rss(self, who: str) -> int:
        return max(sample.rss for sample in self.of(who))

    def requests(self, who: str) -> float:
        return median(self.of(who), lambda s: s.requests)

    def table(self, size: int, base: str = "hubferry") -> tuple[list[str], list[list[str]]]:
        """The usual columns. `size` is what a perfect run would move."""
        columns = ["", "wall s", "spread", "hubferry ÷ it", "CPU s", "hubferry ÷ it", "RSS MiB", "requests", "bytes ÷ size", "result"]
        lines = []
        for who in self.names:
            runs = self.of(who)
            walls = [run.wall for run in runs]
            lines.append([
                who,
                number(self.wall(who)),
                f"{number(min(walls))}–{number(max(walls))}" if len(walls) > 1 else "once",
                number(self.wall(base) / self.wall(who)),
                number(self.cpu(who)),
                number(self.cpu(base) / self.cpu(who)) if self.cpu(who) else "",
                f"{self.rss(who) / MIB:.0f}",
                f"{self.requests(who):.0f}",
                number(median(runs, lambda s: s.bytes) / size) if size else "",
                verdict(runs),
            ])
        return columns, lines


def verdict(runs: list[Sample]) -> str:
    """Whether every run ended well and left the right bytes."""
    bad = [run for run in runs if run.exit != 0 or not run.right]
    if not bad:
        return "right"
    if bad[0].timed_out:
        return "not done in time"
    return f"**exit {bad[0].exit}, {'right' if bad[0].right else 'wrong'} bytes**"


def number(value: float) -> str:
    """Three digits that mean something."""
    if value != value:
        return "–"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
