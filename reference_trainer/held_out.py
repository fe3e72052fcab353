"""Pictures that systems are measured on: training on them would make a report praise what was learnt by heart."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from clbench.images import centre_square, hash_pixels, reduce_to
from clbench.photos import read_photo
from clbench.registry import ClbenchError
from clbench.world import World


def read_training(path: Path, world: World) -> np.ndarray:
    """The picture of a folder for training, as it is; ClbenchError where systems are measured on it in this world.

    Equal pixels count, in whatever file and format: those that are left when a picture has been made a source or a target.
    """
    picture = read_photo(path)
    square = centre_square(picture)
    for seen in (square, reduce_to(square, world.work_size)):  # targets are reduced at once, sources in two steps
        what = measured_pictures(world).get(hash_pixels(reduce_to(seen, world.resolution)))
        if what is not None:
            raise ClbenchError(
                f"{path} shows {what} of world {world.name}: systems are measured on it, so it is no picture to train on"
            )
    return picture


@lru_cache(maxsize=1)
def measured_pictures(world: World) -> Mapping[str, str]:
    """Hash of pixels -> what it is, of all sources and reference targets; read once, since there may be thousands."""
    ids = [source.id for source in world.sources]
    found = {hash_pixels(world.source_image(source, world.resolution)): f"the source '{source}'" for source in ids}
    for effect in world.effects:
        for source, path in world.pairs.targets(effect).items():
            if source in ids:
                target = reduce_to(centre_square(read_photo(path)), world.resolution)
                found.setdefault(hash_pixels(target), f"the reference target of '{effect}' for the source '{source}'")
    return found
