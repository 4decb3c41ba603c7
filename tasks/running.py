"""One training run: its settings, its folder, and how it is started, resumed and finished."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from .report import read_json, write_json
from .specs import (
    SpecError,
    choose,
    make_noise,
    make_projection,
    make_rule,
    make_rule_or_estimator,
    make_rule_or_loss,
    parse_value,
    split_specs,
)

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer

    from solverlayers.estimators import Estimator
    from solverlayers.losses import SolverLoss
    from solverlayers.rules import Rule

    from .base import Task

TASKS = {
    "sorting": "Sorting",
    "sorting_digits": "SortingDigits",
    "autoencoder": "Autoencoder",
    "classification": "Classification",
    "shortest_path": "ShortestPath",
    "polynomial": "Polynomial",
    "graph_matching": "GraphMatching",
    "vae": "VAE",
    "subset_vae": "SubsetVAE",
}
"""The module of each task in this package, and its class there."""


@dataclass(frozen=True)
class Run:
    """What makes a run the run it is; kept in `run.json`. All but the seed are as typed on the command line."""

    task: str
    rule: str
    projection: str | None
    noise: str | None
    preset: str
    seed: int
    config: dict[str, Any]
    swept: str | None = None  # the setting in which it differs from the other runs of a sweep, as typed

    @classmethod
    def make(
        cls,
        task: str,
        rule: str | None = None,
        projection: str | None = None,
        noise: str | None = None,
        preset: str | None = None,
        seed: int | None = None,
        settings: list[str] | None = None,
        swept: str | None = None,
    ) -> Run:
        """Settings from names and `field=value` strings; raises SpecError with the valid ones for any other.

        `swept` holds more such strings, in which the field may also be `preset`, `projection` or `noise`.
        """
        for part in split_specs(swept) if swept else ():
            field, _, value = part.partition("=")
            if field == "projection":
                projection = value
            elif field == "noise":
                noise = value
            elif field == "preset":
                preset = value
            else:
                settings = [*(settings or []), part]
        if not 0 <= (seed or 0) < 2**32:
            raise SpecError(f"--seed {seed}: a seed is a whole number from 0 to {2**32 - 1}.")
        task = choose("task", task, TASKS)
        kind = task_class(task)
        preset = choose("preset", "quick" if preset is None else preset, kind.presets)
        config = changed(kind.presets[preset], settings or [])
        rule = _tidy(kind.default_rule if rule is None else rule)
        noise = _tidy(noise) if noise is not None and make_noise(noise) else None
        run = cls(task, rule, make_projection(projection), noise, preset, seed or 0, config, swept)
        run.build()  # a rule that does not go with the solver is refused here, not after the data are made
        return run

    def updated(
        self,
        task: str,
        rule: str | None,
        projection: str | None,
        noise: str | None,
        preset: str | None,
        seed: int | None,
        settings: list[str],
    ) -> Run:
        """This run with the settings that are not None."""
        settings = [f"{key}={value!r}" for key, value in self.config.items()] + settings
        run = Run.make(
            task,
            self.rule if rule is None else rule,
            self.projection if projection is None else projection,
            self.noise if noise is None else noise,
            self.preset if preset is None else preset,
            self.seed if seed is None else seed,
            settings,
        )
        return dataclasses.replace(run, swept=self.swept)

    @property
    def label(self) -> str:
        """The run among others, whatever its seed."""
        return f"{self.rule}, {self.swept}" if self.swept else self.rule

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        shown_anyway = ("projection=", "noise=", "preset=")
        swept = [part for part in split_specs(self.swept) if not part.startswith(shown_anyway)] if self.swept else []
        preset = None if self.preset == "quick" else self.preset
        parts = [self.rule, *swept, self.projection, self.noise, preset, f"seed{self.seed}"]
        return "-".join(re.sub(r"[^a-z0-9.=]+", "-", re.sub("['\"]", "", part.lower())).strip("-") for part in parts if part)

    def build(self) -> Task:
        """The untrained module; raises SpecError where rule, projection and solver do not go together."""
        kind = task_class(self.task)
        config = dataclasses.replace(kind.presets[self.preset], **self.config)
        shape = kind.shape(config)
        rule: Rule | Estimator | SolverLoss
        if kind.takes_losses:
            rule = make_rule_or_loss(self.rule, shape, kind.make_solver(config))
        elif kind.takes_estimators:
            rule = make_rule_or_estimator(self.rule, shape, partial(kind.surrogate, config))
        else:
            rule = make_rule(self.rule, shape)
        try:
            return kind(config, rule, self.projection, make_noise(self.noise), self.seed)
        except (ValueError, TypeError) as error:
            raise SpecError(str(error)) from error

    def save(self, folder: Path) -> None:
        """Write `run.json`, from which the run can be resumed."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "run.json", dataclasses.asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Run:
        """The run whose folder it is."""
        file = folder / "run.json"
        if not file.exists():
            raise SpecError(f"{folder} holds no run to resume (there is no run.json in it).")
        stored = read_json(file, [field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING])
        stored["config"] = {key: tuple(v) if isinstance(v, list) else v for key, v in stored["config"].items()}
        return cls(**stored)


@dataclass(frozen=True)
class Hardware:
    """What Lightning's Trainer is told about devices."""

    devices: str = "1"
    num_nodes: int = 1
    strategy: str = "auto"
    progress: bool = True


def task_class(name: str) -> type[Task]:
    """The class of a task; Lightning is imported here and not before."""
    with quiet():
        module = importlib.import_module(f".{name}", __package__)
    return getattr(module, TASKS[name])


def changed(preset: Any, settings: list[str]) -> dict[str, Any]:
    """All settings of a preset after `field=value` changes, each checked against the type of its field."""
    hints = get_type_hints(type(preset))
    values = {}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals:
            raise SpecError(f"cannot read --set {setting!r}; write field=value, such as epochs=5.")
        field = choose("setting", field, hints)
        values[field] = parse_value(f"setting {field}", text, hints[field])
    try:
        return dataclasses.asdict(dataclasses.replace(preset, **values))
    except ValueError as error:
        raise SpecError(str(error)) from error


def newest_folder(root: Path, name: str) -> Path:
    """The folder of the last run of that name."""
    folders = _numbered(root, name)
    if not folders:
        raise SpecError(f"{root / name} holds no run to resume (there is no run.json in it).")
    return folders[max(folders)]


def unused_folder(root: Path, name: str) -> Path:
    """A folder that no run of that name has used: NAME, NAME-2, NAME-3, ..."""
    last = max(_numbered(root, name), default=0)
    return root / (f"{name}-{last + 1}" if last else name)


def _numbered(root: Path, name: str) -> dict[int, Path]:
    found = {p.parent: re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", p.parent.name) for p in root.glob("*/run.json")}
    return {int(match[1] or 1): folder for folder, match in found.items() if match}


def is_finished(folder: Path) -> bool:
    """Whether a run came to its end there: the result is the last thing that is written."""
    return (folder / "result.json").exists()


def is_main_process() -> bool:
    """Whether this process writes and prints, and does not merely drive a further device."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def train(run: Run, folder: Path, hardware: Hardware) -> Task | None:
    """Train, or go on from the last checkpoint of the folder. The trained module, or None on all but the first device."""
    return _fit(run, folder, hardware, lambda: _seeded(run))


def train_together(runs: Sequence[Run], folder: Path, hardware: Hardware) -> list[Task] | None:
    """`train` for runs that differ by their seeds alone, as one stacked model; the folder holds its checkpoints."""
    from .together import Together

    together = _fit(runs[0], folder, hardware, lambda: Together([_seeded(run) for run in runs]))
    return None if together is None else together.members


def _seeded(run: Run) -> Task:
    import torch

    torch.manual_seed(run.seed)  # a run among others has the weights that it would have alone
    task = run.build()
    task.start()
    return task


Module = TypeVar("Module", bound="LightningModule")


def _fit(run: Run, folder: Path, hardware: Hardware, build: Callable[[], Module]) -> Module | None:
    from lightning.pytorch import seed_everything

    last = folder / "checkpoints" / "last.ckpt"
    if last.exists() and not (folder / "run.json").exists():
        raise SpecError(f"{folder} holds checkpoints but no run.json, so nobody knows whose they are; choose another folder.")
    if last.exists() and not zipfile.is_zipfile(last):  # half a file
        raise SpecError(f"{last} is damaged, as by a disk that was full. Remove it, and the run begins anew.")
    with quiet():
        if is_main_process():
            run.save(folder)
        seed_everything(run.seed, verbose=False)
        module = build()
        trainer = _trainer(run, folder, hardware)
        try:
            trainer.fit(module, ckpt_path=str(last) if last.exists() else None)
        except SystemExit:  # so Lightning ends on SIGINT and SIGTERM: without a word, on the latter as if all were well
            raise KeyboardInterrupt from None
    if trainer.interrupted:
        raise KeyboardInterrupt
    return module.eval() if trainer.is_global_zero else None


def _trainer(run: Run, folder: Path, hardware: Hardware) -> Trainer:
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Trainer

    try:
        return Trainer(
            accelerator="auto",
            devices=int(hardware.devices) if re.fullmatch(r"-?\d+", hardware.devices) else hardware.devices,
            num_nodes=hardware.num_nodes,
            strategy=hardware.strategy,
            max_epochs=run.config["epochs"],
            logger=False,
            callbacks=_callbacks(folder, hardware.progress),
            enable_progress_bar=hardware.progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise SpecError(f"--devices {hardware.devices} --strategy {hardware.strategy}: {error}") from error


def _callbacks(folder: Path, progress: bool) -> list[Callback]:
    from lightning.pytorch.callbacks import ModelCheckpoint

    from .progress import OneLine

    checkpoint = ModelCheckpoint(
        folder / "checkpoints", filename="last", enable_version_counter=False, save_on_train_epoch_end=True, every_n_epochs=1
    )
    return [checkpoint, OneLine()] if progress else [checkpoint]


class quiet(warnings.catch_warnings):
    """Keep what Lightning says about itself off the terminal; warnings of ours and of torch still pass."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=r"lightning(\.|$)")
        return entered


def _tidy(spec: str) -> str:
    return re.sub(r"\s+", " ", spec.strip())
