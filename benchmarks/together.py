"""Ten seeds of a task: trained as one stacked model, and one after the other.

Every contestant is a whole training run of a few steps, with what Lightning, the data and the tests of an epoch cost. Steps of
small models are mostly overhead, which stacking pays once; those of large ones are arithmetic, which nothing saves on one core.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.race import Board, race
from solverlayers.tasks.running import Hardware, Run, train, train_together

SEEDS = 10


@dataclass(frozen=True)
class Case:
    """A task of preset `quick` but for these settings, for one epoch of `steps`; `limit` is what ten together may take
    beside ten one after the other."""

    label: str
    task: str
    rule: str
    steps: int
    settings: Sequence[str] = ()
    limit: float | None = None

    def runs(self) -> list[Run]:
        batch = Run.make(self.task, self.rule, settings=[*self.settings]).config["batch"]
        settings = [*self.settings, f"train_size={self.steps * batch}", "epochs=1", "test_size=64"]
        return [Run.make(self.task, self.rule, settings=settings, seed=seed) for seed in range(SEEDS)]


SILENT = Hardware(progress=False)
CASES = (
    Case("sorting, n=3, 8 units, batch 16", "sorting", "identity", 150, ["n=3", "width=8", "bits=8", "batch=16"], 0.5),
    Case("sorting, n=5, 32 units, batch 32", "sorting", "identity", 150, ["width=32", "bits=32", "batch=32"], 0.5),
    Case("sorting, n=5, 128 units, batch 64", "sorting", "identity", 80, ["batch=64"], 0.8),
    Case("sorting, n=5, 128 units, batch 1024", "sorting", "identity", 10, ["batch=1024"]),
    Case("polynomial, one problem, batch 64", "polynomial", "reinmax", 60, ["replicas=1", "exponents=2.0,"], 0.8),
    Case("polynomial, six problems, batch 64", "polynomial", "reinmax", 20),
    Case("vae, 8 x 4, batch 16", "vae", "reinmax(1.3)", 60, ["batch=16"]),
    Case("vae, 8 x 4, batch 100", "vae", "reinmax(1.3)", 25),
)


def one_by_one(runs: Sequence[Run]) -> None:
    """Train each in a folder of its own, where there is nothing to resume."""
    for run in runs:
        with tempfile.TemporaryDirectory() as folder:
            train(run, Path(folder), SILENT)


def together(runs: Sequence[Run]) -> None:
    """Train all as one model."""
    with tempfile.TemporaryDirectory() as folder:
        train_together(runs, Path(folder), SILENT)


def main() -> None:
    board = Board("Seeds together")
    for case in CASES[::3] if board.quick else CASES:
        runs = case.runs()
        contestants: dict[str, Callable[[], object]] = {
            "one seed": partial(one_by_one, runs[:1]),
            "ten, one after the other": partial(one_by_one, runs),
            "ten together": partial(together, runs),
        }
        times = race(contestants, "one seed", board.rounds)
        board.row(case.label, times)
        if case.limit is not None:
            board.check(case.label, times["ten together"].ratio / times["ten, one after the other"].ratio, case.limit)
    board.finish()


if __name__ == "__main__":
    main()
