"""The LoRA files that a world names: teachers, accelerator, candidates, joint LoRA. Reads no file of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from clbench.registry import ClbenchError, suggestion
from clbench.types import Effect, PromptKind
from clbench.world_checks import located
from clbench.world_file import CandidateTable, FewStepTable, SamplerKind, WorldTable

AdapterTable = Literal["teachers", "accelerator", "candidates", "joint"]
"""The tables of a world file that name LoRA files."""
ADDED = {
    "teachers": '[teachers] with folder = "..."',
    "accelerator": '[accelerator] with file = "..."',
    "candidates": '[[candidates]] with name = "..." and file = "..."',
    "joint": '[joint] with file = "..."',
}
"""What a world file without the table wants."""


@dataclass(frozen=True, slots=True)
class Lack:
    """That a world names no file of a kind: `why` is without a path of this machine, `remedy` says what to do about it."""

    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA file of the world: where it is, its weight, and how it is sampled, as far as it says so (None: as the world is).

    Few-step adapters have `steps`, `sampler` and `shift`. A candidate may say which `effects` it was trained on, the `new`
    ones (beyond the candidate that it extends) among them, and with what `prompt`.
    """

    name: str
    path: Path
    weight: float = 1.0
    steps: int | None = None
    effects: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    prompt: PromptKind | None = None
    sampler: SamplerKind | None = None
    shift: float | None = None
    embedded_guidance: float | None = None


def _sampling(table: FewStepTable) -> dict[str, Any]:
    """What a few-step LoRA's table says of its sampling, as arguments of `Adapter`."""
    return {key: getattr(table, key) for key in ("steps", "sampler", "shift", "embedded_guidance")}


class NamedAdapters:
    """The part of a world that is about LoRA files: where each is, its weight, how it is sampled, what it was trained on."""

    file: Path
    table: WorldTable
    name: str
    effects: Mapping[str, Effect]

    def effect(self, effect_id: str) -> Effect:
        """The effect of that id; ClbenchError with the nearest id otherwise."""
        if effect_id not in self.effects:
            raise ClbenchError(
                f"unknown effect '{effect_id}' in world {self.name}.{suggestion(effect_id, self.effects)}"
            )
        return self.effects[effect_id]

    def teacher_path(self, effect_id: str) -> Path | None:
        """The effect's teacher LoRA; None if there is none. A file named in the table must exist."""
        self.effect(effect_id)
        if effect_id in self.table.teachers.files:
            return self._existing(self.table.teachers.files[effect_id], f"teacher LoRA of '{effect_id}'")
        if self.table.teachers.folder is None:
            return None
        path = self.path(self.table.teachers.folder) / f"{effect_id}.safetensors"
        return path if path.is_file() else None

    @property
    def taught(self) -> list[str]:
        """Effects that have a teacher adapter, in the order of the catalogue."""
        return [effect_id for effect_id in self.effects if self.teacher_path(effect_id) is not None]

    def lack(self, table: AdapterTable) -> Lack | None:
        """Why there is no LoRA of this table; None where the world names one.

        A file that is named and is not there is a mistake and no lack: that of a teachers' folder is said here (ClbenchError),
        that of a file when its system is opened.
        """
        if table == "teachers":
            return self._no_teachers()
        if getattr(self.table, table):
            return None
        head = ADDED[table].split(" ")[0]
        return Lack(f"world {self.name} has no {head}", f"add {ADDED[table]} to {self.file}")

    def _no_teachers(self) -> Lack | None:
        """`lack` of teachers; a folder that is there counts as naming those that lie in it."""
        table = self.table.teachers
        if table.files:
            return None
        if table.folder is None:
            return Lack(f"world {self.name} has no [teachers]", self.teachers_wanted)
        if not (folder := self.path(table.folder)).is_dir():
            raise ClbenchError(f"folder of teacher LoRAs not found: {folder} (named in {self.file})")
        return None if self.taught else Lack(f"the [teachers] folder of world {self.name} holds no LoRA", self.teachers_wanted)

    @property
    def teachers_wanted(self) -> str:
        """What to do for a teacher more, as advice."""
        table = self.table.teachers
        if table.folder is not None:
            return f"put <effect id>.safetensors into {self.path(table.folder)}"
        if table.files:
            return f"name its file under [teachers.files] in {self.file}"
        return f"add {ADDED['teachers']} to {self.file}"

    def accelerator(self) -> Adapter:
        """The accelerator; ClbenchError if the world names none or its file is missing."""
        table = self.table.accelerator
        if table is None:
            raise ClbenchError(
                f"world {self.name} names no accelerator: add [accelerator] file = ... to {self.file}"
            )
        path = self._existing(table.file, "accelerator LoRA")
        return Adapter("accelerator", path, table.weight, **_sampling(table))

    def effect_weight(self, effect_id: str) -> float:
        """Weight of the effect's teacher LoRA, as its publisher states it: 1 unless [teachers.weights] says otherwise."""
        return self.table.teachers.weights.get(effect_id, 1.0)

    @property
    def teacher_weight(self) -> float:
        """What a teacher's weight is multiplied by inside the cascade."""
        return 1.0 if self.table.accelerator is None else self.table.accelerator.teacher_weight

    def candidate(self, name: str | None = None) -> Adapter:
        """The candidate of that name (None: the first); ClbenchError if unknown or its file is missing."""
        table = self._candidate_table(name)
        path = self._existing(table.file, f"candidate LoRA '{table.name}'")
        new = self.beyond(table.name, table.effects)
        return Adapter(
            table.name, path, table.weight, effects=table.effects, new=new, prompt=table.prompt, **_sampling(table)
        )

    def candidate_effects(self, name: str) -> tuple[str, ...]:
        """The effects that a candidate's table names, whether or not its file is there yet; ClbenchError if it names none."""
        table = self._candidate_table(name)
        if not table.effects:
            raise ClbenchError(f"{self.file}: candidate '{name}' names no effects; add effects = [...] to its table")
        return table.effects

    def extending_effects(self, name: str) -> tuple[str, ...]:
        """`candidate_effects` without those of the candidate that this one extends; ClbenchError where none is left."""
        effects, table = self.candidate_effects(name), self._candidate_table(name)
        if table.extends is None:
            return effects
        if new := self.beyond(name, effects):
            return new
        raise ClbenchError(f"{self.file}: candidate '{name}' names no effects beyond those of '{table.extends}'")

    def beyond(self, name: str, effects: Iterable[str]) -> tuple[str, ...]:
        """Those of a candidate's `effects` that the one which it extends does not name; none where it extends no other one."""
        table = self._candidate_table(name)
        if table.extends is None:
            return ()
        old = self._candidate_table(table.extends).effects
        return tuple(effect for effect in effects if effect not in old)

    def _candidate_table(self, name: str | None) -> CandidateTable:
        """The table of that candidate (None: the first); ClbenchError if unknown."""
        known = {candidate.name: candidate for candidate in self.table.candidates}
        if not known:
            raise ClbenchError(f"world {self.name} names no candidate: add [[candidates]] to {self.file}")
        if name is not None and name not in known:
            raise ClbenchError(f"unknown candidate '{name}' in world {self.name}.{suggestion(name, known)}")
        return known[name] if name is not None else self.table.candidates[0]

    @property
    def trained_candidates(self) -> list[str]:
        """Names of the candidates whose file is there, in the order of the world file."""
        return [table.name for table in self.table.candidates if self.path(table.file).is_file()]

    def joint(self) -> Adapter:
        """The joint LoRA; ClbenchError if the world names none or its file is missing."""
        table = self.table.joint
        if table is None:
            raise ClbenchError(f"world {self.name} names no joint LoRA: add [joint] file = ... to {self.file}")
        path = self._existing(table.file, "joint LoRA")
        return Adapter("joint", path, table.weight, embedded_guidance=table.embedded_guidance)

    def path(self, written: str) -> Path:
        """A path written in the file: absolute, or relative to the file's folder."""
        return located(self.file, written)

    def _existing(self, written: str, what: str) -> Path:
        path = self.path(written)
        if not path.is_file():
            raise ClbenchError(f"{what} not found: {path} (named in {self.file})")
        return path
