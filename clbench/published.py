"""What was published about CollectionLoRA, and what is claimed of it in ratios, which carry over to other worlds. Pure.

Source: arXiv 2605.25378, table of main results (EffectBench, 50 effects x 100 pictures, Qwen-Image-Edit-2509 of 20B
parameters; failures judged by a language model, no intervals given).
"""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "arXiv 2605.25378"


@dataclass(frozen=True)
class Published:
    """One row of the main results: DreamSim distance, DINO similarity, BCR, the share of outputs judged bad, and VSA."""

    dreamsim: float
    dino: float
    bcr: float
    vsa: float


MAIN_RESULTS = {
    "teacher": Published(0.434, 0.611, 0.141, 4.075),
    "cascade": Published(0.441, 0.612, 0.168, 3.901),
    "joint+accelerator": Published(0.468, 0.611, 0.217, 4.150),
    "collection": Published(0.425, 0.600, 0.087, 4.380),
}
"""System, by its name here, -> what the paper reports of it."""
COLUMNS = {"bcr": ("bcr", "BCR"), "perceptual": ("dreamsim", "DreamSim"), "subject": ("dino", "DINO"), "vsa": ("vsa", "VSA")}
"""Metric -> the column of `Published` that is nearest to it, and its name in the paper."""


@dataclass(frozen=True)
class Claim:
    """The mean of `metric` of system `first` by that of system `second`, and the `target` that it should reach.

    At most the target where lower is better, at least the target where higher is better; None where nothing is claimed and
    the ratio only says how the two compare there and here. `change`: told as the ratio's distance to 1, in per cent.
    `figures`: what the paper reports of the two where that stands in another table than the main one.
    A metric whose lowest value is not 0 is counted from that value: a ratio says something of a scale from 0 alone.
    """

    metric: str
    words: str
    first: str
    second: str
    target: float | None = None
    change: bool = False
    figures: tuple[float, float] | None = None

    @property
    def published(self) -> tuple[str, float, float] | None:
        """The paper's name of the measure and its figures of both systems; None where the paper has no such figure."""
        if self.metric not in COLUMNS:
            return None
        field, name = COLUMNS[self.metric]
        if self.figures is not None:
            return name, *self.figures
        return name, getattr(MAIN_RESULTS[self.first], field), getattr(MAIN_RESULTS[self.second], field)


CLAIMS = (
    Claim("bcr", "Failure rate", "collection", "teacher", 1.0),
    Claim("bcr", "Failure rate", "collection", "cascade", 0.52),
    Claim("bcr", "Failure rate", "collection", "joint+accelerator", 0.40),
    Claim("perceptual", "Perceptual distance", "collection", "cascade", 1 - 0.036, change=True),
    Claim("perceptual", "Perceptual distance", "collection", "joint+accelerator", 1 - 0.092, change=True),
    Claim("leak_total", "Leak", "collection", "cascade", 0.5),
    Claim("subject", "Subject score", "collection", "teacher", 1 - 0.018, change=True),
    Claim("bcr", "Failure rate", "cascade", "teacher"),
    Claim("bcr", "Failure rate", "joint+accelerator", "teacher"),
)

ABLATION = (
    Claim("bcr", "Failure rate with and without orthogonal prompting", "collection", "no-aop", 1.0, True, (0.207, 0.378)),
    Claim("bcr", "Failure rate with and without target simulation", "no-ta", "bs-only", 1.0, True, (0.199, 0.207)),
    Claim("bcr", "Failure rate with and without target anchoring", "collection", "no-ta", 1.0, True, (0.087, 0.199)),
    Claim("bcr", "Failure rate with and without dual-stream routing", "collection", "no-pdsr", 1.0, True, (0.087, 0.108)),
    Claim("vsa", "VSA with and without orthogonal prompting", "collection", "no-aop", 1.0, True, (3.720, 2.756)),
    Claim("vsa", "VSA with and without target simulation", "no-ta", "bs-only", 1.0, True, (4.018, 3.720)),
    Claim("vsa", "VSA with and without target anchoring", "collection", "no-ta", 1.0, True, (4.380, 4.018)),
    Claim("vsa", "VSA with and without dual-stream routing", "collection", "no-pdsr", 1.0, True, (4.380, 4.248)),
)
"""What each part is reported to do to failure rate and VSA: the whole method is `collection`, variants go by their candidates'
names.

The paper adds parts one by one to routing alone (BCR .378): prompting (.207), target simulation (.199), anchoring (.087); the
whole without routing has .108. Prompting is taken from the whole here, the others as there. On the right side of 1 the part
helps, as published.
"""
