"""The learner of one adapter: what its running average costs."""

from __future__ import annotations

import pytest
import torch

from reference_trainer.learner import Learner


def versions(parameters):
    """torch counts every in-place change; merged weights are kept as long as it stands still."""
    return [p._version for p in parameters.values()]


def test_without_an_average_nothing_is_copied_nor_written(make_backbone, make_inputs, monkeypatch):
    backbone = make_backbone()
    learner = Learner(backbone, "student", 1e-3, 1.0)
    inputs = make_inputs(2)
    with torch.no_grad():
        before = backbone.predict(inputs, "student")
        merged = {key: kept[1] for key, kept in backbone.paths.merged.items()}
        began = versions(learner.parameters)
        monkeypatch.setattr(torch.Tensor, "clone", None)
        with learner.averaged():
            inside = backbone.predict(inputs, "student")
    assert versions(learner.parameters) == began and torch.equal(before, inside)
    assert merged and all(backbone.paths.merged[key][1] is weight for key, weight in merged.items())


def test_with_an_average_it_is_carried_inside_and_the_parameters_come_back(make_backbone):
    learner = Learner(make_backbone(), "student", 1e-3, 1.0, ema=0.5)
    with torch.no_grad():
        for parameter in learner.parameters.values():
            parameter.add_(1)
    learner._follow()
    before, average = ({key: p.detach().clone() for key, p in held.items()} for held in (learner.parameters, learner.average))
    with pytest.raises(KeyError), learner.averaged():
        assert all(torch.equal(p, average[key]) for key, p in learner.parameters.items())
        assert not any(torch.equal(p, before[key]) for key, p in learner.parameters.items())
        raise KeyError
    assert all(torch.equal(p, before[key]) for key, p in learner.parameters.items())
    assert all(torch.equal(value, average[key]) for key, value in learner.average.items())
