"""What all tasks share: their settings, and the module that trains, measures and remembers."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from solverlayers import Solver, SolverLayer
from solverlayers.autograd import watch_gradient
from solverlayers.estimators import Estimator
from solverlayers.losses import SolverLoss
from solverlayers.noise import Noise
from solverlayers.rules import Rule
from solverlayers.solver import SHORT_WAYS

from .specs import loss_target

Batch = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings that every task has."""

    epochs: int
    batch: int  # instances per step and device
    lr: float
    one_cycle: bool  # the learning rate rises for a tenth of the steps, then falls to nothing (Smith, 2018); else it is steady
    train_size: int  # instances per epoch
    fresh: bool  # True: new training instances in every epoch; False: one fixed set
    test_size: int  # unseen instances, measured after every epoch

    def __post_init__(self) -> None:
        self._positive("epochs", "batch", "lr", "train_size", "test_size")
        for each in fields(self):
            value = getattr(self, each.name)
            if each.type == "int" and value < 0:
                raise ValueError(f"setting {each.name}={value}; it must not be negative.")
            if each.type == "float" and not math.isfinite(value):
                raise ValueError(f"setting {each.name}={value}; it must be finite.")

    def _positive(self, *names: str) -> None:
        for name in names:
            if not getattr(self, name) > 0:
                raise ValueError(f"setting {name}={getattr(self, name)!r}; it must be positive.")

    def size(self, part: str) -> int:
        """How many instances a part has, `"train"` or `"test"`."""
        return self.train_size if part == "train" else self.test_size


class Meter:
    """Means of per-instance measurements, summed on the device: nothing waits for it until it is asked."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[Tensor, int]] = {}
        """By name: the sum of the numbers so far, and how many they are."""

    def add(self, name: str, values: Tensor) -> None:
        """Take note of one number per instance, or of several rows of them, whose sums are kept apart.  # (*S, B)"""
        total, count = values.detach().sum(-1, dtype=torch.float64), values.shape[-1]
        if name in self.sums:
            before, earlier = self.sums[name]
            total, count = total + before, count + earlier
        self.sums[name] = total, count

    def add_batch(self, loss: Tensor, measured: Mapping[str, Tensor]) -> None:
        """Take note of the loss of a batch and of what was measured of its instances.  # (*S), (*S, B)"""
        for name, values in measured.items():
            self.add(name, values)
        self.add("loss", loss.unsqueeze(-1).expand_as(next(iter(measured.values()))))

    def share(self, meters: Sequence[Meter]) -> None:
        """Hand every row on to a meter of its own; this one starts again from nothing."""
        for name, (totals, count) in self.sums.items():
            for meter, total in zip(meters, totals):
                meter.sums[name] = total, count
        self.sums = {}

    def means(self, task: LightningModule) -> dict[str, float]:
        """The means over all devices; the meter starts again from nothing."""
        names = sorted(self.sums)
        if not names:
            return {}
        pairs = [self.sums[name] for name in names]
        totals = torch.stack([torch.stack([total, total.new_tensor(count)]) for total, count in pairs])
        self.sums = {}
        totals = task.trainer.strategy.reduce(totals, reduce_op="sum")
        return {name: float(total / count) for name, (total, count) in zip(names, totals.tolist())}


class Stopwatch:
    """Counts the seconds that a solver works, wherever it is called from; on a GPU by events, so that nothing waits."""

    def __init__(self, solver: Solver) -> None:
        self.solver, self.seconds, self.running = solver, 0.0, False
        self.events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        for name in ("solve", *SHORT_WAYS):
            # solvers are frozen, and an attribute goes before the method of the class
            object.__setattr__(solver, name, partial(self._call, getattr(type(solver), name)))

    def _call(self, method: Callable[..., Any], *scores: Any, **instance: Tensor) -> Any:
        if self.running:  # one way to ask a solver leads to another
            return method(self.solver, *scores, **instance)
        with self._timed(getattr(scores[0], "theta", scores[0]).device):
            return method(self.solver, *scores, **instance)

    @contextmanager
    def _timed(self, device: torch.device) -> Iterator[None]:
        pair = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) if device.type == "cuda" else None
        start = time.perf_counter()
        self.running = True
        if pair:
            pair[0].record()
        try:
            yield
        finally:
            self.running = False
        if pair:
            pair[1].record()
            self.events.append(pair)
        else:
            self.seconds += time.perf_counter() - start

    def read(self) -> float:
        """The seconds since it was last read."""
        if self.events:
            torch.cuda.synchronize()
            self.seconds += sum(a.elapsed_time(b) for a, b in self.events) / 1e3
        seconds, self.seconds, self.events = self.seconds, 0.0, []
        return seconds


class Task(LightningModule):
    """A network with a solver layer. A subclass says what an instance is, what the network does and what it costs.

    Everything random in an epoch follows from (seed, epoch, device), so a run that was killed and resumed goes on exactly as
    it would have gone.
    """

    presets: ClassVar[dict[str, Any]]
    """Settings by name: `quick` for a look on two cores, `paper` for the paper's own numbers."""
    default_rule: ClassVar[str]
    headline: ClassVar[str] = "exact_match"
    """The measurement that says how good a run is: it is drawn against the steps and shown while it trains."""
    columns: ClassVar[tuple[str, ...]] = ("exact_match", "hamming", "regret", "loss", "moved", "agreement")
    """The measurements in the table of `compare`."""
    note: str | None = None
    """What the data are, where they are not made: their name, and of what they are a substitute."""
    takes_estimators: ClassVar[bool] = False
    """Whether an estimator may take the place of the layer; `surrogate` then gives the network that some of them train."""
    takes_losses: ClassVar[bool] = False
    """Whether a loss that calls the solver may take the place of the layer; `measure` then asks `compare`."""

    layer: SolverLayer
    """The solver with its rule; there is none where an estimator or a loss takes its place."""

    def __init__(
        self,
        config: Any,
        rule: Rule | Estimator | SolverLoss,
        projection: str | None = None,
        noise: Noise | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.config, self.seed, self.noise = config, seed, noise
        self.estimator = rule if isinstance(rule, Estimator) else None
        self.loss = rule if isinstance(rule, SolverLoss) else None
        solver = self.make_solver(config) if self.loss is None else self.loss.solver
        if isinstance(rule, Rule):
            self.layer = SolverLayer(solver, rule, projection=projection, noise=noise)
        elif self.loss is not None and (projection is not None or noise is not None):
            raise ValueError(f"{rule!r} compares the scores themselves; it takes neither a projection nor noise.")
        elif projection is not None or noise is not None:
            raise ValueError(f"{rule!r} draws from a distribution of its own; it takes neither a projection nor noise.")
        self.stopwatch = Stopwatch(solver)
        self.meter = Meter()
        self.history: list[dict[str, Any]] = []
        """One record per finished epoch: epoch, step, seconds, cpu_seconds, train and test measurements."""

    @staticmethod
    @abstractmethod
    def make_solver(config: Any) -> Solver:
        """The solver of the layer."""

    @staticmethod
    @abstractmethod
    def shape(config: Any) -> tuple[int, ...]:
        """The shape of one instance's scores."""

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """New instances with their labels, on the device of the generator.  # -> tensors (size, ...)

        A task whose instances are not made overrides `data` in its place.
        """
        raise NotImplementedError(f"{type(self).__name__} makes no instances.")

    @staticmethod
    def surrogate(config: Any) -> nn.Module:
        """A new network for estimators that train one: from the scores of instances to a number each."""
        raise NotImplementedError

    def start(self) -> None:
        """Set weights that depend on the data, before the first step; those of a checkpoint replace them."""

    @abstractmethod
    def measure(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and measurements `(B,)` of its instances. Scores are solved with `self.solve`."""

    @abstractmethod
    def draw(self, folder: Path) -> None:
        """Pictures in the folder, `predictions.png` among them: predictions beside the truth."""

    @classmethod
    def draw_comparison(cls, results: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> None:
        """Further pictures of several runs, the results by the label of their rows in the table of `compare`."""

    def data(self, part: str) -> Batch:
        """All instances of a part, `"train"` or `"test"`; without an override they are drawn by `sample`."""
        return self.sample_in_batches(self.config.size(part), self.generator(part))

    def finish(self) -> dict[str, float]:
        """Measurements that are taken once, of the trained network."""
        return {}

    @property
    def rule(self) -> Rule | Estimator | SolverLoss:
        """How the gradient passes."""
        return self.estimator or self.loss or self.layer.rule

    def solve(self, scores: Tensor, **instance: Tensor) -> Tensor:
        """The solutions of the layer; the rule's own loss and the gradient at the scores are noted.  # (B, *E) -> (B, *E)"""
        if self.training:
            scores = watch_gradient(scores, self.note_gradient)
        y = self.layer(scores, **instance)
        if self.training:
            self.auxiliary = self.layer.auxiliary_loss(scores, y, **instance)
        else:
            self.agreement = self.layer.agreement(scores, y, **instance).expand(len(scores))
        return y

    def compare(self, scores: Tensor, **known: Tensor) -> Tensor:
        """The loss in the place of the layer, which takes of what is known what it is taught by.  # (B, *E) -> (B,)"""
        assert self.loss is not None
        if self.training:
            scores = watch_gradient(scores, self.note_gradient)
        target = loss_target(type(self.loss))
        assert target is not None
        loss: Tensor = self.loss(scores, known[target])
        return loss

    def note_gradient(self, gradient: Tensor) -> None:
        """Take note of the gradient at the scores of a batch.  # (B, *E)"""
        self.meter.add("moved", gradient.flatten(1).any(1))

    # ---- what Lightning calls ----

    def configure_optimizers(self) -> Any:
        return self.configure_optimizers_for(self.parameters())

    def configure_optimizers_for(self, parameters: Iterable[Tensor]) -> Any:
        """The optimiser of these weights with its schedule, as Lightning wants them."""
        optimizer = self.make_optimizer(parameters)
        schedule = self.make_schedule(optimizer)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def make_optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """What moves the weights."""
        return torch.optim.Adam(parameters, lr=self.config.lr, fused=True)

    def make_schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler | None:
        """How the learning rate changes from step to step; None for not at all."""
        total = self.config.epochs * self.steps
        if not self.config.one_cycle or total < 3:
            return None
        rise = max(0.1, 2 / total)  # fewer than two steps are none to rise in, and would divide by zero
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, self.config.lr, total_steps=total, pct_start=rise)

    @property
    def steps(self) -> int:
        """Steps in an epoch; instances that do not fill a batch are left out."""
        return max(1, self.config.train_size // (self.config.batch * self.trainer.world_size))

    def train_dataloader(self) -> range:
        return range(self.steps)  # data are made, or already lie, on the training device: only their number is handed out

    def val_dataloader(self) -> range:
        return range(self.global_rank, -(-self.config.test_size // self.test_batch), self.trainer.world_size)

    @property
    def test_batch(self) -> int:
        """Without gradients a batch may be larger."""
        return min(4 * self.config.batch, -(-self.config.test_size // self.trainer.world_size))

    def on_fit_start(self) -> None:
        self.test_data = self.data("test")
        if not self.config.fresh:
            self.train_data = self.data("train")
        past = self.history[-1] if self.history else {"seconds": 0.0, "cpu_seconds": 0.0}
        self.clock = time.monotonic() - past["seconds"], time.process_time() - past["cpu_seconds"]

    def sample_in_batches(self, size: int, generator: torch.Generator) -> Batch:
        """`sample` in pieces that do not need much memory at a time."""
        parts = [self.sample(min(1024, size - start), generator) for start in range(0, size, 1024)]
        return tuple(torch.cat(column) for column in zip(*parts))

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Random numbers on the training device, the same for the same seed and purpose."""
        words = [int.from_bytes(str(word).encode(), "little") for word in purpose]
        entropy = np.random.SeedSequence([self.seed, *words]).generate_state(1, np.uint64)[0]
        return torch.Generator(self.device).manual_seed(int(entropy >> np.uint64(1)))

    def on_train_epoch_start(self) -> None:
        epoch = self.current_epoch
        torch.manual_seed(self.generator("rule", epoch, self.global_rank).initial_seed())  # what rules and noise draw
        self.stream = self.generator("fresh", epoch, self.global_rank)
        if not self.config.fresh:  # all devices shuffle alike, and each takes its own part
            order = torch.randperm(self.config.train_size, generator=self.generator("order", epoch), device=self.device)
            self.order = order[self.global_rank :: self.trainer.world_size]
        self.stopwatch.read()
        self.epoch_start = time.perf_counter()

    def training_step(self, step: int) -> Tensor:
        objective, loss, measured = self(*self.training_batch(step))
        self.meter.add_batch(loss, measured)
        return objective

    def training_batch(self, step: int) -> Batch:
        """The instances of a step."""
        size = self.config.batch
        if self.config.fresh:
            return self.sample(size, self.stream)
        return tuple(column[self.order[step * size : (step + 1) * size]] for column in self.train_data)

    def forward(self, *batch: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What is minimised, the loss in it, and measurements of the instances: a pure function of the weights."""
        self.auxiliary = torch.zeros((), device=self.device)
        loss, measured = self.measure(batch)
        auxiliary = self.auxiliary
        return loss + auxiliary, loss, measured | {"auxiliary_loss": auxiliary.expand(len(batch[0]))}

    def on_validation_epoch_start(self) -> None:
        spent = {"solver_seconds": self.stopwatch.read(), "train_seconds": time.perf_counter() - self.epoch_start}
        self.train_means = self.meter.means(self) | spent

    def validation_step(self, step: int) -> None:
        size = self.test_batch
        batch = tuple(column[step * size : (step + 1) * size] for column in self.test_data)
        self.agreement = torch.full((len(batch[0]),), torch.nan, device=self.device)
        loss, measured = self.measure(batch)
        self.meter.add_batch(loss, measured | {"agreement": self.agreement})

    def on_validation_epoch_end(self) -> None:
        self.note_epoch()
        self.log(self.headline, self.history[-1]["test"][self.headline], prog_bar=True)

    def note_epoch(self) -> None:
        """Close the record of an epoch."""
        test = {name: value for name, value in self.meter.means(self).items() if not np.isnan(value)}
        self.history.append(
            {
                "epoch": self.current_epoch + 1,
                "step": self.global_step,
                "seconds": time.monotonic() - self.clock[0],
                "cpu_seconds": time.process_time() - self.clock[1],
                "train": self.train_means,
                "test": test,
            }
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]

    # ---- results ----

    def metrics(self) -> dict[str, float]:
        """The measurements of the last epoch on unseen instances, and those of training that have no other."""
        last = self.history[-1]
        of_training = {name: last["train"][name] for name in ("auxiliary_loss", "moved") if name in last["train"]}
        if self.headline in last["train"]:
            of_training[f"train_{self.headline}"] = last["train"][self.headline]
        seconds, whole = (sum(record["train"][f"{of}_seconds"] for record in self.history) for of in ("solver", "train"))
        return {**last["test"], **of_training, "solver_seconds": seconds, "solver_share": seconds / whole, **self.finish()}
