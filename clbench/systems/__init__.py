"""Systems under test: one visible list of names, and how each is opened. Loads no heavy library itself.

``base``, ``teacher``, ``cascade``, ``collection`` (the world's first candidate; another one is
``collection-<name>``), what a user would try instead (``teacher-few``, ``joint``, ``merged-<method>``; the last two
also with ``+accelerator``), ``folder`` (pictures made elsewhere), and the controls ``truth``, ``identity``,
``wrong-effect``, ``noise-floor`` and ``reseed``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from clbench.backbones import Backbone, RoundTrip, backbone_folder, open_backbone
from clbench.merging import METHODS
from clbench.registry import ClbenchError, Registry, suggestion
from clbench.types import Case, System
from clbench.world import World
from clbench.world_adapters import AdapterTable, Lack


@dataclass
class Bench:
    """What systems are opened with: the world, the effects of the suite, and (folder) where the pictures are.

    A folder without a picture that is asked for has failed edits, with `strict` it is refused; one with an unreadable picture is
    refused, with `skip_bad` it has failed edits.
    """

    world: World
    effects: Sequence[str]
    images: Path | None = None
    strict: bool = False
    skip_bad: bool = False
    _opened: list[Backbone] = field(default_factory=list, repr=False)
    _general: dict[tuple[str, str, int], str] = field(default_factory=dict, repr=False)

    @property
    def backbone(self) -> Backbone:
        """The world's backbone, loaded on first use and shared by all systems."""
        if not self._opened:
            self._opened.append(open_backbone(self.world))
        return self._opened[0]

    @cached_property
    def round_trip(self) -> RoundTrip:
        """Pictures through the backbone's VAE, which is loaded alone, on first use."""
        from clbench.backbones.vae import open_vae

        return open_vae(backbone_folder(self.world), self.world.backbone)

    def general_instruction(self, case: Case) -> str:
        """What a neutral case asks for: drawn once for all systems, since with the words its right answer is painted."""
        key = case.effect, case.source, case.seed
        if key not in self._general:
            from clbench.neutral import neutral_edit

            self._general[key] = neutral_edit(self.world, case).instruction
        return self._general[key]

    @property
    def in_use(self) -> bool:
        """Whether the backbone has been loaded."""
        return bool(self._opened)

    @cached_property
    def base_shapes(self) -> dict[str, tuple[int, ...]]:
        """Module shapes of the transformer, read from headers so that adapters are checked early."""
        from clbench.attaching import base_shapes
        from clbench.backbones import backbone_folder

        return base_shapes(backbone_folder(self.world) / "transformer")


Opener = Callable[[Bench, str], System]
SYSTEMS: Registry[Opener] = Registry("system")
MERGED, ACCELERATED = "merged-", "+accelerator"
ABOUT = {
    "base": "the frozen base model with the effect's instruction, no adapter",
    "teacher": "base + the effect's own LoRA, full steps, guidance",
    "cascade": "base + the effect's LoRA + the accelerator LoRA, few steps",
    "collection": "base + one LoRA for all effects, trigger and caption, few steps",
    "teacher-few": "base + the effect's own LoRA, few steps, everything else as teacher",
    "joint": "base + one LoRA trained on all pairs of all effects, trigger and caption, full steps, guidance",
    "joint+accelerator": "base + the joint LoRA + the accelerator LoRA, few steps",
    **{MERGED + m: f"base + all teachers in one LoRA by peft's {m}, full steps, guidance" for m in METHODS},
    **{MERGED + m + ACCELERATED: f"{MERGED}{m} joined with the accelerator in one LoRA, few steps" for m in METHODS},
    "folder": "pictures made elsewhere (--images DIR)",
    "truth": "control: another draw of the true picture",
    "identity": "control: the source, untouched",
    "wrong-effect": "control: the truth of the nearest other effect",
    "noise-floor": "control: another draw of the true picture, through the backbone's VAE",
    "reseed": "control: the base from other noise, the floor of neutral questions",
}
NEEDS: dict[str, tuple[AdapterTable, ...]] = {
    "teacher": ("teachers",),
    "cascade": ("teachers", "accelerator"),
    "collection": ("candidates",),
    "teacher-few": ("teachers",),
    "joint": ("joint",),
    "joint" + ACCELERATED: ("joint", "accelerator"),
    **{MERGED + m: ("teachers",) for m in METHODS},
    **{MERGED + m + ACCELERATED: ("teachers", "accelerator") for m in METHODS},
}
"""Of which tables of the world file a system takes LoRAs; one that is not named takes none."""
CONTROLS = ("truth", "identity", "wrong-effect", "noise-floor")
BY_BACKBONE = ("base", "teacher", "cascade", "collection", "teacher-few", "joint", "merged", "reseed", "noise-floor")
"""Kinds of systems, and controls, whose pictures come out of the backbone: its device and dtype change them."""


def _sampled(bench: Bench, name: str) -> System:
    from clbench.systems.sampled import open_sampled

    return open_sampled(bench, name)


def _teacher_few(bench: Bench, name: str) -> System:
    from clbench.systems.baselines import open_teacher_few

    return open_teacher_few(bench, name)


def _joint(bench: Bench, name: str) -> System:
    from clbench.systems.baselines import open_joint

    return open_joint(bench, name)


def _merged(bench: Bench, name: str) -> System:
    from clbench.systems.merged import open_merged

    return open_merged(bench, name)


def _folder(bench: Bench, name: str) -> System:
    from clbench.systems.folder import FolderSystem

    if bench.images is None:
        raise ClbenchError("system 'folder' needs --images DIR, the folder of pictures made elsewhere")
    return FolderSystem(bench.world, bench.images, bench.strict, bench.skip_bad)


def _control(bench: Bench, name: str) -> System:
    from clbench.systems.controls import open_control

    return open_control(bench, name)


for _name in ("base", "teacher", "cascade", "collection", "reseed"):
    SYSTEMS.add(_name, _sampled)
SYSTEMS.add("teacher-few", _teacher_few)
for _name in ("joint", "joint" + ACCELERATED):
    SYSTEMS.add(_name, _joint)
for _name in METHODS:
    SYSTEMS.add(MERGED + _name, _merged)
    SYSTEMS.add(MERGED + _name + ACCELERATED, _merged)
SYSTEMS.add("folder", _folder)
for _name in CONTROLS:
    SYSTEMS.add(_name, _control)


def system_kind(name: str) -> str:
    """``collection-mine`` is of kind ``collection``; every other name is its own kind."""
    return "collection" if name.startswith("collection-") else name


def check_system_name(name: str, where: object) -> None:
    """ClbenchError with the nearest name if `name` is no system; `where` says who asked."""
    if system_kind(name) not in SYSTEMS:
        raise ClbenchError(f"{where}: unknown system '{name}'.{suggestion(name, SYSTEMS)}")


def lacks(world: World, name: str) -> list[Lack]:
    """What a system cannot be run without and `world` names no file for; ClbenchError for a folder that is not there."""
    found = [world.lack(table) for table in NEEDS.get(system_kind(name), ())]
    return [lack for lack in found if lack is not None]


def open_system(name: str, bench: Bench) -> System:
    """The system of that name. All its files are checked now, before any long work; weights load later."""
    check_system_name(name, bench.world.name)
    if missing := lacks(bench.world, name):
        whys, remedies = ([getattr(one, part) for one in missing] for part in ("why", "remedy"))
        raise ClbenchError(f"system '{name}' cannot be run: {' and '.join(whys)}; {' and '.join(remedies)}")
    return SYSTEMS.get(system_kind(name))(bench, name)
