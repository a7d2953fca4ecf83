"""A tokenizer as GGUF says it: every row, every kind, and the name of a pattern or a refusal."""

import json

import pytest

from instar.hub.gguf import Unwritable
from instar.hub.gguf.tokens import CONTROL, NORMAL, UNUSED, USER_DEFINED, plain_template, pre_of, token_keys
from instar.text.bpe import SPLITS
from instar.text.template import REST, TEACH, render
from instar.text.tokenizer import Tokenizer
from instar.text.vocabulary import BYTE_OF

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is the ball?"},
    {"role": "assistant", "content": " In the garden. "},
    {"role": "user", "content": "谁有皮球？"},
]
FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)


def changed(tokenizer, **parts):
    """The same tokenizer with parts of its tokenizer.json changed; model=... changes keys of the model."""
    spec = json.loads(json.dumps(tokenizer.vocabulary.spec))
    spec["model"] |= parts.pop("model", {})
    return Tokenizer(spec | parts, tokenizer.config, tokenizer.template)


def test_every_row_is_said(tokenizers):
    """Pieces as they are merged, control tokens as such, rows that nothing uses as unused, all texts different."""
    tokenizer = tokenizers["qwen2"]
    keys, notes = token_keys(tokenizer, 448)
    texts, kinds = keys["ggml.tokens"], keys["ggml.token_type"]
    assert len(texts) == len(kinds) == len(set(texts)) == 448
    controls = set(tokenizer.specials.values())
    assert {id for id in range(448) if kinds[id] == CONTROL} == controls
    assert all(texts[id] == text for text, id in tokenizer.specials.items())
    used = set(tokenizer.vocabulary.ids.values())
    assert {id for id in range(448) if kinds[id] == NORMAL} == used - controls
    assert {id for id in range(448) if kinds[id] == UNUSED} == set(range(448)) - used
    assert texts[tokenizer.encode("ball")[0]][0] == "b"
    first, second = keys["ggml.merges"][0].split(" ")
    assert first + second in texts
    assert (keys["ggml.model"], keys["ggml.pre"], notes) == ("gpt2", "qwen2", [])


def test_a_row_that_nothing_uses_is_called_what_nothing_else_is(tokenizers):
    """A piece may have the very text."""
    spec = json.loads(json.dumps(tokenizers["qwen2"].vocabulary.spec))
    spec["added_tokens"] = [*spec["added_tokens"], FLAGS | {"id": 380, "content": "<|unused_383|>"}]
    tokenizer = Tokenizer(spec, tokenizers["qwen2"].config)
    texts = token_keys(tokenizer, 384)[0]["ggml.tokens"]
    assert (texts[380], texts[383]) == ("<|unused_383|>", "<<|unused_383|>>")


def test_roles(tokenizers):
    """End of text, end of turn and padding; a begin where documents have one."""
    tokenizer = tokenizers["qwen2"]
    keys, _ = token_keys(tokenizer, 384)
    roles = {name: keys[f"ggml.{name}_token_id"] for name in ("eos", "eot", "padding")}
    assert roles == {"eos": tokenizer.eos, "eot": tokenizer.specials["<|im_end|>"], "padding": tokenizer.pad}
    assert "ggml.bos_token_id" not in keys
    assert (keys["ggml.add_bos_token"], keys["ggml.add_eos_token"]) == (False, False)
    masked = Tokenizer.train(["a red ball"] * 9, 300, masks=True)
    keys, _ = token_keys(masked, 320)
    assert (keys["ggml.add_bos_token"], keys["ggml.bos_token_id"]) == (True, masked.bos)


def test_ends_of_an_answer_beyond_three_are_told(tokenizers):
    """llama.cpp has three names for them."""
    plain = tokenizers["qwen2"]
    ends = [plain.specials[name] for name in ("<|im_end|>", "<|im_start|>", "<|pad|>")]
    tokenizer = Tokenizer(plain.vocabulary.spec, plain.config, plain.template, ends)
    keys, (note,) = token_keys(tokenizer, 384)
    assert [keys[f"ggml.{role}_token_id"] for role in ("eos", "eot", "eom")] == [plain.eos, *ends[:2]]
    assert "does not stop at <|pad|>" in note
    endless = Tokenizer(plain.vocabulary.spec, plain.config | {"eos_token": None})
    with pytest.raises(Unwritable, match=r"no token that ends a text, and llama\.cpp would take the id 11"):
        token_keys(endless, 384)


@pytest.mark.parametrize("split", SPLITS)
def test_our_patterns_have_names(tokenizers, split):
    """Those that we train with."""
    assert pre_of(tokenizers[split].vocabulary) == split == tokenizers[split].split


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}


@pytest.mark.parametrize(
    ("cut", "name"),
    [(BYTES, "gpt-2"), ({"type": "Sequence", "pretokenizers": [DIGITS, BYTES]}, "smollm")],
)
def test_patterns_of_strangers_have_names(tokenizers, cut, name):
    """GPT-2's own, and digits one by one before it."""
    assert pre_of(changed(tokenizers["qwen2"], pre_tokenizer=cut).vocabulary) == name


UNKNOWN = {
    "another pattern": {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split", "pattern": {"Regex": SPLITS["qwen2"].replace("'re", "'r")}, "behavior": "Isolated",
                "invert": False,
            },
            BYTES | {"use_regex": False},
        ],
    },
    "matches thrown away": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLITS["qwen2"]}, "behavior": "Removed", "invert": False},
            BYTES | {"use_regex": False},
        ],
    },
    "a blank before texts": BYTES | {"add_prefix_space": True},
    "digits together": {"type": "Sequence", "pretokenizers": [DIGITS | {"individual_digits": False}, BYTES]},
    "nothing": None,
}  # fmt: skip


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_pattern_is_refused_and_not_guessed(tokenizers, case):
    """A wrong name would give other ids without a word."""
    tokenizer = changed(tokenizers["qwen2"], pre_tokenizer=UNKNOWN[case])
    with pytest.raises(Unwritable, match=r"which llama\.cpp has no name for.* qwen2, llama-bpe, gpt-2, smollm"):
        token_keys(tokenizer, 384)


def test_other_kinds_of_tokenizer_are_refused(tokenizers):
    """WordPiece, a missing byte, texts changed first; NFC is told."""
    plain = tokenizers["qwen2"]
    words = {"[UNK]": 0, "a": 1, "[SEP]": 2}
    spec = {
        "added_tokens": [], "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "vocab": words, "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100},
    }  # fmt: skip
    with pytest.raises(Unwritable, match="the tokenizer is WordPiece without a byte-level decoder"):
        token_keys(Tokenizer(spec, {"eos_token": "[SEP]"}), 3)
    with pytest.raises(Unwritable, match=r"changes texts first \(Lowercase\)"):
        token_keys(changed(plain, normalizer={"type": "Lowercase"}), 384)
    assert "(NFC)" in token_keys(changed(plain, normalizer={"type": "NFC"}), 384)[1][0]
    ids = {piece: id for piece, id in plain.vocabulary.ids.items() if BYTE_OF.get(piece) != 0xFF}
    with pytest.raises(Unwritable, match="lacks 1 of 256 bytes, as 0xFF"):
        token_keys(changed(plain, model={"vocab": ids}), 384)


def test_words_taken_whole():
    """llama-bpe takes a word that is a piece as it is. Where merging would give other pieces, the same pattern under a
    name that merges is written; what cannot be said is refused."""
    english = ["a red ball in the old garden of a small house"] * 9
    plain, other = (Tokenizer.train(english, 320, split=split) for split in ("llama-bpe", "qwen2"))
    model = plain.vocabulary.spec["model"]
    # the last piece is left without the merge that makes it
    fewer = changed(plain, model={"merges": model["merges"][:-1]})
    piece = "".join(model["merges"][-1])
    raw = bytes(BYTE_OF[character] for character in piece)
    assert len(fewer.encode(raw.decode())) == 2
    assert pre_of(fewer.vocabulary) == "dbrx"
    whole = changed(plain, model={"merges": model["merges"][:-1], "ignore_merges": True})
    assert whole.encode(raw.decode()) == [plain.vocabulary.ids[piece]]
    assert pre_of(whole.vocabulary) == "llama-bpe"
    single = changed(other, model={"ignore_merges": True})
    assert pre_of(single.vocabulary) == "qwen2"
    merges = other.vocabulary.spec["model"]["merges"][:-1]
    with pytest.raises(Unwritable, match=r"ignore_merges.* llama.cpp's qwen2 does not"):
        pre_of(changed(other, model={"ignore_merges": True, "merges": merges}).vocabulary)


def test_blanks_added_as_text_are_matched_in_text(tokenizers):
    """Runs of blanks that some vocabularies add are no control tokens."""
    spec = json.loads(json.dumps(tokenizers["qwen2"].vocabulary.spec))
    spec["added_tokens"] = [*spec["added_tokens"], FLAGS | {"id": 380, "content": "    "}]
    keys, _ = token_keys(Tokenizer(spec, tokenizers["qwen2"].config), 384)
    assert (keys["ggml.tokens"][380], keys["ggml.token_type"][380]) == ("    ", USER_DEFINED)


@pytest.mark.parametrize("markup", ["chatml", "brief"])
def test_the_template_says_the_same_without_the_teaching_tags(markup):
    """Other programs do not know {% generation %}; blanks round it are kept as it kept them."""
    template = Tokenizer.train(["a red ball"] * 9, 300, markup=markup).template
    plain = plain_template(template)
    assert "generation %" in template
    assert "generation %" not in plain.replace("add_generation_prompt %", "")
    for more in ({}, {"add_generation_prompt": True}, {"tools": [{"name": "find"}]}):
        said = render(template, {"messages": CHAT, **more})
        assert render(plain, {"messages": CHAT, **more}) == said.replace(TEACH, "").replace(REST, "")
    for before, after in (("-", ""), ("", "-"), ("-", "-"), ("", "")):
        spaced = f"a {{%{before} generation {after}%}} b {{%{after} endgeneration {before}%}} c"
        assert render(plain_template(spaced), {}) == render(spaced, {}).replace(TEACH, "").replace(REST, "")
