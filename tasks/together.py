"""Several seeds of a task as one model: their weights are stacked, and one step of it is a step of each.

The mathematics of a seed is that of a run alone; the noise that rules draw is not, because all seeds draw from one stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from .base import Meter, Task


def _laid_out(stacked: Tensor) -> nn.Parameter:
    """Matrices lie transposed in memory: so their gradients come from `vmap`, which would else copy them in every step."""
    values = stacked.detach()
    return nn.Parameter(values.mT.contiguous().mT if values.ndim == 3 else values, stacked.requires_grad)


class Together(LightningModule):
    """The tasks, which must differ by their seeds alone. They train as one model, and are tested and drawn one by one."""

    def __init__(self, members: Sequence[Task]):
        super().__init__()
        self.registered = nn.ModuleList(members)
        stacked, buffers = stack_module_state(list(members))
        self.stacked = nn.ParameterList(map(_laid_out, stacked.values()))
        self.names = list(stacked), list(buffers)
        for index, buffer in enumerate(buffers.values()):
            self.register_buffer(f"stacked_buffer{index}", buffer)
        self.registered.requires_grad_(False)  # the stacked weights learn; members take them over when they are tested
        self.first.note_gradient = self._note_gradients  # type: ignore[method-assign]
        self.meter = Meter()
        self.config, self.headline = self.first.config, self.first.headline

    @property
    def members(self) -> list[Task]:
        """The tasks, one for each seed."""
        return [cast(Task, member) for member in self.registered]

    @property
    def first(self) -> Task:
        """The member whose structure all the others share."""
        return self.members[0]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The stacked parameters and buffers by their names in a member."""
        parameters, buffers = self.names
        stored = (self.get_buffer(f"stacked_buffer{index}") for index in range(len(buffers)))
        return dict(zip(parameters, self.stacked)), dict(zip(buffers, stored))

    def spread(self) -> None:
        """Give every member its weights."""
        parameters, buffers = self.state()
        for index, member in enumerate(self.members):
            member.load_state_dict({name: value[index] for name, value in {**parameters, **buffers}.items()}, strict=False)

    def _note_gradients(self, gradient: Tensor) -> None:  # (S, B, *E)
        self.meter.add("moved", gradient.flatten(2).any(2))

    # ---- what Lightning calls ----

    def setup(self, stage: str) -> None:
        for member in self.members:
            member.trainer = self.trainer

    def configure_optimizers(self) -> Any:
        return self.first.configure_optimizers_for(self.stacked)

    def train_dataloader(self) -> range:
        return self.first.train_dataloader()

    def val_dataloader(self) -> range:
        return self.first.val_dataloader()

    def on_fit_start(self) -> None:
        for member in self.members:
            member.on_fit_start()

    def on_train_epoch_start(self) -> None:
        for member in reversed(self.members):  # the first one last: its seed is that of what rules draw
            member.train().on_train_epoch_start()

    def training_step(self, step: int) -> Tensor:
        batch = (torch.stack(column) for column in zip(*(member.training_batch(step) for member in self.members)))

        def objective(parameters: dict, buffers: dict, *batch: Tensor) -> tuple:
            return functional_call(self.first, (parameters, buffers), batch)

        objectives, losses, measured = vmap(objective, randomness="different")(*self.state(), *batch)
        self.meter.add_batch(losses, measured)
        return objectives.sum()

    def on_validation_epoch_start(self) -> None:
        self.spread()
        self.meter.share([member.meter for member in self.members])
        for member in self.members:
            member.eval().on_validation_epoch_start()
            member.train_means["solver_seconds"] = self.first.train_means["solver_seconds"]  # the first one's solver served all

    def validation_step(self, step: int) -> None:
        for member in self.members:
            member.validation_step(step)

    def on_validation_epoch_end(self) -> None:
        for member in self.members:
            member.note_epoch()
        headline = [member.history[-1]["test"][self.headline] for member in self.members]
        self.log(self.headline, sum(headline) / len(headline), prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = [member.history for member in self.members]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for member, history in zip(self.members, checkpoint["history"]):
            member.history = history
