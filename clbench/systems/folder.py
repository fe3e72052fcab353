"""Pictures made elsewhere, scored like any other system."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from clbench import photos
from clbench.hashing import code_digest, file_digest
from clbench.images import PICTURE_SUFFIXES, reduce_to
from clbench.left_out import listed
from clbench.provenance import hash_value
from clbench.registry import ClbenchError
from clbench.types import Case, Edit, SystemCard
from clbench.world import World

ALIKE = 0.85
"""From here on the name of a folder counts as an effect's, misspelt (difflib's ratio, without regard to capitals): a letter or a
hyphen, no more."""
OF_CASE = re.compile(r"s\d+(-.+)?")
"""What a picture below ``<effect>/<source>/`` is called, of whatever suite."""


class FolderSystem:
    """Finds each case's picture in `folder`; a missing one is a failed Edit with a reason, or refused with `strict`.

    An unreadable one is refused, or a failed Edit with `skip_bad`. Two files of one stem and formats that are not read are always
    refused: which picture is meant would be a guess. Probes are extras: one that the folder does not answer is unscored, and
    `strict` does not ask for it.

    Layouts, tried in this order: ``pictures/<case id>.png`` (a run folder), ``<case id>.png`` =
    ``<effect>/<source>/s0.png``, and ``<effect>/<source>.png``. Other picture formats are read as well.
    """

    def __init__(self, world: World, folder: Path, strict: bool, skip_bad: bool = False) -> None:
        if not folder.is_dir():
            raise ClbenchError(f"folder of pictures not found: {folder}")
        self.world, self.folder, self.strict, self.skip_bad = world, folder, strict, skip_bad
        self._files = _pictures(folder)
        if not self._files:
            raise ClbenchError(f"{folder} holds no picture; expected {folder}/<effect>/<source>.png")
        digest = hash_value({stem: file_digest(path) for stem, path in self._files.items()})
        reader = code_digest(Path(photos.__file__))  # a run that is taken up again never mixes two ways of reading
        self.card = SystemCard("folder", "folder", {}, {"pictures": digest, "reader": reader})

    def edit(self, cases: Sequence[Case]) -> Iterator[Edit]:
        """Yield one Edit for each case."""
        for case in cases:
            yield self._edit(case)

    def check(self, cases: Sequence[Case]) -> None:
        """ClbenchError for a folder that holds nothing that is asked for, or pictures that cannot be used (see the class)."""
        missing = [case.id for case in cases if self._find(case) is None and not case.probe]
        there = [case for case in cases if self._find(case) is not None]
        self._check_names({case.effect for case in cases if not case.probe})
        if cases and not there:
            told = f"{self.folder} holds none of the {len(cases)} pictures asked for, such as {_place(cases[0])}.png"
            raise ClbenchError("; ".join([told, *self._said_strays(cases)]))
        if missing and self.strict:
            raise ClbenchError(f"{self.folder} lacks {len(missing)} of {len(cases)} pictures: {_some(missing)}")
        bad = [] if self.skip_bad else [edit for edit in map(self._edit, there) if edit.status == "failed"]
        if bad:
            others = f"; not to be used either: {_some([_place(edit.case) for edit in bad[1:]])}" if bad[1:] else ""
            raise ClbenchError(f"{bad[0].reason}{others} (--skip-bad leaves such pictures out)")

    def remarks(self, cases: Sequence[Case]) -> list[str]:
        """What answers nothing and what is not answered: pictures named after no source, probes without any picture."""
        return [*self._said_strays(cases), *self._said_probes(cases)]

    def _said_probes(self, cases: Sequence[Case]) -> list[str]:
        """The probes of which the folder holds no picture at all, in a sentence."""
        answered = {case.probe for case in cases if case.probe and self._find(case) is not None}
        silent = {case.probe: case.id for case in reversed(cases) if case.probe and case.probe not in answered}
        if not silent:
            return []
        probes = list(dict.fromkeys(case.probe for case in cases if case.probe in silent))
        many = len(probes) > 1
        return [
            f"{self.folder} holds no picture of probe{'s' * many} {listed(probes)}, which stay{'' if many else 's'} unscored: "
            f"expected names such as {silent[probes[0]]}.png"
        ]

    def _said_strays(self, cases: Sequence[Case]) -> list[str]:
        """Pictures of the effects asked for that are named after no source and so answer nothing, in a sentence."""
        asked = list(dict.fromkeys(case.id.partition("/")[0] for case in cases))
        sources = {source.id for source in self.world.sources} | {case.source for case in cases}
        strays = [self._files[stem] for stem in self._files if _strays(stem.removeprefix("pictures/"), asked, sources)]
        if not strays:
            return []
        pictures = f"{len(strays)} pictures" if len(strays) > 1 else "a picture"
        first = strays[0].relative_to(self.folder).as_posix()
        named = f"{pictures} of the effects asked for that {'are' if len(strays) > 1 else 'is'} named after no source"
        return [f"{self.folder} holds {named} of world {self.world.name}, the first {first}: expected {_place(cases[0])}.png"]

    def _check_names(self, asked: Collection[str]) -> None:
        """ClbenchError for a folder that is no effect's and whose name is nearly that of one `asked` for that has no picture."""
        folders = {stem.removeprefix("pictures/").partition("/")[0] for stem in self._files if "/" in stem}
        named = {effect for folder in folders for effect in folder.split("+")}  # of pairs, both
        unseen = {effect.lower(): effect for effect in sorted({*asked} - named)}
        for name in sorted(folders - {*self.world.effects}):
            if "+" not in name and (near := get_close_matches(name.lower(), list(unseen), 1, ALIKE)):
                raise ClbenchError(
                    f"{self.folder / name} is of no effect of world {self.world.name}, and '{unseen[near[0]]}' has no picture: "
                    "name the folder after the effect"
                )

    def _edit(self, case: Case) -> Edit:
        path = self._find(case)
        if path is None and case.probe:
            reason = f"{self.folder} holds no picture {case.id}.png of probe '{case.probe}'"
            return Edit(case, None, status="unscored", reason=reason)
        if path is None and case.second:
            return Edit(case, None, status="failed", reason=f"no picture {case.id}.png in {self.folder}")
        if path is None:
            return Edit(
                case,
                None,
                status="failed",
                reason=f"no picture {case.effect}/{case.source}.png in {self.folder}",
            )
        try:
            picture = photos.read_photo(path)
        except ClbenchError as error:
            return Edit(case, None, status="failed", reason=str(error))
        height, width = picture.shape[:2]
        if height != width:
            reason = f"{path} is {width}x{height}; a picture of this world is square"
            return Edit(case, None, status="failed", reason=reason)
        return Edit(case, reduce_to(picture, self.world.resolution))

    def _find(self, case: Case) -> Path | None:
        stems = [f"pictures/{case.id}", case.id]
        if case.seed == 0 and case.steps is None and not case.probe and not case.second:
            stems.append(f"{case.effect}/{case.source}")
        return next((self._files[stem] for stem in stems if stem in self._files), None)


def _place(case: Case) -> str:
    return f"{case.effect}/{case.source}"


def _strays(stem: str, effects: Collection[str], sources: Collection[str]) -> bool:
    """Whether a picture of one of these effects (or pairs of them) is not called ``<effect>/<source>[/s<seed>...]``."""
    effect, _, rest = stem.partition("/")
    source, _, case = rest.partition("/")
    return effect in effects and not (source in sources and (not case or OF_CASE.fullmatch(case)))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _pictures(folder: Path) -> dict[str, Path]:
    """Relative path without suffix -> file, for every picture below `folder`.

    ClbenchError, as for sources and pairs, if two share a stem, and for a picture of a format that is not read.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.suffix.lower() in photos.UNREAD_SUFFIXES:
            raise ClbenchError(f"{path} is not read: save it as one of {', '.join(PICTURE_SUFFIXES)}, or take it away")
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise ClbenchError(f"two pictures share the stem '{path.stem}' in {path.parent}; keep one")
        found[stem] = path
    return found
