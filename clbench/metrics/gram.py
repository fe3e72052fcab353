"""How alike a set of vectors is: Gram matrix of cosines and what it says in a few numbers (floor 1, pure numpy)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64


@dataclass(frozen=True, slots=True)
class Coherence:
    """`mean` and `largest` absolute cosine of two different vectors, and `between` which two the largest is.

    `largest` is the mutual coherence (Donoho and Huo, IEEE TIT 47, 2001): 0 for orthogonal vectors, 1 for two alike.
    `effective_rank` is exp of the entropy of the Gram matrix's normalised eigenvalues (Roy and Vetterli, EUSIPCO
    2007): N for N orthogonal vectors, 1 for N alike. NaN, and no pair, for fewer than two vectors.
    """

    mean: float
    largest: float
    between: tuple[int, int] | None
    effective_rank: float


def cosines(vectors: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n n"]:
    """Gram matrix of the unit vectors along the rows of `vectors`; a zero row has cosine 0 to all others."""
    rows = np.asarray(vectors, dtype=np.float64)
    unit = _unit(rows)
    gram = np.clip(unit @ unit.T, -1.0, 1.0)
    np.fill_diagonal(gram, 1.0)
    return gram


def centred(vectors: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
    """`vectors` without their mean: what all prompts share says nothing about how they differ."""
    rows = np.asarray(vectors, dtype=np.float64)
    return rows - rows.mean(axis=0, keepdims=True)


def coherence(gram: Float64[np.ndarray, "n n"]) -> Coherence:
    """The numbers of a Gram matrix of cosines."""
    count = len(gram)
    if count < 2:
        return Coherence(float("nan"), float("nan"), None, float("nan"))
    apart = np.abs(gram[~np.eye(count, dtype=bool)])
    upper = np.abs(np.triu(gram, 1))
    row, column = np.unravel_index(int(upper.argmax()), upper.shape)
    shares = np.clip(np.linalg.eigvalsh(gram), 0, None) / count
    shares = shares[shares > 1e-12]
    rank = float(np.exp(-(shares * np.log(shares)).sum()))
    return Coherence(float(apart.mean()), float(apart.max()), (int(row), int(column)), rank)


@dataclass(frozen=True, slots=True)
class Separation:
    """How far apart vectors are: mean and largest |cosine| of two of them, and the largest with their mean taken out."""

    mean: float
    largest: float
    largest_centred: float

    @staticmethod
    def mean_of(parts: Sequence[Separation]) -> Separation:
        """Each number's mean over several sets of vectors."""
        rows = np.array([[part.mean, part.largest, part.largest_centred] for part in parts])
        return Separation(*rows.mean(axis=0).tolist())


def separation(vectors: Float[np.ndarray, "n d"]) -> Separation:
    """The numbers of vectors; NaN for fewer than two."""
    plain, apart = coherence(cosines(vectors)), coherence(cosines(centred(vectors)))
    return Separation(plain.mean, plain.largest, apart.largest)


def joined(spaces: Mapping[str, Float[np.ndarray, "n _d"]]) -> Float64[np.ndarray, "n all"]:
    """One unit vector for each row of all `spaces`, with equal weights: its cosines are the means of theirs."""
    units = [_unit(np.asarray(vectors, dtype=np.float64)) for vectors in spaces.values()]
    return np.concatenate(units, axis=1) / np.sqrt(len(units))


def least_coherent(candidates: Float[np.ndarray, "k d"], chosen: Float[np.ndarray, "n _d"]) -> int:
    """Index of the unit vector of `candidates` with the smallest largest |cosine| to those `chosen`, n >= 0."""
    if not len(chosen):
        return 0
    return int(np.abs(candidates @ chosen.T).max(axis=1).argmin())


def _unit(rows: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
