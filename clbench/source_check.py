"""Source pictures of a folder, opened one by one: whether each can be read, how small it is, what the centre crop takes away."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.photos import photos_in, read_photo
from clbench.registry import ClbenchError
from clbench.world import World


@dataclass(frozen=True, slots=True)
class Seen:
    """What `count` pictures are like: those whose shorter side is below the world's resolution, by name; the largest crop.

    `removed` is the share of the picture `crop` that its largest centred square leaves out.
    """

    count: int
    small: dict[str, int]
    crop: str
    removed: float

    def told(self, resolution: int) -> str:
        """In a sentence."""
        cut = f"the centre crop removes at most {100 * self.removed:.0f} % of one ({self.crop})"
        if not self.small:
            return f"{self.count} pictures; {cut}"
        least = min(self.small, key=lambda name: self.small[name])
        return (
            f"{len(self.small)} of {self.count} pictures are smaller than resolution = {resolution} and would be enlarged, the "
            f"smallest is {least} with {self.small[least]} px; {cut}"
        )


def look_at(world: World) -> Seen:
    """Every source picture of a world with a folder of them, upright as it is used.

    ClbenchError with the first that cannot be read and the number of those that cannot, and for an empty folder.
    """
    table = world.table.sources
    files = list(photos_in(world.path(table.folder)).values())[: table.count]
    if not files:
        raise ClbenchError(f"folder {world.path(table.folder)} holds no picture")
    mistakes: list[str] = []
    sides: dict[str, tuple[int, int]] = {}
    for file in files:
        try:
            height, width, _ = read_photo(file).shape
            sides[file.name] = min(height, width), max(height, width)
        except ClbenchError as error:
            mistakes.append(str(error))
    if mistakes:
        others = f" (and {len(mistakes) - 1} more of {len(files)} pictures)" if len(mistakes) > 1 else ""
        raise ClbenchError(mistakes[0] + others)
    removed = {name: 1 - short / long for name, (short, long) in sides.items()}
    crop = max(removed, key=lambda name: removed[name])
    small = {name: short for name, (short, _) in sides.items() if short < world.resolution}
    return Seen(len(files), small, crop, removed[crop])
