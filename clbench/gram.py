"""gram.json: how alike the prompts of a suite's effects are to the backbone's own text encoders.

Orthogonal prompting rests on triggers that the text encoders keep apart; captions of similar effects are alike by nature.
The file stands beside the runs and holds, for each space of embeddings and each kind of prompt, the Gram matrix of cosines
and its coherence, plain and with the mean of all prompts taken out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clbench.backbones import Backbone
from clbench.metrics.gram import centred, coherence, cosines
from clbench.registry import ClbenchError
from clbench.results import replace_bytes
from clbench.types import Effect

GRAM_SCHEMA = 1
FILE = "gram.json"
DIGITS = 6
KINDS: Mapping[str, Callable[[Effect], str]] = {
    "captions": lambda effect: effect.caption,
    "triggers": lambda effect: effect.trigger,
    "trigger + caption": lambda effect: effect.student_prompt,
    "instructions": lambda effect: effect.instruction,
}


def prompt_gram(backbone: Backbone, effects: Sequence[Effect]) -> dict[str, Any]:
    """The content of gram.json. ClbenchError for a backbone whose prompts cannot be embedded without a picture."""
    spaces: dict[str, dict[str, Any]] = {}
    for kind, words in KINDS.items():
        for space, vectors in backbone.prompt_vectors([words(effect) for effect in effects]).items():
            spaces.setdefault(space, {})[kind] = _described(vectors, [effect.id for effect in effects])
    return {"schema": GRAM_SCHEMA, "effects": [effect.id for effect in effects], "spaces": spaces}


def write_gram(out: Path, backbone: Backbone, effects: Sequence[Effect]) -> Path:
    """Write gram.json into `out`; the same prompts and text encoders give the same bytes on one machine."""
    target = out / FILE
    text = json.dumps(prompt_gram(backbone, effects), ensure_ascii=False, allow_nan=False)
    replace_bytes(target, (text + "\n").encode())
    return target


def read_gram(folder: Path) -> dict[str, Any] | None:
    """The content of gram.json in `folder`, None where there is none; ClbenchError if it is broken or of a newer schema."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ClbenchError(f"{file} is not valid JSON: {error}") from error
    version = found.get("schema") if isinstance(found, dict) else None
    if not isinstance(version, int) or version > GRAM_SCHEMA:
        raise ClbenchError(f"{file} has schema {version}; this clbench reads up to {GRAM_SCHEMA}")
    return found


def _described(vectors: np.ndarray, ids: Sequence[str]) -> dict[str, Any]:
    gram = cosines(vectors)
    return {"gram": np.round(gram, DIGITS).tolist(), **_numbers(gram, ids), "centred": _numbers(cosines(centred(vectors)), ids)}


def _numbers(gram: np.ndarray, ids: Sequence[str]) -> dict[str, Any]:
    found = coherence(gram)
    between = None if found.between is None else [ids[place] for place in found.between]
    numbers = {"mean": found.mean, "largest": found.largest, "effective_rank": found.effective_rank}
    finite = {name: round(value, DIGITS) if math.isfinite(value) else None for name, value in numbers.items()}
    return finite | {"between": between}
