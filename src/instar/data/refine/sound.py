"""Texts that datatrove's Gopher filters would certainly let go on, found several times as fast as by asking them.

Most texts are sound. So words are counted once instead of being looked at one by one, and runs of words are compared by
hashes of numpy instead of as strings. Where a text is not certainly sound the filter itself is asked, so that its
verdict stands, whatever it is.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.gopher_repetition_filter import find_duplicates
from datatrove.utils.text import PUNCTUATION_SET, split_into_words
from numpy.typing import NDArray

from .words import Words

# odd, so that multiplying by it loses nothing of 64 bits
FACTOR = np.uint64(0x9E3779B97F4A7C15)
WORDS = Words()


def words_are_sound(text: str, limits: GopherQualityFilter) -> bool:
    """Whether no limit of GopherQualityFilter is passed."""
    counts = Counter(split_into_words(text, WORDS))
    said = {word: count for word, count in counts.items() if not PUNCTUATION_SET.issuperset(word)}
    number = sum(said.values())
    if not number or number < (limits.min_doc_words or 0) or number > (limits.max_doc_words or number):
        return False
    mean = sum(len(word) * count for word, count in said.items()) / number
    if mean < (limits.min_avg_word_length or 0) or mean > (limits.max_avg_word_length or mean):
        return False
    total = counts.total()
    signs = max(text.count("#"), text.count("...") + text.count("…")) / total
    if signs > (limits.max_symbol_word_ratio or signs):
        return False
    lines = text.splitlines()
    bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines)
    if bullets > (limits.max_bullet_lines_ratio or bullets):
        return False
    ends = sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines)
    if ends > (limits.max_ellipsis_lines_ratio or ends):
        return False
    letters = sum(count for word, count in counts.items() if word.isalpha() or any(map(str.isalpha, word))) / total
    if letters < (limits.max_non_alpha_words_ratio or 0):
        return False
    return len(limits.stop_words & counts.keys()) >= (limits.min_stop_words or 0)


def runs_are_sound(text: str, limits: GopherRepetitionFilter) -> bool:
    """Whether no limit of GopherRepetitionFilter is passed, and by far none of its limits of repeated runs: it compares
    those without the blanks in them, so that what is spaced otherwise is the same to it, and not to us."""
    if not text:
        return False
    for parts, share, characters in (
        (limits.paragraph_exp.split(text.strip()), limits.dup_para_frac, limits.dup_para_char_frac),
        (limits._line_splitter.split(text), limits.dup_line_frac, limits.dup_line_char_frac),
    ):
        count, size = find_duplicates(parts)
        if (share and count / len(parts) > share) or (characters and size / len(text) > characters):
            return False
    words = split_into_words(text, WORDS)
    numbers = np.fromiter(map(hash, words), dtype=np.int64, count=len(words)).view(np.uint64)
    for n, most in limits.top_n_grams:
        if len(words) >= n and _top(words, _runs(numbers, n), n) / len(text) > most:
            return False
    if not limits.dup_n_grams:
        return True
    shortest, least = min(n for n, _ in limits.dup_n_grams), min(most for _, most in limits.dup_n_grams)
    return len(words) < shortest or _covered(words, _runs(numbers, shortest), shortest) / len(text) <= least / 2


def _runs(numbers: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """One hash for each run of n words: a polynomial of theirs, mixed."""
    total = numbers[: len(numbers) - n + 1].copy()
    for place in range(1, n):
        total *= FACTOR
        total += numbers[place : len(numbers) - n + 1 + place]
    return total


def _top(words: list[str], runs: NDArray[np.uint64], n: int) -> int:
    """Characters of the most frequent run, blanks between its words counted, the first of several."""
    _, first, counts = np.unique(runs, return_index=True, return_counts=True)
    start = int(first[counts == counts.max()].min())
    return len(" ".join(words[start : start + n])) * int(counts.max())


def _covered(words: list[str], runs: NDArray[np.uint64], n: int) -> int:
    """Characters of words in runs that stood before: no fewer than in longer runs that did, or in some of them."""
    _, first = np.unique(runs, return_index=True)
    again = np.ones(len(runs), dtype=bool)
    again[first] = False
    if not again.any():
        return 0
    edges = np.zeros(len(words) + 1, dtype=np.int64)
    starts = np.flatnonzero(again)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + n, -1)
    sizes = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    return int(sizes[np.cumsum(edges)[:-1] > 0].sum())
