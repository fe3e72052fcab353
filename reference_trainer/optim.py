"""The optimizer of pre-training: Muon for weight matrices and convolutions, AdamW for everything else and what is named.

Muon (Jordan et al. 2024) replaces the momentum of a matrix by its nearest semi-orthogonal matrix, found by a few
Newton-Schulz steps. `torch.optim.Muon` takes matrices only, so convolutions are laid flat here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from reference_trainer.learner import adam_state, aside, beside
from reference_trainer.losses import NonFiniteError

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """The polar factor of `matrix` (..., m, n), approximately: singular values end between about .7 and 1.2."""
    a, b, c = NEWTON_SCHULZ
    wide = matrix.shape[-2] <= matrix.shape[-1]
    x = matrix if wide else matrix.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


class Muon:
    """Orthogonalised momentum on parameters of two or more dimensions, laid out as (rows, the rest).

    Parameters of equal shape are stacked and orthogonalised in one batch of products.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], momentum: float = 0.95) -> None:
        self.parameters, self.momentum = dict(parameters), momentum
        self.buffers = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self._groups: dict[tuple[int, ...], list[str]] = {}
        for name, parameter in self.parameters.items():
            self._groups.setdefault(tuple(parameter.flatten(1).shape), []).append(name)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update of every parameter that has a gradient; the gradient is then dropped."""
        for (rows, columns), names in self._groups.items():
            moving = [name for name in names if self.parameters[name].grad is not None]
            if not moving:
                continue
            updates = torch.stack([self._nesterov(name).flatten(1) for name in moving])
            scale = lr * math.sqrt(max(1.0, rows / columns))
            for name, update in zip(moving, orthogonalize(updates), strict=True):
                parameter = self.parameters[name]
                parameter.add_(update.view_as(parameter), alpha=-scale)
                parameter.grad = None

    def _nesterov(self, name: str) -> Tensor:
        gradient, buffer = self.parameters[name].grad, self.buffers[name]
        assert gradient is not None
        buffer.lerp_(gradient, 1 - self.momentum)
        return gradient.lerp(buffer, self.momentum)


def trapezoid(update: int, updates: int, warmup: int, decay_share: float) -> float:
    """Share of the full learning rate: linear rise, plateau, linear fall to 0 over the last `decay_share`."""
    rise = min(1.0, (update + 1) / max(1, warmup))
    left = (updates - update) / max(1.0, decay_share * updates)
    return min(rise, 1.0, left)


class PretrainLearner:
    """All trainable parameters of some modules: Muon, AdamW and a running average; checkpointed whole.

    `adam_only` are fragments of names: a matrix whose name holds one of them goes to AdamW. They are meant for embeddings, first
    and last layers, whose rows are not one linear map, but match wherever they occur.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        lr: float,
        muon_lr: float,
        ema: float = 0.0,
        clip: float = 1.0,
        adam_only: Iterable[str] = (),
        weight_decay: float = 1e-4,
    ) -> None:
        named = {f"{m}.{n}": p for m, module in modules.items() for n, p in module.named_parameters() if p.requires_grad}
        matrix = {n: p for n, p in named.items() if p.ndim >= 2 and not any(f in n for f in adam_only)}
        rest = {n: p for n, p in named.items() if n not in matrix}
        self.named, self.rest, self.lr, self.muon_lr, self.ema, self.clip = named, rest, lr, muon_lr, ema, clip
        self.muon = Muon(matrix)
        self.adam = torch.optim.AdamW(list(rest.values()), lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay, foreach=True)
        self.average = {n: p.detach().clone() for n, p in named.items()} if ema else {}

    def step(self, loss: Tensor, share: float) -> float:
        """One update at `share` of the learning rates; returns the gradient norm. NonFiniteError changes nothing."""
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.named.values()), self.clip, foreach=True))
        if not math.isfinite(norm):
            raise NonFiniteError(f"gradient norm of pre-training is {norm}")
        self.adam.param_groups[0]["lr"] = self.lr * share
        self.adam.step()
        self.muon.step(self.muon_lr * share)
        self.adam.zero_grad(set_to_none=True)
        if self.average:
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.values()), list(self.named.values()), 1 - self.ema)
        return norm

    @torch.no_grad()
    def use_average(self) -> None:
        """Put the running average in the place of the weights (at the end of training)."""
        for name, value in self.average.items():
            self.named[name].copy_(value)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the modules carry the running average; what a sample sheet shows."""
        kept = {name: p.detach().clone() for name, p in self.named.items()}
        self.use_average()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in kept.items():
                    self.named[name].copy_(value)

    def tensors(self) -> dict[str, Tensor]:
        flat = {f"weight/{n}": aside(p) for n, p in self.named.items()}
        flat |= {f"average/{n}": aside(v) for n, v in self.average.items()}
        flat |= {f"momentum/{n}": aside(v) for n, v in self.muon.buffers.items()}
        for name, parameter in self.rest.items():
            flat |= {f"adam/{part}/{name}": aside(v) for part, v in self.adam.state.get(parameter, {}).items()}
        return flat

    @torch.no_grad()
    def restore(self, flat: Mapping[str, Tensor]) -> None:
        for name, parameter in self.named.items():
            parameter.copy_(flat[f"weight/{name}"])
        self.average = {name: beside(self.named[name], flat[f"average/{name}"]) for name in self.average}
        self.muon.buffers = {name: beside(self.named[name], flat[f"momentum/{name}"]) for name in self.muon.buffers}
        for name, parameter in self.rest.items():
            parts = {k.split("/")[1]: v for k, v in flat.items() if k.startswith("adam/") and k.endswith(f"/{name}")}
            if parts:
                self.adam.state[parameter] = adam_state(parameter, parts)
