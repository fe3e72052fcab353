"""The bleeding meter: which effect is an output, and how much of every other effect is in it (floor 1, pure).

Everything happens in a feature space whitened by nuisance (`whitening`), one source picture at a time, because
only with the source at hand can effects be told apart. Three questions:

- **attribution**: the distance of the output to the truth of every effect and to the untouched source;
- **dose**: how far it went from the source (0) to its own truth (1);
- **leak** of effect j into an output asked for effect i: the output's deviation from its own truth is explained by
  a non-negative mixture of what every j would do there, in both forms of the ordered pair: j's change of the source
  added to i's truth, and operator j applied to i's truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from clbench.metrics.draws import Candidate, Levels, candidate_of, judged_by_others
from clbench.metrics.features import FeatureSpace, Layout
from clbench.metrics.nuisance import apply_nuisance
from clbench.metrics.readings import Mixture, inner_products, left_out_products, mixture_of, together
from clbench.metrics.whitening import (
    TANGENTS,
    NoiseModel,
    channel_means,
    pool_channels,
    project_out,
    tangents_of,
)
from clbench.types import seed_from

SOURCE, NONE = "source", "none"
DOSE_STEP = 0.25
"""Leak directions are secants at this dose: texture energies are curved, and small doses are what matters."""
WINDOW_AREA = 0.25
"""Share of the picture that a window of the feature space covers."""
CLEAN_ANSWERS = 8
"""Clean answers that a leak frame reads, to know what is no leak."""
LEAK_DRAWS = 2
"""Draws of a random effect on another answer that are averaged for its composed direction."""
ADDED_DRAWS = 8
"""Draws of a random effect that are averaged for its added direction."""
AT_ONCE = 8
"""Draws, or frames, whose readings are computed together: more would need too much memory with many effects."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`margin`: an answer must be nearer than every other by this factor.

    An output is none of the labels when it is farther from the nearest one than all of: `nuisance` (a distance that
    nuisance alone does not reach), `reach` times that truth's own distance from the source, and `spread` times the
    distance of its farthest draw from the other draws. Noise lies beyond 0.6, half an effect at 0.5.
    """

    margin: float = 0.99
    nuisance: float = 3.5
    reach: float = 0.55
    spread: float = 2.0


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """What the meter knows about one source: the source, the draws of its truth per effect, and their candidates.

    `labels` are the effects in the given order, then "source"; `draws` their whitened features. An output farther than
    `limit` from its nearest label is none of them.
    """

    source: Float[Tensor, "3 h w"]
    truths: Mapping[str, Float[Tensor, "_k 3 h w"]]
    labels: tuple[str, ...]
    draws: tuple[Float[Tensor, "_k d"], ...]
    candidates: tuple[Candidate, ...]
    limit: Float[Tensor, " labels"]


@dataclass(frozen=True, slots=True)
class LeakFrame:
    """Leak directions around the truth of one asked effect of one source.

    `forms` are the directions of the other effects `others`: added, composed. A composed form that nobody knows is zero. `own`
    are the directions along which the asked effect itself may be weak or strong. What `clean` answers (a of them, made from the
    truth by nuisance) read is no leak, nor is what is below `baseline`, the largest reading of such answers to a random effect,
    each of which only the other draws know.
    """

    asked: str
    others: tuple[str, ...]
    candidate: Candidate
    change: Float[Tensor, " d"]
    forms: Float[Tensor, "2 j d"]
    own: Float[Tensor, "o d"]
    clean: Float[Tensor, "a d"]
    baseline: Float[Tensor, " j"]


@dataclass(frozen=True, slots=True)
class BleedingMeter:
    """A feature space, its noise model and thresholds; `source_frame`, then the questions."""

    space: FeatureSpace
    noise: NoiseModel
    thresholds: Thresholds = Thresholds()

    def source_frame(
        self,
        source: Float[Tensor, "3 h w"],
        truths: Mapping[str, Float[Tensor, "_k 3 h w"]],
        known: SourceFrame | None = None,
    ) -> SourceFrame:
        """The frame of `source` with `truths`: per effect its draws, all in [0, 1].

        What a frame that is `known` says of the same source is not computed again.
        """
        if SOURCE in truths or NONE in truths:
            raise ValueError(f"an effect cannot be called '{SOURCE}' or '{NONE}'")
        images = [*truths.values()] if known else [*truths.values(), source[None]]
        features = list(self.noise.whiten(self.space.embed(torch.cat(images))).split([len(d) for d in images]))
        tangents = self.noise.whiten(tangents_of(torch.stack([d[0] for d in images]), self.space.embed))
        candidates = [candidate_of(f, t, self.noise.layout) for f, t in zip(features, tangents, strict=True)]
        if known:
            features, candidates = [*features, known.draws[-1]], [*candidates, known.candidates[-1]]
        limits = self._limits(candidates, features)
        return SourceFrame(source, truths, (*truths, SOURCE), tuple(features), tuple(candidates), limits)

    def see(self, outputs: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """`outputs` in [0, 1] as whitened features, which the questions below are asked of."""
        return self.noise.whiten(self.space.embed(outputs))

    def distances(self, frame: SourceFrame, seen: Float[Tensor, "n d"]) -> Float[Tensor, "n labels"]:
        """Distance of outputs `seen` to every label of `frame`; about 1 = as near as nuisance allows."""
        layout = self.noise.layout
        return torch.stack([distances(seen, candidate, layout) for candidate in frame.candidates], 1)

    def attribute(self, frame: SourceFrame, distance: Float[Tensor, "n labels"]) -> list[str]:
        """The label of each row of `distance`: an effect, "source" or "none"."""
        best = distance.argmin(1)
        near = distance.gather(1, best[:, None])[:, 0]
        inside = (near <= frame.limit[best]).tolist()
        return [frame.labels[b] if ok else NONE for b, ok in zip(best.tolist(), inside, strict=True)]

    def success(self, frame: SourceFrame, asked: str, distance: Float[Tensor, "n labels"]) -> Float32[Tensor, " n"]:
        """1 where `asked` is the label and nearer than every other by the margin, else 0."""
        own = frame.labels.index(asked)
        rest = torch.cat([distance[:, :own], distance[:, own + 1 :]], 1).min(1).values
        labels = self.attribute(frame, distance)
        right = torch.tensor([label == asked for label in labels], dtype=torch.bool)
        return (right & (distance[:, own] < self.thresholds.margin * rest)).float()

    def leak_frame(
        self,
        frame: SourceFrame,
        asked: str,
        composed: Mapping[str, Float[Tensor, "_k 3 h w"]],
        returned: Float[Tensor, "3 h w"] | None = None,
    ) -> LeakFrame:
        """Leak directions around the truth of `asked`.

        `composed` maps effects to pictures: that effect's operator applied to the first draw of the truth of `asked`; effects
        that are missing there (no known operator) keep the added form only. `returned` is that draw as the backbone's VAE
        returns it: what the VAE changes is no leak.
        """
        others = tuple(name for name in frame.truths if name != asked)
        here = frame.truths[asked][0]
        added = {name: here + DOSE_STEP * (frame.truths[name][:ADDED_DRAWS] - frame.source) for name in (*others, asked)}
        blended = {name: here + DOSE_STEP * (composed[name][:LEAK_DRAWS] - here) for name in (*others, asked) if name in composed}
        groups = [here[None], *added.values(), *blended.values()]
        features = self.see(torch.cat(groups).clamp(0, 1)).split([len(g) for g in groups])
        rest = [self._direction((f - features[0]) / DOSE_STEP) for f in features[1:]]
        first = dict(zip(added, rest, strict=False))
        second = dict(zip(blended, rest[len(added) :], strict=True))
        nothing = torch.zeros_like(features[0][0])
        forms = [form.get(name, nothing) for form in (first, second) for name in others]
        forms = torch.stack(forms).unflatten(0, (2, -1)) if others else nothing.expand(2, 0, -1)
        candidate = frame.candidates[frame.labels.index(asked)]
        change = candidate.centre - frame.candidates[-1].centre
        own = [change, first[asked], *([second[asked]] if asked in second else [])]
        if returned is not None:
            own.append(self.see(returned[None])[0] - features[0][0])
        nothing_clean = features[0][:0], forms.new_zeros(len(others))
        made = LeakFrame(asked, others, candidate, change, forms, torch.stack(own), *nothing_clean)
        return self._with_clean_answers(made, frame, returned) if others else made

    def leak(self, frame: LeakFrame, seen: Float[Tensor, "n d"]) -> Float[Tensor, "n j"]:
        """Leak of `frame.others` into outputs `seen`; 0 where nothing significant is found.

        The larger of the reading over the whole picture and the readings in windows of a quarter of it (times
        their share of the area), so that an effect that leaks into one region only is seen as well. A reading that
        clean answers with nuisance give as well is no leak.
        """
        return self.leaks([(frame, seen)])[0]

    def leaks(self, asked: Sequence[tuple[LeakFrame, Float[Tensor, "_n d"]]]) -> list[Float[Tensor, "_n j"]]:
        """`leak` of several frames of one source, each with its outputs: small problems are solved faster together.

        ValueError if their frames have different numbers of others.
        """
        if len({len(frame.others) for frame, _ in asked}) > 1:
            raise ValueError("the frames have different numbers of other effects")
        if not asked or not asked[0][0].others:
            return [seen.new_zeros(len(seen), 0) for _, seen in asked]
        found = []
        readings = self._readings([(frame, torch.cat([seen, frame.clean])) for frame, seen in asked])
        for (frame, seen), both in zip(asked, readings, strict=True):
            own, clean = both.split([len(seen), len(frame.clean)])
            baseline = torch.cat([frame.baseline[None], clean]).amax(0)
            found.append(torch.where(own > baseline, own, torch.zeros_like(own)))
        return found

    def dose(self, frame: LeakFrame, seen: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Response of the asked effect itself: 0 for the untouched source, 1 for its truth."""
        weight = (1 + frame.candidate.variance).rsqrt()
        deviation = (seen - frame.candidate.centre) * weight
        change = (frame.change * weight)[None]
        filtered = project_out(change, frame.candidate.tangents * weight)[0]
        return 1 + (deviation @ filtered) / (change[0] @ filtered).clamp_min(1e-9)

    def _readings(self, asked: Sequence[tuple[LeakFrame, Float[Tensor, "_n d"]]]) -> list[Float[Tensor, "_n j"]]:
        """The leak of the outputs of each frame, ungated by the baseline."""
        found: dict[int, Float[Tensor, "n j"]] = {}
        counts = [len(seen) for _, seen in asked]
        for count in set(counts):  # others would be as large as the largest
            same = [number for number, other in enumerate(counts) if other == count]
            for start in range(0, len(same), AT_ONCE):
                some = same[start : start + AT_ONCE]
                found |= zip(some, self._doses(together([self._mixture(*asked[number]) for number in some])), strict=True)
        return [found[number] for number in range(len(asked))]

    def _mixture(self, frame: LeakFrame, seen: Float[Tensor, "n d"]) -> Mixture:
        free = torch.cat([frame.candidate.tangents, frame.own])
        products = self._products(frame, free, seen - frame.candidate.centre)
        return mixture_of(products, len(free), 2 * len(frame.others))

    def _left_out_readings(
        self, frame: LeakFrame, draws: Float[Tensor, "k d"], seen: Float[Tensor, "k d"]
    ) -> Float[Tensor, "k j"]:
        """The same of outputs `seen`, one of each draw of the answer, which only the others know."""
        centre, free = frame.candidate.centre, torch.cat([frame.candidate.tangents[:TANGENTS], frame.own])
        products = self._products(frame, torch.cat([draws - centre, free]), seen - centre)
        count, found = len(draws), []
        for start in range(0, count, AT_ONCE):
            part = left_out_products(products, count, slice(start, start + AT_ONCE)).flatten(0, 1)
            found.append(mixture_of(part, count - 1 + len(free), 2 * len(frame.others)))
        return self._doses(together(found))[:, 0]

    def _products(self, frame: LeakFrame, free: Float[Tensor, "f d"], deviation: Float[Tensor, "n d"]) -> Float[Tensor, "p m m"]:
        """Inner products of `free`, directions and `deviation`, all weighted by variance, over p = 1 + w parts of a picture."""
        rows = torch.cat([free, frame.forms.flatten(0, 1), deviation])
        return inner_products(rows * (1 + frame.candidate.variance).rsqrt(), self.space.windows)

    def _doses(self, mixture: Mixture) -> Float[Tensor, "k n j"]:
        """Doses of k (1 + w) problems: the larger of the whole picture's and its windows' times their area."""
        count, size = self.space.windows.shape
        sizes = torch.tensor([self.noise.layout.size] + [size] * count).repeat(len(mixture.gram) // (1 + count))
        found = mixture.doses(sizes[:, None]).unflatten(0, (-1, 1 + count))
        return torch.maximum(found[:, 0], WINDOW_AREA * found[:, 1:].amax(1))

    def _with_clean_answers(self, made: LeakFrame, frame: SourceFrame, returned: Float[Tensor, "3 h w"] | None) -> LeakFrame:
        """`made` with right answers under nuisance; each draw of a random effect is judged by the others."""
        truths = frame.truths[made.asked]
        if len(truths) > 1:
            draws = frame.draws[frame.labels.index(made.asked)]
            return replace(made, baseline=self._left_out_readings(made, draws, self._noisy(truths, made.asked)).amax(0))
        known = truths if returned is None else torch.cat([truths, returned[None]])
        return replace(made, clean=self._noisy(known.repeat(CLEAN_ANSWERS // len(known), 1, 1, 1), made.asked))

    def _noisy(self, answers: Float[Tensor, "k 3 h w"], asked: str) -> Float[Tensor, "k d"]:
        return self.see(apply_nuisance(answers, [seed_from("clean answer", asked, n) for n in range(len(answers))]))

    def _limits(self, candidates: Sequence[Candidate], draws: Sequence[Float[Tensor, "_k d"]]) -> Float[Tensor, " labels"]:
        """`SourceFrame.limit`; the source's own reach is the median of the others."""
        layout, home = self.noise.layout, candidates[-1].centre[None]
        reach = torch.cat([distances(home, candidate, layout) for candidate in candidates])
        reach[-1] = reach[:-1].median() if len(reach) > 1 else math.inf
        spread = torch.zeros_like(reach)
        for number, (candidate, drawn) in enumerate(zip(candidates, draws, strict=True)):
            if len(drawn) > 1:
                deviation, across = judged_by_others(drawn, candidate.tangents[:TANGENTS])
                spread[number] = _lengths(deviation, across, candidate.levels, layout).max()
        limits = self.thresholds
        return torch.maximum(limits.reach * reach, limits.spread * spread).clamp_min(limits.nuisance)

    def _direction(self, draws: Float[Tensor, "k d"]) -> Float[Tensor, " d"]:
        """The mean of the directions of draws, each channel shrunk by what is mere chance in it."""
        mean = draws.mean(0)
        if len(draws) == 1:
            return mean
        chance = pool_channels(draws.var(0), self.noise.layout) / len(draws)
        power = pool_channels(mean**2, self.noise.layout).clamp_min(1e-12)
        return mean * (1 - chance / power).clamp_min(0)


def distances(whitened: Float[Tensor, "n d"], candidate: Candidate, layout: Layout) -> Float[Tensor, " n"]:
    """Distance of whitened features to a candidate: exp of half its mean negative log likelihood.

    The deviation is Gaussian with variance ``s + candidate.variance`` along every feature and free tangents; the common
    noise s is the one that suits the output best, so a poor model is not sent to the effect with the widest spread. For
    a candidate with a single draw the distance is the root mean square of the deviation.
    """
    deviation = whitened - candidate.centre
    return _lengths(deviation, project_out(deviation, candidate.tangents), candidate.levels, layout)


def _lengths(
    deviation: Float[Tensor, "n d"], across: Float[Tensor, "n d"], levels: Levels, layout: Layout
) -> Float[Tensor, " n"]:
    """The distances of deviations of which `across` is left beside the tangents."""
    along = (across * (deviation - across)).mean(1, keepdim=True)  # the price of the moves along the tangents
    likelihood = (channel_means(across**2, layout) + along) @ levels.weights + levels.price
    return (likelihood.amin(1) / 2 - 0.5).exp()


def confusion(asked: Sequence[str], found: Sequence[str], effects: Sequence[str]) -> Int[Tensor, "n n+2"]:
    """Counts: rows asked effects, columns effects, then "source" and "none"."""
    column = {name: number for number, name in enumerate((*effects, SOURCE, NONE))}
    counts = torch.zeros((len(effects), len(effects) + 2), dtype=torch.int64)
    for row, label in zip(asked, found, strict=True):
        counts[column[row], column[label]] += 1
    return counts
