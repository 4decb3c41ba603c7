"""A progress bar that takes one line for a whole run."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from .report import readable


class OneLine(ProgressBar):
    """Epoch, steps, speed, time left, and the task's headline on unseen instances after the last epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.enabled = True
        self.bar: tqdm | None = None

    def disable(self) -> None:
        self.enabled = False  # Lightning asks for this on all devices but the first

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs, steps = trainer.max_epochs or 0, int(trainer.num_training_batches)
        self.bar = tqdm(
            total=epochs * steps,
            initial=trainer.current_epoch * steps,
            disable=not self.enabled,
            mininterval=0.2 if sys.stderr.isatty() else 20.0,  # a log file wants few lines
            dynamic_ncols=True,
            unit="step",
        )
        self._describe(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._describe(trainer)

    def on_train_batch_end(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.update()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def _describe(self, trainer: Trainer) -> None:
        if self.bar is None:
            return
        self.bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", refresh=False)
        headline = str(trainer.lightning_module.headline)
        known = trainer.callback_metrics.get(headline)
        if known is not None:
            self.bar.set_postfix_str(f"{headline.replace('_', ' ')} {readable(headline, float(known))}", refresh=False)
