"""An adapter under training: its parameters, its optimizer, and optionally its running average."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from reference_trainer.losses import NonFiniteError
from reference_trainer.networks import Backbone
from reference_trainer.processes import average_gradients


@dataclass(frozen=True)
class Later:
    """A second phase of a training, from update `start` on, with a learning rate of its own."""

    start: int
    lr: float


def learning_rate(base: float, update: int, warmup: int, decay_over: int | None, later: Later | None = None) -> float:
    """Linear warm-up over `warmup` updates; then constant, or a cosine to a tenth at update `decay_over`.

    A later phase begins with a warm-up of the same length, since its gradients are of another size than those that AdamW
    has seen. Where the rate decays, it does so in each phase by itself.
    """
    if later is not None and update >= later.start:
        return learning_rate(later.lr, update - later.start, warmup, None if decay_over is None else decay_over - later.start)
    if later is not None and decay_over is not None:
        decay_over = later.start
    if update < warmup:
        return base * (update + 1) / warmup
    if decay_over is None:
        return base
    progress = (update - warmup) / max(1, decay_over - warmup)
    return base * (0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, progress))))


class Learner:
    """AdamW (.9, .999) on one adapter of a backbone: `move` (and `step`, which ends in it) is the only place that trains.

    Weights are overwritten by `copy` and `restore` too, and by `averaged` until it is left.
    """

    def __init__(
        self,
        backbone: Backbone,
        name: str,
        lr: float,
        clip: float,
        warmup: int = 0,
        decay_over: int | None = None,
        weight_decay: float = 0.0,
        ema: float = 0.0,
        later: Later | None = None,
    ) -> None:
        self.name, self.lr, self.clip, self.warmup, self.decay_over = name, lr, clip, warmup, decay_over
        self.later = later
        self.parameters = backbone.parameters(name)
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()), lr=lr, betas=(0.9, 0.999), weight_decay=weight_decay, foreach=True
        )
        self.ema = ema
        self.average = {key: p.detach().clone() for key, p in self.parameters.items()} if ema else {}

    def step(self, loss: Tensor, update: int) -> float:
        """`move` by the gradients of `loss`."""
        self.clear()
        if loss.requires_grad:
            loss.backward()
        return self.move(update)

    def clear(self) -> None:
        """Drop the gradients: between updates they would only take memory."""
        self.optimizer.zero_grad(set_to_none=True)

    def move(self, update: int) -> float:
        """One update by the gradients that lie there, which are dropped; returns their norm before clipping.

        There are none where only other processes have rows that teach. NonFiniteError leaves the weights untouched.
        """
        try:
            return self._move(update)
        finally:
            self.clear()

    def _move(self, update: int) -> float:
        average_gradients(list(self.parameters.values()))
        parameters = [p for p in self.parameters.values() if p.grad is not None]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.clip))
        if not math.isfinite(norm):
            raise NonFiniteError(f"gradient norm of {self.name} is {norm}")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.lr, update, self.warmup, self.decay_over, self.later)
        self.optimizer.step()
        self._follow()
        return norm

    @torch.no_grad()
    def _follow(self) -> None:
        for key, value in self.average.items():
            value.lerp_(self.parameters[key], 1 - self.ema)

    def weights(self) -> dict[str, Tensor]:
        """What is exported: the running average where there is one, else the parameters."""
        source: Mapping[str, Tensor] = self.average or self.parameters
        return {key: value.detach().clone() for key, value in source.items()}

    def copy(self, other: Learner) -> None:
        """Take over the other's present parameters; the adapters must be of one shape."""
        self._write({key: p.detach().clone() for key, p in other.parameters.items()})

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the backbone carries the exported weights.

        Without an average it carries them anyway, and nothing is touched: merged weights that are kept for them stay valid.
        """
        if not self.average:
            yield
            return
        kept = {key: p.detach().clone() for key, p in self.parameters.items()}
        self._write(self.average)
        try:
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        for key, parameter in self.parameters.items():
            parameter.copy_(values[key])

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, flat, copied to the CPU: a device may have no room for it twice."""
        flat = {f"weight/{key}": aside(p) for key, p in self.parameters.items()}
        flat |= {f"average/{key}": aside(value) for key, value in self.average.items()}
        for key, parameter in self.parameters.items():
            for part, value in self.optimizer.state.get(parameter, {}).items():
                flat[f"adam/{part}/{key}"] = aside(value)
        return flat

    def restore(self, flat: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave, wherever those tensors are now: a checkpoint is read to the CPU."""
        self._write({key: flat[f"weight/{key}"] for key in self.parameters})
        self.average = {key: beside(self.parameters[key], flat[f"average/{key}"]) for key in self.average}
        for key, parameter in self.parameters.items():
            parts = [name.split("/")[1] for name in flat if name.startswith("adam/") and name.endswith(f"/{key}")]
            if parts:
                self.optimizer.state[parameter] = adam_state(parameter, {part: flat[f"adam/{part}/{key}"] for part in parts})


def aside(value: Tensor) -> Tensor:
    """A detached copy on the CPU."""
    return value.detach().to("cpu", copy=True)


def beside(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy of `value` on the parameter's device."""
    return value.to(parameter.device, copy=True)


def adam_state(parameter: Tensor, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """AdamW's state of one parameter from its stored parts: moments beside it, `step` on the CPU, where AdamW counts."""
    return {part: value.clone() if part == "step" else beside(parameter, value) for part, value in parts.items()}
