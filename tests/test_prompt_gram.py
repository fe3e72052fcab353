"""gram.json by the text encoders of a small pipeline."""

from __future__ import annotations

import json

import numpy as np

from clbench.backbones import open_backbone
from clbench.gram import KINDS, write_gram


def test_gram_of_a_world(mini_world, tmp_path):
    effects = list(mini_world.effects.values())
    backbone = open_backbone(mini_world)
    found = json.loads(write_gram(tmp_path, backbone, effects).read_text())
    assert found["effects"] == ["sepia", "upside_down"] and set(found["spaces"]) == {"pooled", "tokens"}
    for kinds in found["spaces"].values():
        assert set(kinds) == set(KINDS)
        for told in kinds.values():
            gram = np.array(told["gram"])
            assert gram.shape == (2, 2) and np.allclose(gram, gram.T) and np.allclose(np.diag(gram), 1)
            assert told["largest"] == abs(gram[0, 1]) and told["between"] == ["sepia", "upside_down"]
    before = (tmp_path / "gram.json").read_bytes()
    assert write_gram(tmp_path, backbone, effects).read_bytes() == before


def test_padding_does_not_count(mini_world):
    backbone = open_backbone(mini_world)
    one = backbone.prompt_vectors(["abc"])
    both = backbone.prompt_vectors(["abc", "a much longer prompt"])
    for space in one:
        np.testing.assert_allclose(one[space][0], both[space][0], rtol=1e-5)
