"""Tokenizers and small text encoders of the tiny base, in the classes that FluxKontextPipeline expects."""

from __future__ import annotations

import collections
import json
import re
import string
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from reference_trainer.pretrain_config import TextConfig

# Every character that a user may type is a token of its own, so nothing in ASCII is ever unknown.
CHARACTERS = string.ascii_letters + string.digits + string.punctuation
SYLLABLES = [c + v for c in "bcdfghjklmnpqrstvwxyz" for v in "aeiou"] + [f"{n:02d}" for n in range(100)] + ["\u2581<"]


def words_of(corpus: Sequence[str]) -> dict[str, int]:
    """Lower-case words of `corpus` with their counts, most frequent first."""
    counts = collections.Counter(word for line in corpus for word in re.findall(r"[a-z]+", line.lower()))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def unigram_tokenizer(corpus: Sequence[str], config: TextConfig) -> T5TokenizerFast:
    """A T5 (Unigram) tokenizer that gives every word of `corpus` one token.

    Scores are chosen, not learned, so that the longest known piece always wins: words, then syllables (they keep
    made-up triggers short), then characters.
    """
    counts = words_of(corpus)
    words = list(counts)[: config.vocab]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -30.0)]
    vocab += [("\u2581" + word, -2.0) for word in words]
    vocab += [(piece, -6.0) for piece in SYLLABLES] + [("\u2581", -10.0)] + [(c, -10.0) for c in CHARACTERS]
    return T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=config.max_length)


def bpe_tokenizer(corpus: Sequence[str], config: TextConfig) -> CLIPTokenizer:
    """A CLIP tokenizer (byte-pair merges with an end-of-word mark) learned from the words of `corpus`."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=2 * config.vocab,  # enough to merge every word whole
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(words_of(corpus)), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab = dict(model["vocab"])
    for character in CHARACTERS.translate(str.maketrans("", "", string.ascii_uppercase)):
        vocab.setdefault(character, len(vocab))
        vocab.setdefault(character + "</w>", len(vocab))
    return CLIPTokenizer(
        vocab=vocab, merges=[tuple(pair) for pair in model["merges"]], model_max_length=config.pooled_length
    )


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
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    return model.eval()


def token_lengths(tokenizer: T5TokenizerFast | CLIPTokenizer, prompts: Sequence[str]) -> torch.Tensor:
    """Number of tokens of each prompt, end mark included."""
    return torch.tensor([len(tokenizer(prompt).input_ids) for prompt in prompts])
