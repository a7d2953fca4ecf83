"""Trap 31: text did not come back from its tokens. "x != y" became "x!= y" in two dozen Llama 3 folders
(huggingface/transformers#44915, #47487; huggingface/tokenizers#1174, #817).

Guard: decoding joins the bytes of the tokens and tidies nothing.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.text import Stream, Tokenizer
from instar.text.tokenizer import specials

TEXTS = ["x != y, it 's . n't ?", "王明把球给了李华。", "  two  spaces\r\n\ttab"] * 3
TOKENIZERS = {split: Tokenizer.train(TEXTS, 384, split=split) for split in ("qwen2", "llama-bpe")}
PARTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(
        [*specials(), "<|im_", "end|>", " ", "\n", "\r\n", " !", " 's", "👨‍👩‍👧", "e\u0301", "\ufdd0", "\ufdd2", "世"]
    ),
)
ANY_TEXT = st.lists(PARTS, max_size=8).map("".join)


@pytest.mark.parametrize("split", TOKENIZERS)
@settings(max_examples=400, deadline=None)
@given(text=ANY_TEXT)
def test_any_text_comes_back(split, text):
    """decode(encode(text)) is the text, whether or not control tokens are shown, and no id is a control token."""
    tokenizer = TOKENIZERS[split]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special=False) == text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert not set(ids) & set(tokenizer.specials.values())
    stream = Stream(tokenizer)
    assert "".join(map(stream.push, ids)) + stream.end() == text


@pytest.mark.parametrize("text", ["x != y", "it 's , a . b ?", "a  n't  b "])
def test_nothing_is_tidied(text, tmp_path):
    """The spaces before punctuation stay, for us and for the stock library, whose flag the folder turns off."""
    from transformers import AutoTokenizer

    tokenizer = TOKENIZERS["qwen2"]
    tokenizer.save(tmp_path)
    stock = AutoTokenizer.from_pretrained(tmp_path)
    # what older versions of the stock library go by
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["clean_up_tokenization_spaces"] is False
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert stock.decode(stock.encode(text)) == text
