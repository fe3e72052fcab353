"""Planted answers for the bleeding meter, with effects of the tests' own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from metric_toys import EFFECTS, RANDOM, composed, picture, toy_meter, truths
from scipy.stats import spearmanr

from clbench.metrics import METRICS
from clbench.metrics.bleeding import NONE, SOURCE, confusion
from clbench.metrics.nuisance import apply_nuisance
from clbench.types import seed_from

SOURCES = (1, 2, 3)
PAIRS = (("sepia", "duotone"), ("duotone", "sepia"), ("pixelate", "sepia"), ("upside_down", "edges"), ("sepia", "scanlines"))


@pytest.fixture(scope="module")
def meter():
    return toy_meter()


@pytest.fixture(scope="module")
def frames(meter):
    return {s: meter.source_frame(picture(s), truths(picture(s))) for s in SOURCES}


@pytest.fixture(scope="module")
def leak_frames(meter, frames):
    asked = {i for i, _ in PAIRS}
    return {(s, i): meter.leak_frame(frames[s], i, composed(picture(s), i)) for s in SOURCES for i in asked}


def noisy(images, *key):
    return apply_nuisance(images, [seed_from(*key, n) for n in range(len(images))])


def plant(form: str, source, asked: str, other: str, dose: float):
    """An output asked for `asked` with a share of `other` in it."""
    right = EFFECTS[asked](source, 100)
    if form == "add":
        return (right + dose * (EFFECTS[other](source, 101) - source)).clamp(0, 1)
    full = EFFECTS[other](right, 101)
    if form == "compose":
        return right + dose * (full - right)
    side = round(64 * dose**0.5)
    mixed = right.clone()
    mixed[:, 20 : 20 + side, 10 : 10 + side] = full[:, 20 : 20 + side, 10 : 10 + side]
    return mixed


def leaks(meter, frame, other, images):
    return meter.leak(frame, meter.see(images))[:, frame.others.index(other)]


def test_true_outputs_with_nuisance_are_attributed_to_their_effect(meter, frames):
    asked, found = [], []
    for s in SOURCES:
        outputs = noisy(torch.stack([EFFECTS[n](picture(s), 100) for n in EFFECTS]), "true", s)
        distance = meter.distances(frames[s], meter.see(outputs))
        asked += list(EFFECTS)
        found += meter.attribute(frames[s], distance)
        for number, name in enumerate(EFFECTS):
            assert meter.success(frames[s], name, distance)[number] == 1
    counts = confusion(asked, found, list(EFFECTS))
    assert counts.shape == (len(EFFECTS), len(EFFECTS) + 2)
    assert counts.diagonal().sum() == len(asked)


def test_the_source_is_the_source_and_never_a_success(meter, frames):
    for s in SOURCES:
        distance = meter.distances(frames[s], meter.see(noisy(picture(s)[None], "identity", s)))
        assert meter.attribute(frames[s], distance) == [SOURCE]
        assert all(meter.success(frames[s], name, distance)[0] == 0 for name in EFFECTS)


def test_a_wrong_effect_is_that_effect_and_leaks_wholly(meter, frames, leak_frames):
    for s in SOURCES:
        wrong = EFFECTS["duotone"](picture(s))[None]
        distance = meter.distances(frames[s], meter.see(wrong))
        assert meter.attribute(frames[s], distance) == ["duotone"]
        assert meter.success(frames[s], "sepia", distance)[0] == 0
        assert leaks(meter, leak_frames[s, "upside_down"], "edges", EFFECTS["edges"](picture(s))[None])[0] > 0.3


def test_noise_is_none_of_them(meter, frames):
    pictures = torch.rand((4, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    assert meter.attribute(frames[1], meter.distances(frames[1], meter.see(pictures))) == [NONE] * 4


def auc(planted, clean) -> float:
    planted, clean = np.ravel(planted)[:, None], np.ravel(clean)[None]
    return float(((planted > clean) + 0.5 * (planted == clean)).mean())


@pytest.mark.parametrize("form", ["add", "compose", "region"])
def test_leak_rises_with_its_dose_and_is_seen_at_twenty_percent(meter, leak_frames, form):
    doses, planted, clean = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8), [], []
    for asked, other in PAIRS:
        curves = []
        for s in SOURCES:
            outputs = torch.stack([plant(form, picture(s), asked, other, d) for d in doses])
            curves.append(leaks(meter, leak_frames[s, asked], other, noisy(outputs, form, asked, other, s)).numpy())
            same = outputs[:1].expand(4, -1, -1, -1)
            clean.append(leaks(meter, leak_frames[s, asked], other, noisy(same, "clean", form, asked, other, s)).numpy())
        curve = np.mean(curves, 0)
        assert spearmanr(curve, doses).statistic >= 0.9, (asked, other, curve)
        planted.append([row[3] for row in curves])
    assert auc(planted, clean) >= 0.95
    assert auc(np.mean(planted, 1), np.mean(np.reshape(clean, (len(PAIRS), -1)), 1)) >= 0.99


def test_clean_outputs_read_about_zero(meter, leak_frames):
    cells = {}
    for (s, asked), frame in leak_frames.items():
        outputs = EFFECTS[asked](picture(s), 100)[None].expand(6, -1, -1, -1)
        found = meter.leak(frame, meter.see(noisy(outputs, "zero", s, asked)))
        cells.setdefault(asked, []).append(found.mean(0).numpy())
    means = np.concatenate([np.mean(found, 0) for found in cells.values()])
    assert means.mean() < 0.003
    assert (means > 0.02).mean() <= 0.01


def test_dose_is_zero_for_the_source_and_one_for_the_truth(meter, leak_frames):
    for (s, asked), frame in leak_frames.items():
        source, right = picture(s), EFFECTS[asked](picture(s), 0)
        outputs = torch.stack([source, (source + right) / 2, right])
        dose = meter.dose(frame, meter.see(outputs))
        assert dose[0] == pytest.approx(0, abs=1e-3)
        assert 0.1 < dose[1] < 0.9
        if asked not in RANDOM:
            assert dose[2] == pytest.approx(1, abs=1e-3)


def test_a_failed_effect_is_no_leak(meter, leak_frames):
    for (s, _asked), frame in leak_frames.items():
        seen = meter.see(noisy(picture(s)[None], "untouched", s))
        assert meter.leak(frame, seen).sum() < 0.3


def test_order_and_batch_size_change_nothing(meter, frames, leak_frames):
    outputs = noisy(torch.stack([EFFECTS[n](picture(1), 100) for n in EFFECTS]), "batch")
    seen = meter.see(outputs)
    order = torch.tensor([5, 2, 0, 7, 1, 6, 3, 4])
    frame = leak_frames[1, "sepia"]
    questions = {
        "attribution_distance": lambda x: meter.distances(frames[1], x), "leak": lambda x: meter.leak(frame, x),
        "dose": lambda x: meter.dose(frame, x),
    }  # fmt: skip
    for name, ask in questions.items():
        whole, tolerance = ask(seen), METRICS.get(name).tolerance
        torch.testing.assert_close(ask(meter.see(outputs[order])), whole[order], rtol=0, atol=tolerance)
        single = torch.cat([ask(meter.see(outputs[n : n + 1])) for n in range(len(outputs))])
        torch.testing.assert_close(single, whole, rtol=0, atol=tolerance)


def test_leaks_of_several_frames_are_those_of_each(meter, leak_frames):
    """Whatever the number of outputs of each."""
    asked = [
        (leak_frames[1, name], meter.see(noisy(torch.stack([EFFECTS[n](picture(1), 100) for n in list(EFFECTS)[:count]]), name)))
        for name, count in zip(("sepia", "pixelate", "upside_down"), (1, 5, 3), strict=True)
    ]
    for found, (frame, seen) in zip(meter.leaks(asked), asked, strict=True):
        torch.testing.assert_close(found, meter.leak(frame, seen), rtol=0, atol=1e-9)
    assert meter.leaks([]) == []
    with pytest.raises(ValueError, match="different numbers"):
        meter.leaks([asked[0], (replace(asked[1][0], others=("one",)), asked[1][1])])


def test_the_order_of_effects_changes_nothing(meter, frames):
    names = list(reversed(EFFECTS))
    other = meter.source_frame(picture(1), truths(picture(1), names))
    seen = meter.see(noisy(torch.stack([EFFECTS[n](picture(1), 100) for n in EFFECTS]), "effects"))
    straight, turned = meter.distances(frames[1], seen), meter.distances(other, seen)
    columns = [other.labels.index(label) for label in frames[1].labels]
    torch.testing.assert_close(turned[:, columns], straight, rtol=1e-6, atol=1e-6)


def test_without_composed_truths_the_added_form_still_works(meter, frames):
    frame = meter.leak_frame(frames[1], "sepia", {})
    outputs = torch.stack([plant("add", picture(1), "sepia", "edges", d) for d in (0.0, 0.3)])
    clean, leaky = leaks(meter, frame, "edges", noisy(outputs, "no operators"))
    assert clean < 0.02 < 0.1 < leaky


def test_what_the_vae_changes_is_no_leak(meter, frames):
    softened = torch.nn.functional.avg_pool2d(EFFECTS["sepia"](picture(1))[None], 3, 1, 1)[0]
    known = meter.leak_frame(frames[1], "sepia", composed(picture(1), "sepia"), softened)
    unknown = meter.leak_frame(frames[1], "sepia", composed(picture(1), "sepia"))
    seen = meter.see(noisy(softened[None], "softened"))
    assert meter.leak(known, seen).sum() < 0.02 < meter.leak(unknown, seen).sum()


def test_reserved_names_are_refused(meter):
    with pytest.raises(ValueError, match="source"):
        meter.source_frame(picture(1), {SOURCE: picture(1)[None]})
