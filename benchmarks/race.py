"""Race functions that do the same work, fairly on a busy machine, and report ratios.

All contestants run interleaved in every round (A B C ... C B A), on one thread, measured in CPU time of the process, each
repeated until a turn is long enough to be timed. A ratio compares a contestant with the reference of the same round; the
report gives the median over the rounds and the quartiles. A benchmark is a few lines:

    board = Board("Sorting rows of 1000 numbers")
    x = torch.rand(32, 1000)
    times = race({"torch": lambda: x.sort(), "numpy": lambda: np.sort(x.numpy())}, reference="torch", rounds=board.rounds)
    board.row("n=1000, B=32", times)
    board.check("numpy, n=1000", times["numpy"].ratio, 0.5)
    board.finish()

`--check` makes a failed gate an error, `--slack 1.5` widens all gates, `--quick` asks for fewer sizes and rounds,
`--json` writes all figures.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

TURN = 0.004
"""Seconds of CPU time that one turn of a contestant lasts at least."""


BATCHES = 8
"""How many a contestant goes through `in_turn`, as a rule."""


@dataclass(frozen=True)
class Time:
    """How long one call took: CPU seconds (lower quartile; least of all rounds, which is what a machine needs when nothing else
    disturbs it), and the ratio to the reference (median, quartiles)."""

    seconds: float
    least: float
    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.3g} ({self.low:.3g}-{self.high:.3g}) [{_duration(self.seconds)}]"


def race(contestants: dict[str, Callable[[], object]], reference: str, rounds: int = 9, turn: float = TURN) -> dict[str, Time]:
    """Time all contestants, interleaved, on one thread, beside the one called `reference`.

    A contestant is a function of no arguments, called for `turn` seconds of CPU time at least before it is the next one's turn;
    its first calls find the caches full of other things. Raises KeyError when `reference` is not one of them.
    """
    if reference not in contestants:
        raise KeyError(f"race: no contestant is called {reference!r}; there are {', '.join(contestants)}.")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()  # what is there already is not looked at by the collections of the rounds
    try:
        repeats = {name: _repeats(call, turn) for name, call in contestants.items()}
        laps = [_round(contestants, repeats) for _ in range(rounds)]
    finally:
        gc.unfreeze()
        torch.set_num_threads(threads)
    return {name: _time([lap[name] for lap in laps], [lap[reference] for lap in laps]) for name in contestants}


def in_turn(call: Callable[[T], R], data: list[T]) -> Callable[[], R]:
    """A contestant that goes through the data, one after the other: a processor learns the branches of one that comes again
    and again, which no training has."""
    supply = cycle(data)
    return lambda: call(next(supply))


def keep_memory() -> None:
    """Have the C library keep what is freed, as it does once something large was: early in any training, and here at once.

    Until then it hands a tensor of some megabytes back after each call, and the pages of the next one are made anew.
    """
    torch.empty(31 << 18)


def _repeats(call: Callable[[], object], turn: float) -> int:
    """How many calls make one turn; also warms up caches, lazy imports and just-in-time compilers."""
    call()
    count = 1
    while (spent := _turn(call, count)) < turn:
        count = max(count + 1, min(10 * count, int(1.2 * count * turn / max(spent, 1e-6))))
    return count


def _turn(call: Callable[[], object], count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        call()
    return time.process_time() - start


def _round(contestants: dict[str, Callable[[], object]], repeats: dict[str, int]) -> dict[str, float]:
    """CPU seconds per call in one pass there and back, so that a drift of the machine cancels."""
    spent = dict.fromkeys(contestants, 0.0)
    gc.collect()
    gc.disable()  # a collection would land on whoever runs when the counter is full
    try:
        for name in [*contestants, *reversed(contestants)]:
            spent[name] += _turn(contestants[name], repeats[name]) / repeats[name] / 2
    finally:
        gc.enable()
    return spent


def _time(own: list[float], reference: list[float]) -> Time:
    ratios = [a / b for a, b in zip(own, reference)]
    low, middle, high = _quartiles(ratios)
    return Time(_quartiles(own)[0], min(own), middle, low, high)


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


class Board:
    """Command line, table and gates of one benchmark.

    Rows are printed as they come, as a markdown table; a cell is `ratio (quartiles) [time]`. A new table starts when the
    contestants change. `finish` reports the gates.
    """

    def __init__(self, title: str, arguments: list[str] | None = None):
        parser = argparse.ArgumentParser(description=f"{title}: CPU time beside other libraries, on one thread.")
        parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds")
        parser.add_argument("--rounds", type=int, help="rounds of each race (default 9, with --quick 5)")
        parser.add_argument("--check", action="store_true", help="exit with an error when a gate fails")
        parser.add_argument("--slack", type=float, default=1.0, help="multiply the limits of all gates (default 1)")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
        options = parser.parse_args(arguments)
        self.title, self.quick = title, options.quick
        self.rounds: int = options.rounds or (5 if options.quick else 9)
        self._enforce, self._slack, self._json = options.check, options.slack, options.json
        self._columns: list[str] = []
        self._rows: list[dict[str, object]] = []
        self._gates: list[dict[str, object]] = []
        print(f"# {title}\n\n{_machine()}; ratio to the contestant with ratio 1 (quartiles) [CPU time of one call].")

    def row(self, label: str, times: dict[str, Time]) -> None:
        """Print one race as a row of the table."""
        if list(times) != self._columns:
            self._columns = list(times)
            print(f"\n| | {' | '.join(self._columns)} |\n|{' --- |' * (len(times) + 1)}")
        print(f"| {label} | {' | '.join(map(str, times.values()))} |", flush=True)
        self._rows.append({"label": label, "times": {name: asdict(t) for name, t in times.items()}})

    def check(self, name: str, ratio: float, limit: float) -> None:
        """Demand that `ratio` is at most `limit` (times the slack of the command line)."""
        self._gates.append({"name": name, "ratio": ratio, "limit": limit, "passed": ratio <= limit * self._slack})

    def finish(self) -> None:
        """Print the gates, write the JSON file; with `--check`, exit with status 1 when a gate failed."""
        if self._gates:
            print(f"\n| gate (slack {self._slack:g}) | ratio | limit | |\n| --- | --- | --- | --- |")
        for gate in self._gates:
            verdict = "ok" if gate["passed"] else "**missed**"
            print(f"| {gate['name']} | {gate['ratio']:.3g} | {gate['limit']:g} | {verdict} |")
        if self._json is not None:
            figures = {"title": self.title, "machine": _machine(), "rows": self._rows, "gates": self._gates}
            self._json.write_text(json.dumps(figures, indent=1) + "\n")
        if self._enforce and not all(gate["passed"] for gate in self._gates):
            sys.exit(1)


def _machine() -> str:
    cpu = torch.backends.cpu.get_cpu_capability()
    return f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()} {cpu}, one thread"
