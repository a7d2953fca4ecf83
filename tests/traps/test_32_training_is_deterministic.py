"""Trap 32: training a tokenizer twice gave two tokenizers (huggingface/tokenizers#2066, karpathy/minbpe#90), or a
silently bad one (huggingface/tokenizers#2057, #888, #1170).

Guard: ties are broken by the older pieces and nothing depends on the order of texts, hash seeds or workers.
"""

import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest

from instar.text import Tokenizer
from instar.text.vocabulary import BYTE_OF

TEXTS = [
    "low lower lowest newer wider new wide the cat the cow she sells sea shells by the sea shore",
    "猴王看见猴子,猴子看见猴王。天地之间有一个球,球在花园里,王明有红色的球。",
    "banana bandana ananas 2024 2025 aaaa aaa  \n\n  x = f(x)\n",
]
CODE = (
    "import sys; from instar.text import Tokenizer\n"
    f"texts = {TEXTS!r} * 40\n"
    "texts = texts[::-1] if sys.argv[1] == 'backwards' else texts\n"
    "print(Tokenizer.train(texts, 448).fingerprint)"
)


def fingerprint(order, hash_seed, threads):
    """Train in a process of its own."""
    environment = os.environ | {
        "PYTHONHASHSEED": hash_seed,
        "RAYON_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false" if threads == "1" else "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE, order], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_same_for_every_hash_seed_worker_count_and_order():
    """Four processes that differ in all three give one fingerprint."""
    runs = [("forwards", "0", "1"), ("forwards", "1", "2"), ("backwards", "2", "1"), ("backwards", "3", "4")]
    assert len({fingerprint(*run) for run in runs}) == 1


def naive(words, size, cap):
    """Byte-pair encoding as the paper tells it: count all pairs, merge the most frequent, begin again."""
    letters = sorted(BYTE_OF)
    ids = {letter: number for number, letter in enumerate(letters)}
    spelt = {word: list(word) for word in words}
    merges = []
    while len(ids) < size:
        pairs = Counter()
        for word, count in words.items():
            for pair in pairwise(spelt[word]):
                if len(pair[0] + pair[1]) <= cap:
                    pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], ids[pair[0]], ids[pair[1]]))
        merges.append(best)
        ids.setdefault("".join(best), len(ids))
        for word, pieces in spelt.items():
            spelt[word] = merge(pieces, best)
    return ids, merges


def merge(pieces, pair):
    """Replace a pair by its join, from the left. Example: merge([a, b, a, b], (a, b)) -> [ab, ab]"""
    merged = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair and not isinstance(merged[-1], Joined):
            merged[-1] = Joined(merged[-1] + piece)
        else:
            merged.append(piece)
    return [str(piece) for piece in merged]


class Joined(str):
    """A piece that was merged in this round, and is not merged again in it."""


@pytest.mark.parametrize("split", ["qwen2", "llama-bpe"])
@pytest.mark.parametrize("cap", [4, 16])
def test_equals_a_naive_trainer(split, cap):
    """The vocabulary and its merges are those of a trainer of twenty lines that counts everything anew each time."""
    trained = Tokenizer.train(TEXTS, 448, split=split, max_token_bytes=cap)
    cutter = trained.vocabulary.encoder.pre_tokenizer
    words = Counter(word for text in TEXTS for word, _ in cutter.pre_tokenize_str(text))
    ids, merges = naive(words, 448 - 4, cap)
    assert trained.vocabulary.merges == merges
    assert {piece: id for piece, id in trained.vocabulary.ids.items() if piece not in trained.specials} == ids
