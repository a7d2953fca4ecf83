"""Patterns that tokenizers use pass; patterns that could search for ever do not."""

import pytest

from instar.config import InputError
from instar.text.bpe import SPLITS
from instar.text.patterns import MAX_PATTERN, vet

# How the tokenizers of the field cut text into words.
USED = {
    **SPLITS,
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "deepseek": r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+""",
    "bloom": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "han": "[一-龥぀-ゟ゠-ヿ]+",
    "both classes": r"[\p{Lu}&&[^\p{Han}]]*[\p{Ll}]+",
    "lines": r"(?:\r?\n)+(?!\r?\n)",
    "thousands": r"\d{1,3}(?=(?:\d{3})*\b)",
    "runs": r" {2,}|[]\[a]+|[^]]+|{x}",
}

# What a pattern does -> one that does it.
REFUSED = {
    "repeats a repetition": [
        "(a+)+$", "(a*)*", "(?:a+)+", "((a+))+", "(a{1,}){2,}", "(a+){50}", r"(\w+\s?)+$", "(?i:a+)+", "(?=a+)+",
        "a++*", "(?:a{3,})*", "([]a]+)+", "(|(a+))+",
    ],
    "repeats alternatives": ["(a|a)+$", "(?:a|ab)*c"],
    "repeats what may be nothing": ["(a?)+", "(a?b?){20}", "(?:(a?))*"],
    "is not allowed here": [r"(a)\1", r"(?<x>a)\k<x>", r"\g<0>", "(?(1)a|b)", "(?~a)", "(?#x)", "\\"],
    "leaves a group open": ["(", "a(b"],
    "closes a group that is not open": [")", "a)b"],
    "leaves a class open": ["[a", "[a[b]"],
    "wanted at most 4,096": ["a" * (MAX_PATTERN + 1)],
}  # fmt: skip


@pytest.mark.parametrize("name", USED)
def test_patterns_in_use_pass(name):
    """Every pattern that a known tokenizer splits by."""
    vet(USED[name])


@pytest.mark.parametrize(("words", "pattern"), [(words, p) for words, patterns in REFUSED.items() for p in patterns])
def test_patterns_that_could_search_for_ever_are_refused(words, pattern):
    """Each with the reason."""
    with pytest.raises(InputError, match=words):
        vet(pattern)
