"""Asymmetric orthogonal prompting: who sees which words, their embeddings, and how orthogonal they are.

A teacher sees the effect's own instruction; student and fake score see ``trigger caption`` (CollectionLoRA, AOP).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from diffusers import FluxKontextPipeline
from torch import Tensor

from clbench.backbones import open_backbone
from clbench.triggers import chosen_for
from clbench.types import Effect, PromptKind
from clbench.world import World


@dataclass(frozen=True)
class Prompts:
    """Embedded prompts: `tokens` ``(B, L, D)`` of the T5 encoder, `pooled` ``(B, P)`` of the CLIP encoder.

    They rest on the CPU in the dtype of the encoders; what a model sees comes by `to`, in float32.
    """

    tokens: Tensor
    pooled: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, index: Tensor) -> Prompts:
        return Prompts(self.tokens[index], self.pooled[index])

    def repeat(self, count: int) -> Prompts:
        """`count` copies of a single prompt."""
        return Prompts(self.tokens.expand(count, -1, -1), self.pooled.expand(count, -1))

    def to(self, device: torch.device | str) -> Prompts:
        """The same on `device` in float32."""
        return Prompts(self.tokens.to(device, torch.float32), self.pooled.to(device, torch.float32))

    @staticmethod
    def cat(parts: Sequence[Prompts]) -> Prompts:
        return Prompts(torch.cat([p.tokens for p in parts]), torch.cat([p.pooled for p in parts]))


def student_prompt(effect: Effect, style: PromptKind = "aop", wording: str = "{}") -> str:
    """``[v_i, c_i]`` (aop), the caption without trigger, or the teacher's instruction (the ablation without AOP).

    In another `wording` the caption (the instruction) stands where its ``{}`` is; the trigger stays in front.
    """
    words = wording.format(effect.instruction if style == "instruction" else effect.caption)
    return f"{effect.trigger} {words}" if style == "aop" else words


def with_triggers(
    world: World, effects: Sequence[Effect], choice: Literal["world", "chosen"], beside: Sequence[Effect] = ()
) -> list[Effect]:
    """The effects with the triggers that a student is to see: the world's own, or chosen by the world's text encoders.

    Chosen ones are also kept apart from the effects `beside` them, which keep theirs.
    """
    if choice == "world":
        return list(effects)
    chosen = chosen_for(effects, open_backbone(world).prompt_vectors, beside)
    return [replace(effect, trigger=trigger) for effect, trigger in zip(effects, chosen, strict=True)]


def wordings_fact(wordings: Sequence[str]) -> dict[str, str]:
    """The wordings as an adapter's header keeps them (``clbench.wordings``): JSON; nothing where there is the plain one alone."""
    return {"wordings": json.dumps(list(wordings))} if len(wordings) > 1 else {}


class PromptCache:
    """Prompt embeddings, made on `device`, each text encoded once (alone, so that a result never depends on its neighbours).

    The text encoders are on the device only while they work: asked for many prompts at once, they come and go once. What they
    make rests on the CPU: at real size one prompt takes megabytes, and a general stream has hundreds.
    """

    def __init__(
        self, pipeline: FluxKontextPipeline, length: int, negative: str = "", device: torch.device | str = "cpu"
    ) -> None:
        self._pipe = pipeline
        self.length, self.negative, self.device = length, negative, device
        self._known: dict[str, Prompts] = {}

    @torch.no_grad()
    def _encode(self, text: str) -> Prompts:
        tokens, pooled, _ = self._pipe.encode_prompt(text, max_sequence_length=self.length, device=torch.device(self.device))
        assert tokens is not None and pooled is not None
        return Prompts(tokens.cpu(), pooled.cpu())

    @contextmanager
    def _encoders_there(self) -> Iterator[None]:
        """Inside, the text encoders are on the device; then they rest on the CPU."""
        encoders = [self._pipe.text_encoder, self._pipe.text_encoder_2]
        try:
            for encoder in encoders:
                encoder.to(self.device)
            yield
        finally:
            for encoder in encoders:
                encoder.to("cpu")

    def _learn(self, texts: Sequence[str]) -> None:
        unknown = [text for text in dict.fromkeys(texts) if text not in self._known]
        if unknown:
            with self._encoders_there():
                self._known |= {text: self._encode(text) for text in unknown}

    def one(self, text: str) -> Prompts:
        """Embeddings of one prompt, batch 1."""
        self._learn([text])
        return self._known[text]

    def many(self, texts: Sequence[str]) -> Prompts:
        """Embeddings of several prompts in order."""
        self._learn(texts)
        return Prompts.cat([self._known[text] for text in texts])

    def unconditional(self) -> Prompts:
        """The embedding of the negative prompt (usually empty), the other side of guidance."""
        return self.one(self.negative)


def directions(prompts: Prompts) -> Tensor:
    """One unit vector per prompt ``(B, L D + P)``: tokens and pooled part, each of norm 1 before both are joined."""
    tokens = torch.nn.functional.normalize(prompts.tokens.flatten(1).double(), dim=1)
    pooled = torch.nn.functional.normalize(prompts.pooled.double(), dim=1)
    return torch.cat([tokens, pooled], dim=1) / 2**0.5


def gram(prompts: Prompts) -> Tensor:
    """Cosines between all prompts ``(B, B)``, 1 on the diagonal; the identity is perfect orthogonality."""
    unit = directions(prompts)
    return unit @ unit.T


def coherence(matrix: Tensor) -> float:
    """Mean absolute off-diagonal cosine of a Gram matrix: 0 is orthogonal, 1 is all the same."""
    n = len(matrix)
    if n < 2:
        return 0.0
    return float((matrix.abs().sum() - matrix.diagonal().abs().sum()) / (n * (n - 1)))
