"""The tokenizers of BERT: WordPiece, which is not true to the byte, and as safe as the others."""

import copy
import json

import pytest
import tokenizers

from instar.config import InputError
from instar.text.tokenizer import Tokenizer
from instar.text.vocabulary import Vocabulary

CONTROLS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*CONTROLS, *"the cat ##s sat un ##believ ##able cafe , ! 走 [ ] c ##l".split()]
FLAGS = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
FRAME = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    ],
    "pair": [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 1}},
    ],
    "special_tokens": {
        name: {"id": name, "ids": [number], "tokens": [name]} for name, number in (("[CLS]", 2), ("[SEP]", 3))
    },
}  # fmt: skip
SPEC = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [{"id": n, "content": text, **FLAGS} for n, text in enumerate(CONTROLS)],
    "normalizer": {
        "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
        "lowercase": True,
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": FRAME,
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "model": {
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {piece: number for number, piece in enumerate(PIECES)},
    },
}  # fmt: skip
CONFIG = {
    "tokenizer_class": "BertTokenizer", "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]",
    "cls_token": "[CLS]", "mask_token": "[MASK]",
}  # fmt: skip
TEXTS = ["The cats sat, unbelievable!", "CAFÉ 走 the", "a zebra", "", "  the\n\ncat  ", "x" * 101]


def changed(path, value):
    spec = copy.deepcopy(SPEC)
    *place, last = path.split(".")
    part = spec
    for key in place:
        part = part[key]
    part[last] = value
    return spec


@pytest.fixture
def tokenizer():
    return Tokenizer(SPEC, CONFIG)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_the_library(tokenizer, text):
    """A document is what BERT was taught with: [CLS], the text, [SEP]."""
    theirs = tokenizers.Tokenizer.from_str(json.dumps(SPEC))
    assert tokenizer.document(text) == theirs.encode(text).ids
    assert tokenizer.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_decoding_gives_words(tokenizer):
    """Pieces inside a word are joined to it; case, accents and where blanks stood are gone."""
    assert tokenizer.decode(tokenizer.document("The CATS  sat, unbelievable!")) == "the cats sat , unbelievable !"
    assert [tokenizer.token_bytes(PIECES.index(piece)) for piece in ("cat", "##s")] == [b" cat", b"s"]
    assert tokenizer.decode(tokenizer.encode("cats"), continues=True) == " cats"


@pytest.mark.parametrize("splits", ["BertPreTokenizer", "WhitespaceSplit"])
@pytest.mark.parametrize("text", ["[CLS]", "the [SEP] cat", "[MASK][PAD]", "##[CLS]", "[cls]"])
def test_text_never_becomes_a_control_token(splits, text):
    """Whatever divides words, the names of control tokens are ordinary text; what cannot be spelt is [UNK]."""
    spec = changed("normalizer.lowercase", False) | {"pre_tokenizer": {"type": splits}}
    ids = Tokenizer(spec, CONFIG).encode(text)
    assert ids
    assert not set(ids) & {CONTROLS.index(name) for name in CONTROLS if name != "[UNK]"}


@pytest.mark.parametrize("kind", ["BertProcessing", "RobertaProcessing"])
def test_the_older_frames_mean_the_same(kind):
    """A pair for each end instead of a template."""
    frame = {"type": kind, "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]}
    more = {"trim_offsets": True, "add_prefix_space": False} if kind == "RobertaProcessing" else {}
    vocabulary = Vocabulary(SPEC | {"post_processor": frame | more})
    assert vocabulary.template_adds() == ({"[CLS]"}, {"[SEP]"})
    assert Tokenizer(SPEC | {"post_processor": frame | more}, CONFIG).document("the cat") == [2, 5, 6, 3]
    with pytest.raises(InputError, match="post_processor has cls="):
        Vocabulary(SPEC | {"post_processor": frame | {"cls": 2}}).template_adds()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.max_input_chars_per_word", 10**6, "max_input_chars_per_word is 1000000, wanted a number from 1 to 200"),
        ("model.max_input_chars_per_word", True, "max_input_chars_per_word is True"),
        ("model.continuing_subword_prefix", "", "continuing_subword_prefix"),
        ("model.continuing_subword_prefix", 3, "continuing_subword_prefix"),
        ("decoder", {"type": "ByteLevel"}, "for a WordPiece model wanted WordPiece"),
        ("model.unk_token", "[NONE]", "tokenizer.json"),
        ("model.type", "WordLevel", "did you mean WordPiece|unknown model"),
    ],
)
def test_what_is_malformed_is_refused(path, value, message):
    """Each is an error that names the file and the setting."""
    with pytest.raises(InputError, match=message):
        Vocabulary(changed(path, value))


def test_a_bpe_model_does_not_decode_as_word_pieces():
    """Model and decoder belong together."""
    model = {"type": "BPE", "vocab": {"a": 0}, "merges": []}
    with pytest.raises(InputError, match="wanted a byte-level one"):
        Vocabulary(SPEC | {"model": model, "added_tokens": [], "post_processor": None})


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    assert (again.bos, again.eos, again.pad, again.mask) == (2, 3, 0, 4)
