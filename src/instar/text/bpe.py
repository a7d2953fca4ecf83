"""Learning a byte-level BPE vocabulary with the tokenizers library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from ..config import InputError, unknown
from .vocabulary import BYTE_OF, library, require_text

Split = Literal["qwen2", "llama-bpe"]

# How text is cut into words before merging. llama.cpp has these two built in under these names, to the letter; a GGUF
# file can only name a pattern, not carry one. They differ in digits: one by one, or up to three together.
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS = {"qwen2": _PATTERN.replace("DIGITS", r"\p{N}"), "llama-bpe": _PATTERN.replace("DIGITS", r"\p{N}{1,3}")}

# the common Chinese characters, which a regular expression of Python cannot name
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]+")


def train(
    texts: Iterable[str],
    size: int,
    *,
    max_token_bytes: int,
    split: str,
    single_han: bool = False,
    words: Iterable[str] = (),
) -> dict[str, Any]:
    """Learn `size` pieces at most: the 256 bytes, then merges by falling count, ties by the older pieces.

    `single_han`: no piece reaches over the edge of a Chinese character, so that a word is the same pieces whatever
    stands beside it. In a small vocabulary pairs of bytes from two characters are frequent and would be merged.
    `words`: nor over the edge of these words, the longest first; merges inside them are learnt, so that a frequent one
    becomes one piece, and the rest of the Chinese stays single characters.

    Returns the contents of a tokenizer.json without control tokens. Raises InputError for an unknown split, a cap
    below two bytes or a text that is no Unicode.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if max_token_bytes < 2:
        raise InputError(f"max_token_bytes={max_token_bytes}, wanted at least 2")
    chinese = sorted({word for word in words if _HAN.fullmatch(word)}, key=lambda word: (-len(word), word))
    edges = "|".join([*chinese, r"\p{Han}"]) if single_han or chinese else ""
    learner = Library(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLITS[split]), behavior="isolated"),
            *([pre_tokenizers.Split(Regex(edges), behavior="isolated")] if edges else []),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=list(BYTE_OF),
        # tokens stay below this many letters, and a letter of the alphabet is a byte
        max_token_length=max_token_bytes + 1,
        show_progress=False,
    )
    with library("training the tokenizer failed"):
        learner.train_from_iterator(_checked(texts), trainer)
    spec: dict[str, Any] = json.loads(learner.to_str())
    if edges:  # needed for learning alone: no merge reaches so far
        del spec["pre_tokenizer"]["pretokenizers"][1]
    return spec


def shorten(spec: Mapping[str, Any], size: int) -> dict[str, Any]:
    """A trained vocabulary of at most `size` pieces, as training would leave it: greedy choices stay the same."""
    model = spec["model"]
    vocabulary = {piece: number for piece, number in model["vocab"].items() if number < size}
    merges: list[Any] = []
    for merge in model["merges"] if size > len(BYTE_OF) else ():
        merges.append(merge)
        if vocabulary.get("".join(merge)) == size - 1:
            break
    return {**spec, "model": {**model, "vocab": vocabulary, "merges": merges}}


def _checked(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        require_text(text, f"text {number}")
        yield text
