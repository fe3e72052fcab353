"""General edits with known targets: what a base model can do, and no effect of the catalogue.

They are what the tiny base is trained on, the general stream of the trainer (sources and instructions without
targets), and the neutral questions of the bleeding suite. Kinds marked random have many right answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from clbench.registry import Registry
from clbench.scenes import TINTS, Placement, Pool, Scene, SceneSpec, compose, draw_placement, with_article


@dataclass(frozen=True, slots=True)
class GeneralEdit:
    """One drawn edit of one scene: `target` is uint8 (H, W, 3), one right answer of perhaps many."""

    kind: str
    instruction: str
    target: np.ndarray


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of general edit. `weight` is its share in training; `random`: many right answers."""

    name: str
    weight: float
    random: bool
    draw: Callable[[Scene, Pool, np.random.Generator], tuple[str, np.ndarray]]


KINDS: Registry[Kind] = Registry("general edit")


def _kind(name: str, weight: float, random: bool = False):
    def add(draw: Callable[[Scene, Pool, np.random.Generator], tuple[str, np.ndarray]]) -> object:
        KINDS.add(name, Kind(name, weight, random, draw))
        return draw

    return add


def draw_edit(scene: Scene, pool: Pool, rng: np.random.Generator, kind: str | None = None) -> GeneralEdit:
    """Draw an edit of `scene` (of `kind`, or by the kinds' weights); needs a scene with one subject."""
    if kind is None:
        weights = np.array([KINDS.get(name).weight for name in KINDS])
        kind = KINDS.names()[int(rng.choice(len(weights), p=weights / weights.sum()))]
    instruction, target = KINDS.get(kind).draw(scene, pool, rng)
    return GeneralEdit(kind, instruction, target)


def _say(rng: np.random.Generator, *phrases: str) -> str:
    return phrases[int(rng.integers(len(phrases)))]


def _name(scene: Scene, pool: Pool, rng: np.random.Generator) -> str:
    """How a user calls the subject: mostly by name, sometimes generically."""
    name = pool.subjects[scene.spec.placements[0].subject].name
    return "subject" if rng.random() < 0.25 else name


def _scaled(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.clip(change(image.astype(np.float32) / 255) * 255 + 0.5, 0, 255).astype(np.uint8)


def _grey(image: np.ndarray) -> np.ndarray:
    return (image @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]


@_kind("identity", 0.05)
def _identity(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    return _say(rng, "keep the picture as it is", "do not change anything", "leave it unchanged"), scene.image.copy()


@_kind("brightness", 0.06)
def _brightness(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    if rng.random() < 0.5:
        return _say(rng, "make it brighter", "brighten the picture"), _scaled(scene.image, lambda x: x**0.6)
    return _say(rng, "make it darker", "darken the picture"), _scaled(scene.image, lambda x: x**1.7)


@_kind("contrast", 0.06)
def _contrast(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    if rng.random() < 0.5:
        return _say(rng, "increase the contrast", "more contrast"), _scaled(scene.image, lambda x: (x - 0.5) * 1.6 + 0.5)
    return _say(rng, "lower the contrast", "less contrast"), _scaled(scene.image, lambda x: (x - 0.5) * 0.5 + 0.5)


@_kind("saturation", 0.06)
def _saturation(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    if rng.random() < 0.5:
        phrase = _say(rng, "make the colours stronger", "more saturated colours")
        return phrase, _scaled(scene.image, lambda x: _grey(x) + (x - _grey(x)) * 1.8)
    phrase = _say(rng, "make the colours weaker", "less saturated colours")
    return phrase, _scaled(scene.image, lambda x: _grey(x) + (x - _grey(x)) * 0.4)


@_kind("warmth", 0.06)
def _warmth(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    if rng.random() < 0.5:
        phrase, gain = _say(rng, "make it warmer", "a warmer white balance"), (1.2, 1.02, 0.72)
    else:
        phrase, gain = _say(rng, "make it cooler", "a cooler white balance"), (0.75, 0.98, 1.2)
    return phrase, _scaled(scene.image, lambda x: x * np.array(gain, np.float32))


@_kind("mirror", 0.05)
def _mirror(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    return _say(rng, "mirror the picture", "flip it from left to right"), scene.image[:, ::-1].copy()


@_kind("shift", 0.06)
def _shift(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Move everything by an eighth of the side; the free edge is filled with its neighbours."""
    way, (dx, dy) = [("left", (-1, 0)), ("right", (1, 0)), ("up", (0, -1)), ("down", (0, 1))][int(rng.integers(4))]
    step = scene.image.shape[0] / 8
    matrix = np.array([[1, 0, dx * step], [0, 1, dy * step]], np.float32)
    size = scene.image.shape[1::-1]
    target = cv2.warpAffine(scene.image, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return _say(rng, f"shift the picture {way}", f"move everything {way}"), target


def _again(scene: Scene, pool: Pool, placements: tuple[Placement, ...], **changes: object) -> np.ndarray:
    spec = replace(scene.spec, placements=placements, **changes)  # type: ignore[arg-type]
    return compose(spec, pool, scene.image.shape[0]).image


@_kind("remove", 0.09)
def _remove(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    name = _name(scene, pool, rng)
    return _say(rng, f"remove the {name}", f"take the {name} away"), _again(scene, pool, ())


@_kind("move", 0.09)
def _move(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    name, old = _name(scene, pool, rng), scene.spec.placements[0]
    near, far = old.scale / 2, 1 - old.scale / 2
    places = {"left": (near, 0.5), "right": (far, 0.5), "top": (0.5, near), "bottom": (0.5, far), "centre": (0.5, 0.5)}
    way = list(places)[int(rng.integers(len(places)))]
    x, y = places[way]
    return f"move the {name} to the {way}", _again(scene, pool, (replace(old, x=x, y=y),))


@_kind("resize", 0.08)
def _resize(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    name, old = _name(scene, pool, rng), scene.spec.placements[0]
    if rng.random() < 0.5:
        return _say(rng, f"make the {name} smaller", f"shrink the {name}"), _again(scene, pool, (_sized(old, 0.6),))
    return _say(rng, f"make the {name} bigger", f"enlarge the {name}"), _again(scene, pool, (_sized(old, 1.4),))


def _sized(old: Placement, factor: float) -> Placement:
    """Larger or smaller around the same centre, kept inside the picture."""
    scale = min(old.scale * factor, 1.0)
    low, high = scale / 2, 1 - scale / 2
    return replace(old, scale=scale, x=float(np.clip(old.x, low, high)), y=float(np.clip(old.y, low, high)))


@_kind("recolour", 0.10)
def _recolour(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    name, tint = _name(scene, pool, rng), list(TINTS)[int(rng.integers(len(TINTS)))]
    phrase = _say(rng, f"make the {name} {tint}", f"paint the {name} {tint}")
    return phrase, _again(scene, pool, (replace(scene.spec.placements[0], tint=tint),))


@_kind("swap", 0.06)
def _swap(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    name, new = _name(scene, pool, rng), _other_subject(scene, pool, rng)
    phrase = f"replace the {name} with {with_article(pool.subjects[new].name)}"
    return phrase, _again(scene, pool, (replace(scene.spec.placements[0], subject=new, flip=False),))


@_kind("swap_any", 0.05, random=True)
def _swap_any(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    name, new = _name(scene, pool, rng), _other_subject(scene, pool, rng)
    phrase = f"replace the {name} with some {pool.subjects[new].category}"
    flip = bool(rng.random() < 0.5)
    return phrase, _again(scene, pool, (replace(scene.spec.placements[0], subject=new, flip=flip),))


@_kind("background", 0.05)
def _background(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    new = _other_background(scene.spec, pool, rng)
    phrase = f"change the background to {with_article(pool.backgrounds[new].name)}"
    return phrase, _again(scene, pool, scene.spec.placements, background=new, crop=(0.5, 0.5, 0.85), mirror=False)


@_kind("background_any", 0.06, random=True)
def _background_any(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    new = _other_background(scene.spec, pool, rng)
    crop = (float(rng.random()), float(rng.random()), float(rng.uniform(0.7, 1.0)))
    if rng.random() < 0.5:
        phrase = _say(rng, "change the background", "show another background")
    else:
        phrase = f"change the background to some {pool.backgrounds[new].category} place"
    mirror = bool(rng.random() < 0.5)
    return phrase, _again(scene, pool, scene.spec.placements, background=new, crop=crop, mirror=mirror)


@_kind("add", 0.06, random=True)
def _add(scene: Scene, pool: Pool, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    new = _other_subject(scene, pool, rng)
    placement = draw_placement(new, rng, crowd=2)
    return f"add {with_article(pool.subjects[new].name)}", _again(scene, pool, (*scene.spec.placements, placement))


def _other_subject(scene: Scene, pool: Pool, rng: np.random.Generator) -> str:
    names = [name for name in pool.subjects if name != scene.spec.placements[0].subject]
    return names[int(rng.integers(len(names)))]


def _other_background(spec: SceneSpec, pool: Pool, rng: np.random.Generator) -> str:
    names = [name for name in pool.backgrounds if name != spec.background]
    return names[int(rng.integers(len(names)))]


def instruction_corpus(pool: Pool) -> list[str]:
    """Sentences that cover every word of every kind's instructions for `pool` (for training a tokenizer)."""
    lines = [with_article(s.name) for s in pool.subjects.values()] + [with_article(b.name) for b in pool.backgrounds.values()]
    lines += [f"some {s.category}" for s in pool.subjects.values()] + [b.category for b in pool.backgrounds.values()]
    scene = compose(_plain_spec(pool), pool, 32)
    rng = np.random.default_rng(0)
    lines += [draw_edit(scene, pool, rng, kind).instruction for kind in KINDS for _ in range(60)]
    return lines


def _plain_spec(pool: Pool) -> SceneSpec:
    placement = Placement(next(iter(pool.subjects)), 0.5, 0.5, 0.5)
    return SceneSpec(next(iter(pool.backgrounds)), (0.5, 0.5, 1.0), (placement,))
