"""One frozen backbone; Teacher, Student and FakeScore are adapters over it.

Parameters live in peft LoRA layers put there by diffusers' `add_adapter`, so what is trained here is what the
stock pipeline loads. Inside `Backbone.predict` each of those layers takes its path from one shared plan: which
rows of the batch belong to which adapter. A batch can mix any number of frozen adapters and the plain base in
one forward pass; a pass with gradient belongs to one role alone.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from jaxtyping import Float, Int
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clbench.adapters import describe_adapter, load_tensors
from clbench.attaching import check_adapter, lora_config
from clbench.registry import ClbenchError
from reference_trainer.lora_forward import Group, LoraForward, Paths, groups_of
from reference_trainer.lora_modules import Modules, target_modules
from reference_trainer.precision import Precision, training_precision
from reference_trainer.predicting import Inputs
from reference_trainer.resting import Resting


class Backbone:
    """The frozen transformer, its adapters, and the one way to run them.

    `shapes` are the ``(out, in)`` of its linear layers by name.

    `image_ids` are the ``(2 T, 3)`` ids of noisy and source latents, `text_length` the number of prompt tokens,
    `embedded_guidance` the value for models with a guidance embedding, `precision` that of the matrix products.
    `lora_forward` chooses how a layer adds its adapter: ``merged`` forms W + s B A first (faster where tokens
    outnumber the width, as in the tiny world), ``low-rank`` adds s B (A x) (smaller, for large models). Both give
    the same numbers up to rounding. So does `rows`, the most rows of one pass without gradient (None: all), and so does
    `checkpoint_blocks`, which lets a pass with gradient keep the inputs of blocks alone and compute the rest again backwards.
    The transformer may be in bfloat16 where `precision` is and adapters are low-rank; frozen ones are then in bfloat16 too, those
    in training in float32.
    """

    def __init__(
        self,
        transformer: FluxTransformer2DModel,
        image_ids: Float[Tensor, "ids 3"],
        text_length: int,
        lora_forward: LoraForward = "merged",
        embedded_guidance: float = 1.0,
        precision: Precision = "float32",
        rows: int | None = None,
        checkpoint_blocks: bool = False,
    ) -> None:
        self.transformer = transformer.requires_grad_(False).eval()
        self.device = transformer.device
        self.image_ids = image_ids.to(self.device)
        self.text_ids = torch.zeros(text_length, 3, device=self.device)
        self.paths = Paths(lora_forward)
        self.embedded_guidance = embedded_guidance
        self.precision: Precision = precision
        self.rows = rows
        if checkpoint_blocks:
            self.transformer.enable_gradient_checkpointing(self._checkpointed)
        linear = {name: module for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}
        self.shapes: Mapping[str, tuple[int, ...]] = {name: tuple(module.weight.shape) for name, module in linear.items()}
        self._layers: dict[str, LoraLayer] = {}
        self._resting = Resting(self.device)

    # ---- adapters ---------------------------------------------------------------------------------------------
    def add(self, name: str, config: LoraConfig, trainable: bool) -> None:
        """Put a new adapter over the backbone; its weights are undefined until `reset` or `load`."""
        before = {p: p.requires_grad for p in self.transformer.parameters()}
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # peft draws from the global generator
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            self.transformer.add_adapter(config, name)
        self._layers = {n: m for n, m in self.transformer.named_modules() if isinstance(m, LoraLayer)}
        for parameter in self.transformer.parameters():
            parameter.requires_grad_(before.get(parameter, False))
        for parameter in self.parameters(name).values():
            if trainable:  # peft gives it the base's dtype, in which a step of the optimizer would be lost
                parameter.data = parameter.data.float()
            parameter.requires_grad_(trainable)

    def add_new(self, name: str, rank: int, alpha: float, modules: Modules, generator: torch.Generator) -> None:
        """A fresh trainable adapter of the given rank."""
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]  # peft accepts floats
            lora_dropout=0.0,
            target_modules=target_modules(self.transformer, modules),
        )
        self.add(name, config, trainable=True)
        self.reset(name, generator)

    @torch.no_grad()
    def reset(self, name: str, generator: torch.Generator) -> None:
        """Start the adapter anew as peft does: A uniform (Kaiming, a = sqrt 5) from `generator`, B zero."""
        for key, parameter in self.parameters(name).items():
            if "lora_A" in key:
                bound = parameter.shape[1] ** -0.5
                parameter.copy_(torch.rand(parameter.shape, generator=generator) * 2 * bound - bound)
            else:
                parameter.zero_()

    def add_frozen(self, name: str, path: Path, rests_on: torch.device | str | None = None) -> None:
        """A finished adapter from a LoRA file; ClbenchError naming the file unless every key applies.

        Where it `rests_on` another device than the backbone's, each layer fetches its factors for every pass. ValueError for
        merged weights, which would stay on the backbone's.
        """
        if rests_on is not None and self.paths.way == "merged":
            raise ValueError("adapters that rest elsewhere are added low-rank: their merged weights would stay here")
        info = describe_adapter(path)
        check_adapter(info, self.shapes, "this backbone")
        # whole names: of a list peft takes ends, and the last layer's "proj_out" is also that of every single block
        whole = "|".join(re.escape(module) for module in sorted(info.shapes))
        self.add(name, LoraConfig(**{**lora_config(info), "target_modules": whole}), trainable=False)
        self.load(name, load_tensors(info), str(path))
        if rests_on is not None:
            self._resting.rest(name, self._layers.values(), rests_on)

    def at_hand(self, name: str | None) -> AbstractContextManager[None]:
        """Inside, an adapter that rests elsewhere is on the backbone's device, for many passes in a row."""
        return self._resting.at_hand(name, self._layers.values())

    def parameters(self, name: str) -> dict[str, nn.Parameter]:
        """The adapter's own parameters by their key in a file (``<module>.lora_A.weight``)."""
        tail = f".{name}.weight"
        found = {
            key.removesuffix(tail) + ".weight": parameter
            for key, parameter in self.transformer.named_parameters()
            if key.endswith(tail) and ".lora_" in key
        }
        if not found:
            raise ClbenchError(f"the backbone has no adapter called '{name}'")
        return found

    def state(self, name: str) -> dict[str, Float[Tensor, "_ _"]]:
        """A detached copy of the adapter's parameters."""
        return {key: parameter.detach().clone() for key, parameter in self.parameters(name).items()}

    @torch.no_grad()
    def load(self, name: str, state: Mapping[str, Float[Tensor, "_ _"]], origin: str) -> None:
        """Overwrite the adapter's parameters; ClbenchError unless keys and shapes are the same."""
        mine = self.parameters(name)
        odd = sorted(set(mine) ^ set(state))
        if odd:
            raise ClbenchError(f"{origin} does not fit this backbone: {len(odd)} keys differ, the first is '{odd[0]}'")
        for key, parameter in mine.items():
            if parameter.shape != state[key].shape:
                raise ClbenchError(
                    f"{origin} does not fit this backbone: '{key}' has shape {tuple(state[key].shape)}, "
                    f"expected {tuple(parameter.shape)}"
                )
            parameter.copy_(state[key])

    def config(self, name: str) -> LoraConfig:
        return self.transformer.peft_config[name]

    # ---- forward ----------------------------------------------------------------------------------------------
    def predict(self, inputs: Inputs, adapters: str | Sequence[str | None] | None) -> Float[Tensor, "b t c"]:
        """Velocities ``(B, T, C)`` of one adapter, or of one adapter per sample (None = plain base).

        With gradient enabled all samples must belong to one adapter, so that a gradient reaches one role only.
        """
        names = [adapters] * len(inputs) if adapters is None or isinstance(adapters, str) else list(adapters)
        if len(names) != len(inputs):
            raise ValueError(f"{len(names)} adapters for {len(inputs)} samples")
        if torch.is_grad_enabled() and len(set(names)) > 1:
            raise ValueError("a pass with gradient must belong to one role, got a mix of adapters")
        order = sorted(range(len(names)), key=lambda i: names[i] or "")
        groups = groups_of([names[i] for i in order])
        size = len(names) if self.rows is None or torch.is_grad_enabled() else self.rows
        if len(groups) == 1 and len(names) <= size:
            return self._forward(inputs, groups)
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        made = [self._forward(inputs.take(self._index(part)), groups_of([names[i] for i in part])) for part in parts]
        return torch.cat(made)[torch.argsort(self._index(order))]

    def _index(self, rows: Sequence[int]) -> Int[Tensor, " r"]:
        return torch.tensor(rows, device=self.device)

    def _forward(self, inputs: Inputs, groups: list[Group]) -> Float[Tensor, "b t c"]:
        guidance = None
        if self.transformer.config["guidance_embeds"]:
            guidance = torch.full((len(inputs),), self.embedded_guidance, device=self.device)
        with self.paths.routed(self._layers, groups), training_precision(self.precision, self.device.type):
            out = self.transformer(
                hidden_states=torch.cat([inputs.noisy, inputs.source], dim=1),
                timestep=told_times(inputs.time, self.transformer.dtype),
                guidance=guidance,
                pooled_projections=inputs.prompts.pooled,
                encoder_hidden_states=inputs.prompts.tokens,
                txt_ids=self.text_ids,
                img_ids=self.image_ids,
                return_dict=False,
            )[0]
        return out[:, : inputs.noisy.shape[1]].to(inputs.noisy.dtype)

    def _checkpointed(self, block: nn.Module, *given: object) -> tuple[Float[Tensor, "b _ d"], ...]:
        """The block's outputs; its inner values are computed again in the backward pass, by the plan of this pass."""
        plan = self.paths.plan

        def run(*values: object) -> tuple[Float[Tensor, "b _ d"], ...]:
            if self.paths.plan is plan:
                return block(*values)
            with self.paths.routed(self._layers, plan), training_precision(self.precision, self.device.type):
                return block(*values)

        return checkpoint(run, *given, use_reentrant=False)


def told_times(time: Float[Tensor, " b"], held: torch.dtype) -> Float[Tensor, " b"]:
    """The times as the stock pipeline tells them to a transformer whose weights are `held`: rounded as its 1000 t and t are."""
    return time if held == torch.float32 else (1000 * time).to(held) / 1000
