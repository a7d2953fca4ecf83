"""Control tokens for encoders and span corruption: there when asked for, and nothing changes where they are not."""

import hashlib
import json

import pytest
from transformers import AutoTokenizer

from instar.config import InputError
from instar.text import Tokenizer
from instar.text.controls import rows_for, specials


@pytest.fixture(scope="module")
def both(texts):
    """With a mask, a begin token and three sentinels."""
    return Tokenizer.train(texts, 448, masks=True, sentinels=3)


def test_a_plain_tokenizer_is_what_it_was(tokenizer, tmp_path):
    """Bit for bit the files of the versions before masks: a finished run finds its tokenizer unchanged."""
    tokenizer.save(tmp_path)
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    digest = hashlib.sha256(b"".join((tmp_path / name).read_bytes() for name in names)).hexdigest()
    assert (tokenizer.fingerprint[:16], digest[:16]) == ("8aa3d6c400462d97", "f91a2f2a82b521d7")
    assert (tokenizer.mask, tokenizer.sentinels, tokenizer.bos) == (None, [], None)


def test_they_come_last(both):
    """After the controls that every tokenizer has, so that those keep their order; rows are counted with them."""
    assert list(both.specials)[:4] == list(specials())
    assert list(both.specials)[4:] == ["<|mask|>", "<|begin|>", "<|extra_0|>", "<|extra_1|>", "<|extra_2|>"]
    assert sorted(both.specials.values()) == list(range(both.vocabulary.size - 9, both.vocabulary.size))
    assert (both.mask, both.bos) == (both.specials["<|mask|>"], both.specials["<|begin|>"])
    assert both.sentinels == [both.specials[f"<|extra_{n}|>"] for n in range(3)]
    assert both.vocab_size == 448


def test_a_document_begins_and_ends_once(both):
    """The begin token stands before every document and prompt, never inside, whatever the text says."""
    ids = both.document("<|begin|> a <|mask|><|extra_0|>")
    assert [ids.count(control) for control in both.specials.values()] == [1, 0, 0, 0, 0, 1, 0, 0, 0]
    assert (ids[0], ids[-1]) == (both.bos, both.eos)
    assert both.decode(ids) == "<|begin|> a <|mask|><|extra_0|>"
    assert both.prompt("a") == [both.bos, *both.encode("a")]


def test_transformers_know_them(both, tmp_path):
    """AutoTokenizer has the mask and the begin token in their roles, and makes the same documents and pairs."""
    both.save(tmp_path)
    stock = AutoTokenizer.from_pretrained(tmp_path)
    assert (stock.mask_token_id, stock.cls_token_id, stock.bos_token_id) == (both.mask, both.bos, both.bos)
    assert stock.encode("a ball") == both.document("a ball")
    assert stock.encode("a ball", add_special_tokens=False) == both.encode("a ball")
    pair = stock("a", "b", return_token_type_ids=True)
    assert pair["input_ids"] == [*both.document("a"), *both.encode("b"), both.eos]
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1]
    assert stock.convert_tokens_to_ids("<|extra_2|>") == both.sentinels[2]


def test_folder_round_trip(both, tmp_path):
    """Saved and loaded it has them still."""
    both.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert (loaded.fingerprint, loaded.mask, loaded.sentinels) == (both.fingerprint, both.mask, both.sentinels)


def test_a_strangers_names(both, tmp_path):
    """An encoder's cls, sep and mask are its begin, end and mask, and T5's <extra_id_0>... are sentinels."""
    both.save(tmp_path)
    spec = (tmp_path / "tokenizer.json").read_text().replace("<|extra_", "<extra_id_")
    for number in range(3):
        spec = spec.replace(f"<extra_id_{number}|>", f"<extra_id_{number}>")
    (tmp_path / "tokenizer.json").write_text(spec)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    named = {"cls_token": "<|begin|>", "sep_token": {"content": "<|end_of_text|>"}, "mask_token": "<|mask|>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(named))
    loaded = Tokenizer.load(tmp_path)
    assert (loaded.bos, loaded.eos, loaded.mask) == (both.bos, both.eos, both.mask)
    assert loaded.sentinels == both.sentinels
    assert loaded.document("a") == both.document("a")


def test_out_of_bounds():
    """Too few rows for so many control tokens, and fewer than no sentinels, are refused."""
    with pytest.raises(InputError, match=r"wanted from 362 .* 106 control tokens"):
        Tokenizer.train(["a"], 320, masks=True, sentinels=100)
    with pytest.raises(InputError, match="sentinels=-1"):
        Tokenizer.train(["a"], 320, sentinels=-1)
    assert rows_for(300) == rows_for(300, specials()) == 320
