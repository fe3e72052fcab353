"""Fits the bleeding meter's noise model for a world, on pictures that are not scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from clbench.backbones import RoundTrip
from clbench.effects import apply_operator
from clbench.images import reduce_to
from clbench.metrics.bleeding import BleedingMeter
from clbench.metrics.features import HandMade, to_side
from clbench.metrics.whitening import fit_noise, nuisance_residuals
from clbench.types import Effect, seed_from
from clbench.world import World

PICTURES, EFFECTS_PER_PICTURE, VARIANTS = 12, 8, 3
SPLIT = "distill"
"""Scenes for calibration come from this split, so no evaluation picture is among them."""


def fit_meter(world: World, scored: Sequence[str], round_trip: RoundTrip | None = None) -> BleedingMeter:
    """The meter of `world`, its noise fitted on other pictures than the sources `scored`.

    Scenes are drawn from another split; a folder of pictures gives those that are not scored, or, when it has too few,
    all of them. `round_trip` (pictures through the backbone's VAE) adds what the backbone does to a right answer.
    """
    space = HandMade()
    pictures = right_answers(world, scored)
    extra = []
    if round_trip is not None:
        returned = round_trip(pictures)
        extra = [to_tensor([p if r is None else r for p, r in zip(pictures, returned, strict=True)])]
    seeds = [[seed_from("calibration", number, k) for k in range(VARIANTS)] for number in range(len(pictures))]
    side = meter_side(world)
    answers, extra = to_side(to_tensor(pictures), side), [to_side(version, side) for version in extra]
    residuals = nuisance_residuals(answers, space.embed, seeds, extra=extra)
    return BleedingMeter(space, fit_noise(residuals, space.layout))


def round_trip_of(world: World) -> RoundTrip | None:
    """Pictures through the VAE of the world's backbone, a batch at a time; None where its folder is not there.

    Of a backbone named on a hub it is the snapshot whose commit is in the world's hash, so it is on this machine.
    """
    from clbench.backbones import hub_folder

    folder = world.backbone_path or hub_folder(str(world.backbone.hub), world.backbone.revision, local_only=True)
    if not (folder / "vae" / "config.json").is_file():
        return None
    from clbench.backbones.vae import open_vae

    return open_vae(folder, world.backbone)


def meter_side(world: World) -> int:
    """Side in px at which meter and subject score look at pictures: 64, or 32 in a world of smaller pictures.

    Nuisance is defined in pixels and features on fixed grids, so larger pictures are reduced first.
    """
    return 64 if world.resolution >= 64 else 32


def right_answers(world: World, scored: Sequence[str]) -> list[np.ndarray]:
    """Calibration pictures at the world's resolution: sources and some of their truths by known operators."""
    known = [effect for effect in world.effects.values() if effect.operator is not None]
    found = []
    for number, (image, mask) in enumerate(_sources(world, scored)):
        found.append(reduce_to(image, world.resolution))
        rng = np.random.default_rng(seed_from("calibration", number))
        usable = [effect for effect in known if mask is not None or effect.scope == "image"]
        for at in rng.permutation(len(usable))[:EFFECTS_PER_PICTURE]:
            found.append(reduce_to(_truth(usable[at], image, mask, number), world.resolution))
    return found


def to_tensor(pictures: Sequence[np.ndarray]) -> Tensor:
    """uint8 pictures (H, W, 3) -> float (N, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous().float() / 255


def _sources(world: World, scored: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray | None]]:
    table = world.table.sources
    if table.kind == "scenes":
        from clbench.scenes import load_pool, scene_of

        pool = load_pool(world.path(table.folder), SPLIT)
        scenes = [scene_of(pool, SPLIT, index, world.work_size) for index in range(PICTURES)]
        return [(scene.image, scene.mask) for scene in scenes]
    ids = [source.id for source in world.sources]
    others = [source_id for source_id in ids if source_id not in set(scored)]
    chosen = (others if len(others) >= PICTURES // 2 else ids)[:PICTURES]
    return [(world.source_image(source_id), world.mask(source_id)) for source_id in chosen]


def _truth(effect: Effect, image: np.ndarray, mask: np.ndarray | None, number: int) -> np.ndarray:
    known = np.zeros(image.shape[:2], np.float32) if mask is None else mask
    assert effect.operator is not None
    return apply_operator(effect.operator, image, known, seed_from("calibration", effect.id, number))
