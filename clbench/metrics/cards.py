"""What each metric is: name, version, direction, bounds, needs, source (floor 1; imports no heavy library).

`needs` names what must be there to compute a metric: ``truth`` (any kind), ``operator`` (known operators, for exact leak
directions), ``deterministic`` (one right answer), ``mask`` (subject mask), ``source``, ``caption`` (of the source and of the
wished result), ``base`` (a run of the base on the same questions), ``perceptual`` and ``clip`` (encoder weights). A case
without it gets NaN and a reason; a case that asks another kind of question (`MetricCard.questions`) gets no row.

Tolerances (`MetricCard.tolerance`) leave room for the last digit of a stored value and for float32 sums in another order; labels
and counts of pictures have none. `tests/test_batches.py` and `clbench selftest` hold them.
"""

from __future__ import annotations

import math

from clbench.registry import Registry
from clbench.types import MetricCard, Question

METRICS: Registry[MetricCard] = Registry("metric")
EVERY: frozenset[Question] = frozenset({"effect", "neutral", "composed"})
COMPOSED: frozenset[Question] = frozenset({"composed"})

_CARDS = (
    MetricCard(
        "perceptual", 1, "lower", (0.0, math.inf), 1e-6,
        "Perceptual distance to the nearest draw of the truth (ST-LPIPS unless the world names another network).",
        "Ghildyal and Liu, Shift-tolerant Perceptual Similarity Metric, ECCV 2022; Zhang et al., LPIPS, CVPR 2018",
        frozenset({"truth", "perceptual"}), questions=EVERY,
    ),
    MetricCard(
        "clip_image", 1, "higher", (-1.0, 1.0), 1e-6,
        "Cosine between CLIP image embeddings of the output and of the nearest draw of the truth.",
        "Radford et al., CLIP, ICML 2021", frozenset({"truth", "clip"}), questions=EVERY,
    ),
    MetricCard(
        "clip_text", 1, "higher", (-1.0, 1.0), 1e-6,
        "Cosine between the CLIP embeddings of the output and of the caption of the wished result.",
        "Hessel et al., CLIPScore, EMNLP 2021 (without its factor 2.5 and its clipping at 0)", frozenset({"caption", "clip"}),
    ),
    MetricCard(
        "clip_directional", 1, "higher", (-1.0, 1.0), 1e-6,
        "Cosine between the change of the image embedding (source to output) and the change of the text embedding "
        "(source caption to caption of the wished result).",
        "Gal et al., StyleGAN-NADA, 2022; Brooks et al., InstructPix2Pix, CVPR 2023", frozenset({"source", "caption", "clip"}),
    ),
    MetricCard(
        "psnr", 1, "higher", (0.0, math.inf), 2e-5, "Peak signal-to-noise ratio to the truth in dB; equal pictures give 100.",
        "", frozenset({"truth", "deterministic"}), questions=EVERY,
    ),
    MetricCard(
        "ssim", 1, "higher", (-1.0, 1.0), 1e-6,
        "Structural similarity to the truth, Gaussian window (sigma 1.5), mean over the colour channels.",
        "Wang et al., Image quality assessment, IEEE TIP 2004", frozenset({"truth", "deterministic"}),
        questions=EVERY,
    ),
    MetricCard(
        "subject", 1, "higher", (1.0, 5.0), 5e-6,
        "Is the subject of the source still there, as far as the effect lets it be? 5: as in the truth, 1: gone.",
        "own; the 1 to 5 scale of CollectionLoRA's VSA (arXiv 2605.25378)", frozenset({"truth", "source"}),
    ),
    MetricCard(
        "success", 2, "higher", (0.0, 1.0), 0.0,
        "1 if the output is closer to its own truth than to the source and to every other effect, with a margin.",
        "own", frozenset({"truth", "source", "meter"}),
    ),
    MetricCard(
        "bcr", 2, "lower", (0.0, 1.0), 0.0, "1 - success; its mean is the share of failed outputs.",
        "BCR of CollectionLoRA (arXiv 2605.25378), measured instead of judged", frozenset({"truth", "source", "meter"}),
    ),
    MetricCard(
        "vsa", 3, "higher", (0.0, 5.0), 5e-6,
        "0 if the case failed, else the subject score; unscored where that is; so mean vsa <= 5 (1 - mean bcr) of these.",
        "VSA of CollectionLoRA (arXiv 2605.25378), measured instead of judged", frozenset({"truth", "source", "meter"}),
    ),
    MetricCard(
        "leak_total", 2, "lower", (0.0, math.inf), 5e-6, "Sum of the leaks of all other effects into the output.", "own",
        frozenset({"truth", "source", "meter"}),
    ),
    MetricCard(
        "dose", 2, "neutral", (-math.inf, math.inf), 5e-6,
        "How far the output went from the source (0) to the truth (1) along the asked effect.", "own",
        frozenset({"truth", "source", "meter"}),
    ),
    MetricCard(
        "attribution_distance", 2, "lower", (0.0, math.inf), 1e-4,
        "Distance of the output to the truth of `other` (an effect or the source) in the whitened feature space.", "own",
        frozenset({"truth", "source", "meter"}), pairwise=True,
    ),
    MetricCard(
        "attributed", 2, "neutral", (1.0, 1.0), 0.0,
        "`other` is what the output is closest to: an effect, the source, or none; of a neutral question also the base, of "
        "a composition the first effect, the second, both, or both in reversed order.", "own",
        frozenset({"truth", "source", "meter"}), pairwise=True, questions=EVERY,
    ),
    MetricCard(
        "leak", 2, "lower", (0.0, math.inf), 2e-6,
        "How much of effect `other` is in an output asked for another effect; 1 = as much as in its own truth.", "own",
        frozenset({"truth", "source", "meter"}), pairwise=True,
    ),
    MetricCard(
        "neutral_distance", 1, "lower", (0.0, math.inf), 1e-6,
        "Perceptual distance to what the base made of the same neutral question from the same noise; read it against that of "
        "the control reseed.", "own; distance as in perceptual", frozenset({"base", "perceptual"}),
        questions=frozenset({"neutral"}),
    ),
    MetricCard(
        "neutral_leak", 2, "lower", (0.0, math.inf), 2e-6,
        "How much of what effect `other` changes of the source was added to what the base made of a neutral question.", "own",
        frozenset({"base", "truth", "source", "meter"}), pairwise=True, questions=frozenset({"neutral"}),
    ),
    MetricCard(
        "neutral_leak_total", 2, "lower", (0.0, math.inf), 5e-6, "Sum of the neutral leaks of all effects into the output.",
        "own", frozenset({"base", "truth", "source", "meter"}), questions=frozenset({"neutral"}),
    ),
    MetricCard(
        "both", 2, "higher", (0.0, 1.0), 0.0,
        "1 if the output is closest to the true picture of both effects, in either order, rather than to that of one of them or "
        "to the source; missing where one effect hides the other.",
        "own", frozenset({"operator", "source", "meter"}), questions=COMPOSED,
    ),
    MetricCard(
        "first_shows", 2, "higher", (0.0, 1.0), 0.0,
        "1 if the output is closest to a true picture with the first effect in it.",
        "own", frozenset({"operator", "source", "meter"}), questions=COMPOSED,
    ),
    MetricCard(
        "second_shows", 2, "higher", (0.0, 1.0), 0.0,
        "1 if the output is closest to a true picture with the second effect in it.",
        "own", frozenset({"operator", "source", "meter"}), questions=COMPOSED,
    ),
    MetricCard(
        "in_order", 2, "higher", (0.0, 1.0), 0.0,
        "Of outputs with both effects: 1 if closer to first-then-second than to the other order; missing where the two orders "
        "look alike.", "own", frozenset({"operator", "source", "meter"}), questions=COMPOSED,
    ),
    MetricCard(
        "order_change", 1, "neutral", (0.0, math.inf), 1e-6,
        "Perceptual distance between a system's pictures of both orders; read it against that of the control truth.",
        "own; distance as in perceptual", frozenset({"perceptual"}), questions=COMPOSED,
    ),
)  # fmt: skip

for _card in _CARDS:
    METRICS.add(_card.name, _card)

SET_METRICS: Registry[MetricCard] = Registry("set-level metric")
"""Metrics of a whole set of pictures (`clbench.metrics.sets`): no value per case, so no rows of scores.parquet."""

for _card in (
    MetricCard(
        "kid", 1, "lower", (-math.inf, math.inf), 1e-6,
        "Kernel distance between the sets of outputs and of truths, in the embeddings of the world's CLIP; unbiased, so it may "
        "be below 0.", "Binkowski et al., Demystifying MMD GANs, ICLR 2018 (with other features)", frozenset({"truth", "clip"}),
    ),
    MetricCard(
        "cmmd", 1, "lower", (0.0, math.inf), 1e-6,
        "1000 times the squared Gaussian MMD between the sets of outputs and of truths, in the embeddings of the world's CLIP.",
        "Jayasumana et al., Rethinking FID, CVPR 2024 (with other features)", frozenset({"truth", "clip"}),
    ),
):  # fmt: skip
    SET_METRICS.add(_card.name, _card)


def in_tolerances(metric: str, one: float, other: float) -> float:
    """How far apart two values of a stored metric are, in its tolerances: 0 for equal (or missing) ones, infinite where none is
    allowed or one is missing."""
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    tolerance = (METRICS if metric in METRICS else SET_METRICS).get(metric).tolerance
    gap = abs(one - other)
    return gap / tolerance if tolerance and math.isfinite(gap) else math.inf
