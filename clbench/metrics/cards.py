"""What each metric is: name, version, direction, bounds, needs, source (floor 1; imports no heavy library).

`needs` names what must be there to compute a metric: ``truth`` (any kind), ``operator`` (known operators, for exact leak
directions), ``deterministic`` (one right answer), ``mask`` (subject mask), ``source``, ``caption`` (of the source and of the
wished result), ``perceptual`` and ``clip`` (encoder weights). A case without it gets NaN and a reason.
"""

from __future__ import annotations

import math

from clbench.registry import Registry
from clbench.types import MetricCard

METRICS: Registry[MetricCard] = Registry("metric")

_CARDS = (
    MetricCard(
        "perceptual", 1, "lower", (0.0, math.inf),
        "Perceptual distance to the nearest draw of the truth (ST-LPIPS unless the world names another network).",
        "Ghildyal and Liu, Shift-tolerant Perceptual Similarity Metric, ECCV 2022; Zhang et al., LPIPS, CVPR 2018",
        frozenset({"truth", "perceptual"}),
    ),
    MetricCard(
        "clip_image", 1, "higher", (-1.0, 1.0),
        "Cosine between CLIP image embeddings of the output and of the nearest draw of the truth.",
        "Radford et al., CLIP, ICML 2021", frozenset({"truth", "clip"}),
    ),
    MetricCard(
        "clip_text", 1, "higher", (-1.0, 1.0),
        "Cosine between the CLIP embeddings of the output and of the caption of the wished result.",
        "Hessel et al., CLIPScore, EMNLP 2021 (without its factor 2.5 and its clipping at 0)", frozenset({"caption", "clip"}),
    ),
    MetricCard(
        "clip_directional", 1, "higher", (-1.0, 1.0),
        "Cosine between the change of the image embedding (source to output) and the change of the text embedding "
        "(source caption to caption of the wished result).",
        "Gal et al., StyleGAN-NADA, 2022; Brooks et al., InstructPix2Pix, CVPR 2023", frozenset({"source", "caption", "clip"}),
    ),
    MetricCard(
        "psnr", 1, "higher", (0.0, math.inf), "Peak signal-to-noise ratio to the truth in dB; equal pictures give 100.",
        "", frozenset({"truth", "deterministic"}),
    ),
    MetricCard(
        "ssim", 1, "higher", (-1.0, 1.0),
        "Structural similarity to the truth, Gaussian window (sigma 1.5), mean over the colour channels.",
        "Wang et al., Image quality assessment, IEEE TIP 2004", frozenset({"truth", "deterministic"}),
    ),
    MetricCard(
        "subject", 1, "higher", (1.0, 5.0),
        "Is the subject of the source still there, as far as the effect lets it be? 5: as in the truth, 1: gone.",
        "own; the 1 to 5 scale of CollectionLoRA's VSA (arXiv 2605.25378)", frozenset({"truth", "source"}),
    ),
    MetricCard(
        "success", 1, "higher", (0.0, 1.0),
        "1 if the output is closer to its own truth than to the source and to every other effect, with a margin.",
        "own", frozenset({"truth", "source"}),
    ),
    MetricCard(
        "bcr", 1, "lower", (0.0, 1.0), "1 - success; its mean is the share of failed outputs.",
        "BCR of CollectionLoRA (arXiv 2605.25378), measured instead of judged", frozenset({"truth", "source"}),
    ),
    MetricCard(
        "vsa", 1, "higher", (0.0, 5.0), "0 if the case failed, else the subject score; so mean vsa <= 5 (1 - mean bcr).",
        "VSA of CollectionLoRA (arXiv 2605.25378), measured instead of judged", frozenset({"truth", "source"}),
    ),
    MetricCard(
        "leak_total", 1, "lower", (0.0, math.inf), "Sum of the leaks of all other effects into the output.", "own",
        frozenset({"truth", "source"}),
    ),
    MetricCard(
        "dose", 1, "neutral", (-math.inf, math.inf),
        "How far the output went from the source (0) to the truth (1) along the asked effect.", "own",
        frozenset({"truth", "source"}),
    ),
    MetricCard(
        "attribution_distance", 1, "lower", (0.0, math.inf),
        "Distance of the output to the truth of `other` (an effect or the source) in the whitened feature space.", "own",
        frozenset({"truth", "source"}), pairwise=True,
    ),
    MetricCard(
        "attributed", 1, "neutral", (1.0, 1.0),
        "`other` is what the output is closest to: an effect, the source, or none.", "own",
        frozenset({"truth", "source"}), pairwise=True,
    ),
    MetricCard(
        "leak", 1, "lower", (0.0, math.inf),
        "How much of effect `other` is in an output asked for another effect; 1 = as much as in its own truth.", "own",
        frozenset({"truth", "source"}), pairwise=True,
    ),
)  # fmt: skip

for _card in _CARDS:
    METRICS.add(_card.name, _card)
