"""Means with intervals, paired differences and their tests (floor 1: pure numpy and scipy).

A score belongs to an effect, a source and a seed. Means are nested: seeds within a source, sources within an
effect, then effects with equal weight, so an effect with more pictures does not count more. The effect is
the cluster: an interval says how the mean would move with *other effects* on these same sources. It says nothing
about other sources; where sources matter much, intervals for "any effect on any source" would be wider
(`clbench selftest --only statistics` shows by how much coverage falls).

- `nested`: the order of aggregation;
- `intervals`: a bootstrap over effects, of fewer than six Student's interval; for shares of 0/1 scores, and shares times a score,
  with the help of a model (`beta_binomial`);
- `comparisons`: paired differences, sign flips, Holm's correction, what it lets nothing pass, the detectable difference;
- `ratios`: paired ratios, for claims that are to carry over from another benchmark;
- `draws`: which random draws a figure is made with.

All intervals were chosen by simulated coverage, see `clbench.selftest.statistics`.
"""

from clbench.stats.beta_binomial import model_interval, model_intervals
from clbench.stats.comparisons import (
    SIGNIFICANT,
    Difference,
    corrected_detectable,
    detectable_difference,
    few_differ,
    holm,
    least_p,
    paired_difference,
    recovered_intervals,
    sign_flip_p,
    sign_flip_ps,
    undecidable,
)
from clbench.stats.draws import draws_for
from clbench.stats.intervals import (
    FEW,
    SHARE,
    Estimate,
    bootstrap_interval,
    bootstrap_intervals,
    estimate,
    interval_of,
    scored_interval,
    share_interval,
    share_intervals,
    shows_both,
    widened_tail,
)
from clbench.stats.nested import NO_VARIATION, EffectMeans, effect_means
from clbench.stats.ratios import ENOUGH, Ratio, paired_ratio, ratio_intervals, recovered_ratios, within_model

__all__ = [
    "ENOUGH", "FEW", "NO_VARIATION", "SHARE", "SIGNIFICANT", "Difference", "EffectMeans", "Estimate", "Ratio",
    "bootstrap_interval", "bootstrap_intervals", "corrected_detectable", "detectable_difference", "draws_for", "effect_means",
    "estimate", "few_differ",
    "holm", "interval_of", "least_p", "model_interval", "model_intervals", "paired_difference", "paired_ratio",
    "ratio_intervals", "recovered_intervals", "recovered_ratios", "scored_interval", "share_interval",
    "share_intervals", "shows_both", "sign_flip_p", "sign_flip_ps", "undecidable", "widened_tail", "within_model",
]  # fmt: skip
