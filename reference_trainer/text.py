"""Tokenizers and small text encoders of the tiny base, in the classes that FluxKontextPipeline expects."""

from __future__ import annotations

import collections
import re
import string
from collections.abc import Iterable, Sequence
from itertools import pairwise

from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast  # type: ignore[attr-defined]

from reference_trainer.pretrain_config import TextConfig

# Every character that a user may type is a token of its own, so nothing in ASCII is ever unknown.
CHARACTERS = string.ascii_letters + string.digits + string.punctuation
SYLLABLES = [c + v for c in "bcdfghjklmnpqrstvwxyz" for v in "aeiou"] + [f"{n:02d}" for n in range(100)] + ["\u2581<"]


def words_of(corpus: Sequence[str]) -> dict[str, int]:
    """Lower-case words of `corpus` with their counts, most frequent first."""
    counts = collections.Counter(word for line in corpus for word in re.findall(r"[a-z]+", line.lower()))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def unigram_tokenizer(corpus: Sequence[str], vocab_size: int, max_length: int) -> T5TokenizerFast:
    """A T5 (Unigram) tokenizer that gives each of the most frequent words of `corpus` one token.

    Scores are chosen, not learned, so that the longest known piece always wins: words, then syllables (they keep
    made-up triggers short), then characters.
    """
    counts = words_of(corpus)
    words = list(counts)[:vocab_size]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -30.0)]
    vocab += [("\u2581" + word, -2.0) for word in words]
    vocab += [(piece, -6.0) for piece in SYLLABLES] + [("\u2581", -10.0)] + [(c, -10.0) for c in CHARACTERS]
    return T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=max_length)


def bpe_tokenizer(corpus: Sequence[str], config: TextConfig) -> CLIPTokenizer:
    """A CLIP tokenizer (byte-pair merges with an end-of-word mark) learned from the words of `corpus`."""
    merges = learn_merges(words_of(corpus), 2 * config.vocab)
    characters = [c for c in CHARACTERS if c not in string.ascii_uppercase]
    tokens = ["<|startoftext|>", "<|endoftext|>", *characters, *(c + "</w>" for c in characters)]
    tokens += [left + right for left, right in merges]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=config.pooled_length)  # type: ignore[arg-type]


def learn_merges(words: Iterable[str], most: int) -> list[tuple[str, str]]:
    """Byte-pair merges, the most frequent pair first and ties in alphabetical order.

    `tokenizers` breaks ties differently in every process; a resumed training needs the same numbers again.
    """
    pieces = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    where: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for word, parts in pieces.items():
        for pair in pairwise(parts):
            counts[pair] += 1
            where[pair].add(word)
    merges: list[tuple[str, str]] = []
    while counts and len(merges) < most:
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        for word in sorted(where[best]):
            counts.subtract(pairwise(pieces[word]))
            pieces[word] = _merged(pieces[word], best)
            counts.update(pairwise(pieces[word]))
            for pair in pairwise(pieces[word]):
                where[pair].add(word)
        counts = +counts
    return merges


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def build_t5(config: TextConfig, tokenizer: T5TokenizerFast) -> T5EncoderModel:
    """The sequence encoder (joint attention): one vector of `t5_width` per token."""
    model = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=config.t5_width,
            d_kv=config.t5_width // config.t5_heads,
            d_ff=config.t5_width * 3,
            num_layers=config.t5_layers,
            num_heads=config.t5_heads,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    return model.eval()


def build_clip_text(config: TextConfig, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The pooled encoder (modulation): one vector of `clip_width` per prompt."""
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.clip_width,
            intermediate_size=config.clip_width * 3,
            num_hidden_layers=config.clip_layers,
            num_attention_heads=config.clip_heads,
            max_position_embeddings=config.pooled_length,
            projection_dim=config.clip_width,
            pad_token_id=tokenizer.pad_token_id,  # type: ignore[arg-type]
            bos_token_id=tokenizer.bos_token_id,  # type: ignore[arg-type]
            eos_token_id=tokenizer.eos_token_id,  # type: ignore[arg-type]
        )
    )
    return model.eval()
