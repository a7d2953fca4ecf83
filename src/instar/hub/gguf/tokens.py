"""A tokenizer as llama.cpp reads it: byte-level BPE whose split pattern it has built in.

A GGUF file can name a pattern and not carry one, and a wrong name gives other ids without a word. So a pattern is
looked up to the letter, and what is not known is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer as Library

from ...text.bpe import SPLITS
from ...text.tokenizer import Tokenizer
from ...text.vocabulary import BYTE_OF, Vocabulary, parts
from .arch import Unwritable

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
LLAMA3 = SPLITS["llama-bpe"]
# the steps that cut a text into words -> what llama.cpp calls them
CUTS: dict[tuple[tuple[Any, ...], ...], str] = {
    (("Split", SPLITS["qwen2"], "Isolated", False), ("ByteLevel", False, False)): "qwen2",
    (("Split", LLAMA3, "Isolated", False), ("ByteLevel", False, False)): "llama-bpe",
    (("ByteLevel", False, True),): "gpt-2",
    (("Digits", True), ("ByteLevel", False, True)): "smollm",
}
# those that take a word that is a piece as it is, and what has the same pattern and merges it from its bytes
WHOLE_WORDS = {"llama-bpe": "dbrx"}
# transformers' tag that says which part of a chat teaches; other programs do not know it
_TEACHES = re.compile(r"{%(-?)\s*(end)?generation\s*(-?)%}")


def token_keys(tokenizer: Tokenizer, rows: int, whole: bool = False) -> tuple[dict[str, Any], list[str]]:
    """The keys of a tokenizer for a model of so many rows, without `tokenizer.` in front, and what is to be told.
    whole: texts are read as documents, with their end.

    Raises Unwritable where llama.cpp would give other ids.
    """
    vocabulary = tokenizer.vocabulary
    notes = _check(vocabulary)
    texts, kinds = _tokens(vocabulary, rows)
    ends, more = _ends(tokenizer)
    keys: dict[str, Any] = {
        "ggml.model": "gpt2",
        "ggml.pre": pre_of(vocabulary),
        "ggml.tokens": texts,
        "ggml.token_type": kinds,
        "ggml.merges": [f"{left} {right}" for left, right in vocabulary.merges],
        "ggml.add_bos_token": bool(tokenizer.prompt("")),
        "ggml.add_eos_token": whole and tokenizer.eos is not None,
        "ggml.add_space_prefix": False,
        **{f"ggml.{role}_token_id": id for role, id in ends.items()},
    }
    if tokenizer.template is not None:
        keys["chat_template"] = plain_template(tokenizer.template)
    return keys, notes + more


def pre_of(vocabulary: Vocabulary) -> str:
    """llama.cpp's name of how this vocabulary cuts texts into words and makes pieces of them."""
    cut = tuple(_step(part) for part in parts(vocabulary.spec.get("pre_tokenizer")) if part["type"] != "Sequence")
    if cut not in CUTS:
        said = "; ".join(str(step)[:120] for step in cut) or "nothing"
        raise Unwritable(
            f"the tokenizer cuts texts by {said}, which llama.cpp has no name for; a GGUF file can only name a way to "
            f"cut, and these are known: {', '.join(CUTS.values())}; train a tokenizer with --split qwen2 or llama-bpe"
        )
    name = CUTS[cut]
    whole = bool(vocabulary.spec["model"].get("ignore_merges"))
    if whole != (name in WHOLE_WORDS) and not _same_either_way(vocabulary, whole):
        if whole:
            raise Unwritable(
                f"the tokenizer takes words that are pieces as they are (ignore_merges), and llama.cpp's {name} does "
                "not; they differ in words of this vocabulary"
            )
        return WHOLE_WORDS[name]
    return name


def plain_template(template: str) -> str:
    """A chat template without transformers' {% generation %}, and the same text from it."""
    return _TEACHES.sub(lambda tag: f"{{%{tag[1]} {'endif' if tag[2] else 'if true'} {tag[3]}%}}", template)


def _check(vocabulary: Vocabulary) -> list[str]:
    """Raise Unwritable unless it is plain byte-level BPE; returns what differs and is to be told."""
    model = vocabulary.spec["model"]
    if model.get("type") != "BPE" or not vocabulary.byte_level or model.get("byte_fallback"):
        raise Unwritable(
            f"the tokenizer is {model.get('type')}{'' if vocabulary.byte_level else ' without a byte-level decoder'}; "
            "we write byte-level BPE"
        )
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise Unwritable(f"the tokenizer has {name}={model[name]!r}, which llama.cpp's BPE does not know")
    if missing := [f"0x{byte:02X}" for piece, byte in BYTE_OF.items() if piece not in vocabulary.ids]:
        raise Unwritable(f"the vocabulary lacks {len(missing)} of 256 bytes, as {missing[0]}; llama.cpp wants all")
    kinds = [part["type"] for part in parts(vocabulary.spec.get("normalizer")) if part["type"] != "Sequence"]
    if strange := [kind for kind in kinds if kind != "NFC"]:
        raise Unwritable(f"the tokenizer changes texts first ({', '.join(strange)}), which llama.cpp's BPE does not")
    composes = "the tokenizer composes characters first (NFC) and llama.cpp does not: texts that come decomposed differ"
    return [composes] if kinds else []


def _step(part: Mapping[str, Any]) -> tuple[Any, ...]:
    """A step of cutting, with all that decides where it cuts."""
    kind = part["type"]
    if kind == "Split":
        pattern = part.get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, Mapping) else None
        return kind, regex, part.get("behavior"), bool(part.get("invert"))
    if kind == "ByteLevel":
        return kind, bool(part.get("add_prefix_space", True)), bool(part.get("use_regex", True))
    if kind == "Digits":
        return kind, bool(part.get("individual_digits"))
    return (kind,)


def _same_either_way(vocabulary: Vocabulary, whole: bool) -> bool:
    """Whether it changes no word of the vocabulary to be taken as a piece at once, or merged from bytes."""
    spec = json.loads(vocabulary.encoder.to_str())
    spec["model"]["ignore_merges"] = not whole
    other = Library.from_str(json.dumps(spec))
    words = [raw.decode(errors="ignore") for raw in vocabulary.table]
    said = (
        [found.ids for found in encoder.encode_batch_fast(words, add_special_tokens=False)]
        for encoder in (vocabulary.encoder, other)
    )
    return next(said) == next(said)


def _tokens(vocabulary: Vocabulary, rows: int) -> tuple[list[str], list[int]]:
    """The text and the kind of every row; those that nothing uses have texts of their own."""
    by_id = {id: piece for piece, id in vocabulary.ids.items()}
    controls = {control.id for control in vocabulary.controls.values()}
    blanks = {token["id"] for token in vocabulary.spec.get("added_tokens") or ()}
    texts = [by_id.get(id) or _unused(id, vocabulary.ids) for id in range(rows)]
    kinds = [
        CONTROL if id in controls else USER_DEFINED if id in blanks else NORMAL if id in by_id else UNUSED
        for id in range(rows)
    ]
    return texts, kinds


def _unused(id: int, taken: Mapping[str, int]) -> str:
    text = f"<|unused_{id}|>"
    while text in taken:
        text = f"<{text}>"
    return text


def _ends(tokenizer: Tokenizer) -> tuple[dict[str, int], list[str]]:
    """Ids by llama.cpp's names of roles. It takes the id 11 for an end that it is not told."""
    stops: Sequence[int] = tokenizer.stops
    if not stops:
        raise Unwritable("the tokenizer names no token that ends a text, and llama.cpp would take the id 11 for it")
    eos = stops[0] if tokenizer.eos is None else tokenizer.eos
    others = [stop for stop in stops if stop != eos]
    roles = {"bos": tokenizer.bos, "eos": eos, "padding": tokenizer.pad, "mask": tokenizer.mask}
    roles |= dict(zip(("eot", "eom"), others))
    left = [tokenizer.piece(stop) for stop in others[2:]]
    notes = [f"llama.cpp has room for three ends of an answer; it does not stop at {', '.join(left)}"] if left else []
    return {role: id for role, id in roles.items() if id is not None}, notes
