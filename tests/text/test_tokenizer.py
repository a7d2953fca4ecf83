"""The tokenizer: training, folders, exact ids, exact bytes, streaming."""

import json
import random

import pytest
from transformers import AutoTokenizer

from instar.config import InputError
from instar.text import Stream, Tokenizer, bpe
from instar.text.tokenizer import specials

STRANGE = [
    "",
    " ",
    "\ufeffa",
    "e\u0301 \u00e9",
    "👨‍👩‍👧‍👦 🇨🇳",
    "a\x00b\x7f",
    "\r\n\r \u3000\u2028",
    "don't  stop\t\n",
    "𠮷野家\U0010ffff\ufdd0\ufdd2",
]


def test_layout_of_the_vocabulary(tokenizer):
    """Bytes first, merges after, control tokens last, rows rounded up to a multiple of 64."""
    assert tokenizer.vocab_size == 448
    assert {tokenizer.token_bytes(i) for i in range(256)} == {bytes([byte]) for byte in range(256)}
    assert list(tokenizer.specials) == list(specials())
    assert min(tokenizer.specials.values()) == tokenizer.vocabulary.size - 4
    assert Tokenizer.train(["a"], 300).vocab_size == 320


def test_roles_of_our_own(tokenizer):
    """Own pad, no begin, and both the end of a turn and the end of a text stop an answer."""
    special = tokenizer.specials
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad) == (None, special["<|end_of_text|>"], special["<|pad|>"])
    assert tokenizer.stops == (special["<|im_end|>"], special["<|end_of_text|>"])
    assert tokenizer.split == "qwen2"


def test_rows_that_nothing_uses():
    """A text too small for its vocabulary leaves rows that decode to nothing."""
    small = Tokenizer.train(["ab"], 512)
    assert small.vocab_size == 512
    assert small.vocabulary.size < 270
    assert small.decode([511]) == "" == small.piece(511)


@pytest.mark.parametrize("size", [0, 259, 5_000_000])
def test_sizes_out_of_bounds(size):
    """A vocabulary without room for bytes and control tokens is refused."""
    with pytest.raises(InputError, match="vocab_size"):
        Tokenizer.train(["a"], size)


def test_unknown_split_is_named():
    """A split that llama.cpp does not know is refused, with a near match."""
    with pytest.raises(InputError, match="did you mean qwen2"):
        Tokenizer.train(["a"], 320, split="qwen")


@pytest.mark.parametrize("cap", [2, 3, 6, 9])
def test_no_token_is_longer_than_its_cap(cap):
    """The cap counts bytes, whatever the script, and is reached."""
    for text in ("abcabcabc" * 3, "猴" * 20, "\u00e9" * 20):
        trained = Tokenizer.train([text] * 3, 448, max_token_bytes=cap)
        longest = max(len(trained.token_bytes(i)) for i in range(trained.vocabulary.size - 4))
        assert longest <= cap
    trained = Tokenizer.train(["abc", "abcdef", "abcdefghi"] * 3, 448, max_token_bytes=cap)
    assert max(len(trained.token_bytes(i)) for i in range(trained.vocabulary.size - 4)) == cap


def test_splits_differ_in_digits():
    """qwen2 cuts digits one by one, llama-bpe up to three together, so only the latter can merge them."""
    texts = ["in 1999 and 1999 and 1999"]
    assert b"199" not in Tokenizer.train(texts, 320)._table
    assert b"199" in Tokenizer.train(texts, 320, split="llama-bpe")._table


@pytest.mark.parametrize("text", STRANGE)
def test_strange_text_comes_back(tokenizer, text):
    """Every Unicode text, byte for byte."""
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))) == text.encode()


def test_batch_equals_single(tokenizer, texts):
    """Many at once give the ids of each alone."""
    many = [*STRANGE, *texts]
    assert tokenizer.encode_batch(many) == [tokenizer.encode(text) for text in many]
    assert tokenizer.documents(many) == [tokenizer.document(text) for text in many]


@pytest.mark.parametrize("method", ["encode", "document"])
def test_half_a_character_is_refused(tokenizer, method):
    """A lone surrogate has no bytes: the error says which and where."""
    with pytest.raises(InputError, match=r"U\+D83D at character 2"):
        getattr(tokenizer, method)("ab\ud83d")
    with pytest.raises(InputError, match="text 1 holds U"):
        tokenizer.encode_batch(["a", "\udc00"])
    with pytest.raises(InputError, match="text 0 holds U"):
        Tokenizer.train(["\udc00"], 320)


def test_negative_ids_are_refused(tokenizer):
    """-100, the target that teaches nothing, is no token, and Python's last list entry is no answer."""
    with pytest.raises(InputError, match="-100"):
        tokenizer.decode([5, -100])
    with pytest.raises(InputError, match="-1"):
        tokenizer.token_bytes(-1)


def test_pieces_for_the_eye(tokenizer):
    """Half of a Chinese character is shown as its bytes."""
    plain = Tokenizer.train([], 320)
    assert [plain.piece(i) for i in plain.encode("a世")] == ["a", "<E4>", "<B8>", "<96>"]


def test_folder_round_trip(tokenizer, tmp_path):
    """Saved and loaded: the same fingerprint, ids, roles, stops; saved again: the same bytes."""
    tokenizer.save(tmp_path / "a")
    loaded = Tokenizer.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert (loaded.stops, loaded.vocab_size, loaded.split) == (tokenizer.stops, tokenizer.vocab_size, tokenizer.split)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_fingerprint_changes_with_everything_that_decides_ids(tokenizer, tmp_path):
    """Another merge, template or pad token is another fingerprint."""
    tokenizer.save(tmp_path)
    prints = {tokenizer.fingerprint}
    (tmp_path / "chat_template.jinja").write_text(tokenizer.template + " ")
    prints.add(Tokenizer.load(tmp_path).fingerprint)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": None}))
    prints.add(Tokenizer.load(tmp_path).fingerprint)
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    spec["model"]["merges"].pop()
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    prints.add(Tokenizer.load(tmp_path).fingerprint)
    assert len(prints) == 4


def test_stock_library_reads_the_folder(tokenizer, tmp_path):
    """AutoTokenizer gives the same ids, adds nothing, and decodes without cleaning up."""
    tokenizer.save(tmp_path)
    stock = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*STRANGE, "It 's , well . n't"]:
        assert stock.encode(text) == tokenizer.encode(text)
        assert stock.decode(stock.encode(text)) == text
    assert (stock.bos_token_id, stock.eos_token_id, stock.pad_token_id) == (None, tokenizer.eos, tokenizer.pad)


@pytest.mark.parametrize("folder", ["tokenizers/gpt2", "tokenizers/minimind"])
def test_golden_encodings(shared, folder):
    """Real vocabularies give the ids and the text that the reference libraries give."""
    foreign = Tokenizer.load(shared / folder)
    lines = (shared / "tokenizers/golden_encodings.jsonl").read_text(encoding="utf-8").splitlines()
    for record in map(json.loads, lines):
        ids = foreign.encode(record["text"])
        assert foreign.decode(ids) == record["text"]
        if record["text"] == "<|endoftext|>":  # text that looks like a control token stays text
            assert foreign.eos not in ids
        else:
            assert ids == record[folder.split("/")[1]]


def test_real_llama_tokenizer(shared):
    """TinyStories' vocabulary: its begin token, its golden prompts and its golden continuations."""
    folder = shared / "weights/TinyStories-656K"
    foreign = Tokenizer.load(folder)
    assert (foreign.bos, foreign.eos, foreign.pad, foreign.stops, foreign.vocab_size) == (1, 2, 0, (2,), 2048)
    for case in json.loads((folder / "golden.json").read_text())["causal_lm"]:
        assert foreign.prompt(case["prompt"]) == case["input_ids"]
        assert foreign.decode(case["greedy_ids"]) == case["greedy_text"]


def byte_fallback_folder(folder):
    """A tiny vocabulary with byte fallback, as converted from SentencePiece: <unk> <s> </s>, 256 bytes, ▁ a b ▁a."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a"]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    spec = {
        "version": "1.0",
        "padding": None,
        "added_tokens": [{"id": n, "content": pieces[n], **flags, "special": True} for n in range(3)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "post_processor": {"type": "TemplateProcessing", "pair": [],
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True,
            "vocab": {piece: n for n, piece in enumerate(pieces)}, "merges": [["▁", "a"]]},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    (folder / "special_tokens_map.json").write_text('{"bos_token": {"content": "<s>"}, "eos_token": "</s>"}')
    return Tokenizer.load(folder)


def test_byte_fallback(tmp_path):
    """Bytes are true where a character falls back to bytes; the blank before a text comes and goes."""
    foreign = byte_fallback_folder(tmp_path)
    assert foreign.prompt("a b") == [1, 262, 259, 261]
    assert foreign.encode("世") == [259, 3 + 0xE4, 3 + 0xB8, 3 + 0x96]
    assert foreign.piece(3 + 0xE4) == "<E4>"
    assert foreign.token_bytes(262) == b" a"
    for text in ("a b", "世界", " a", "", "\n👨‍👩‍👧"):
        assert foreign.decode(foreign.encode(text)) == text
    assert foreign.decode([262], continues=True) == " a"
    assert (foreign.bos, foreign.eos) == (1, 2)


def test_a_class_switch_overrules_the_post_processor(tmp_path):
    """add_bos_token: false in tokenizer_config.json wins over the template inside tokenizer.json."""
    byte_fallback_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": false}')
    assert Tokenizer.load(tmp_path).document("a") == [262, 2]


def test_generation_config_names_what_the_rest_leaves_out(tmp_path):
    """Ids of generation_config.json stand in for missing names, and each of them stops an answer."""
    byte_fallback_folder(tmp_path)
    (tmp_path / "special_tokens_map.json").unlink()
    (tmp_path / "generation_config.json").write_text('{"bos_token_id": 1, "eos_token_id": [2, 0]}')
    loaded = Tokenizer.load(tmp_path)
    assert (loaded.bos, loaded.eos, loaded.stops) == (1, 2, (2, 0))


def sequences(tokenizer, count):
    """Random ids, random bytes, and characters of up to four bytes cut over tokens."""
    draw = random.Random(7)
    emoji = Tokenizer.train([], 320).encode("👨‍👩‍👧‍👦é世🇨🇳")
    for number in range(count):
        if number % 2:
            start = draw.randrange(len(emoji))
            yield emoji[start : start + draw.randrange(12)]
        else:
            yield [draw.randrange(tokenizer.vocab_size) for _ in range(draw.randrange(8))]


@pytest.mark.parametrize("skip", [True, False])
def test_stream_equals_decode(tokenizer, skip):
    """Ten thousand sequences, valid and not: pushed one by one they give the text of all, in whole characters."""
    for ids in sequences(tokenizer, 5_000):
        stream = Stream(tokenizer, skip_special=skip)
        parts = [stream.push(id) for id in ids]
        assert "".join(parts) + stream.end() == tokenizer.decode(ids, skip_special=skip)


def test_stream_never_shows_half_a_character(tokenizer):
    """A family of seven code points arrives byte by byte without one U+FFFD; a cut one gives it at the end."""
    plain = Tokenizer.train([], 320)
    ids = plain.encode("👨‍👩‍👧‍👦")
    stream = Stream(plain)
    parts = [stream.push(id) for id in ids]
    assert "".join(parts) == "👨‍👩‍👧‍👦"
    assert parts[:4] == ["", "", "", "👨"]
    assert stream.end() == ""
    assert [stream.push(ids[0]), stream.end()] == ["", "\ufffd"]


def test_stream_of_a_vocabulary_with_a_blank_before_text(tmp_path):
    """The first blank goes, as in decode; not where the ids continue a text."""
    foreign = byte_fallback_folder(tmp_path)
    assert Stream(foreign).push(262) == "a"
    assert Stream(foreign, continues=True).push(262) == " a"


def test_shorter_vocabulary_is_a_beginning(texts):
    """Cut from a larger vocabulary or trained at its size: the same pieces and merges."""
    large = bpe.train(texts, 400, max_token_bytes=16, split="qwen2")
    for size in (256, 257, 300, 333):
        assert bpe.shorten(large, size)["model"] == bpe.train(texts, size, max_token_bytes=16, split="qwen2")["model"]
