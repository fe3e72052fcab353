"""What decides a run's scores, so that a run that has them already is not scored once more.

The key names everything: the code that scores, the libraries, the world, the metrics and their networks, and every picture.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from clbench.hashing import code_digest
from clbench.provenance import PACKAGES, hash_value, package_versions

ROOMS = (".", "metrics", "encoders", "effects", "backbones")
"""Folders of the package whose code a score can depend on."""
FURTHER = ("scikit-image", "lpips", "torchvision", "pilgram")
"""Libraries that scores depend on, beside those that a run's certificate names."""


@cache
def code_key() -> str:
    """The code and the libraries that score, as they are now."""
    here = Path(__file__).resolve().parent
    return hash_value([code_digest(*(here / room for room in ROOMS)), package_versions([*PACKAGES, *FURTHER])])
