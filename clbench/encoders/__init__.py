"""The one room that loads metric weights: CLIP by open_clip, perceptual networks by stlpips_pytorch and lpips.

Everything is checked before any work: a missing weight is one ClbenchError that names the file or the package
that would mend it. With ``HF_HUB_OFFLINE=1`` no network is tried. Networks come back in eval mode and without gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from clbench.encoders.clip import OpenClip, open_clip_encoder
from clbench.encoders.common import EncoderCard, in_passes, is_offline, rows_of_pass
from clbench.encoders.perceptual import PERCEPTUAL_NAMES, LpipsNetwork, open_perceptual
from clbench.metrics import METRICS

if TYPE_CHECKING:
    from torch import Tensor

    from clbench.metrics.similarity import PerceptualNetwork
    from clbench.world import World

__all__ = [
    "PERCEPTUAL_NAMES", "ClipEncoder", "EncoderCard", "Encoders", "LpipsNetwork", "OpenClip", "check_encoders", "in_passes",
    "is_offline", "open_clip_encoder", "open_encoders", "open_perceptual", "rows_of_pass",
]  # fmt: skip


class ClipEncoder(Protocol):
    """Pictures and texts in one space; rows are unit vectors."""

    card: EncoderCard

    def embed_image(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, D)."""
        ...

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """N texts -> (N, D)."""
        ...


@dataclass(frozen=True, slots=True)
class Encoders:
    """The networks a suite needs; None where the world names none."""

    perceptual: PerceptualNetwork | None
    clip: ClipEncoder | None

    def cards(self) -> dict[str, EncoderCard]:
        """Role -> card of every network that is there."""
        found = {"perceptual": self.perceptual, "clip": self.clip}
        return {role: network.card for role, network in found.items() if network is not None}  # type: ignore[attr-defined]


def open_encoders(world: World, metrics: Iterable[str] | None = None, device: str = "cpu") -> Encoders:
    """Load the networks that `metrics` (None: all) need in `world`.

    A world may name no network (an empty string): its metrics are then unscored. One that is named but cannot be
    loaded raises ClbenchError.
    """
    needs = set().union(*(METRICS.get(name).needs for name in (METRICS if metrics is None else metrics)))
    names = world.encoders
    perceptual = open_perceptual(names.perceptual, world.root, device) if "perceptual" in needs and names.perceptual else None
    clip = open_clip_encoder(names.clip, world.root, device) if "clip" in needs and names.clip else None
    return Encoders(perceptual, clip)


def check_encoders(world: World) -> str:
    """Load everything the world names and say what it is, and what it does not name; ClbenchError if something is missing."""
    cards = open_encoders(world).cards()
    there = [f"{role}: {card.name} ({card.sha256[:12]})" for role, card in cards.items()]
    lacking = [f"no {role}: its metrics are not scored" for role in ("perceptual", "clip") if role not in cards]
    return ", ".join([*there, *lacking])
