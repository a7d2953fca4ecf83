"""A tokenizer.json that nobody vouches for, and folders that are not what they should be."""

import json

import pytest

from instar.config import InputError
from instar.text import Tokenizer
from instar.text.layout import MAX_TOKENIZER_BYTES
from instar.text.vocabulary import library


@pytest.fixture
def folder(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    return tmp_path


def spoil(folder, change):
    """Change the folder's tokenizer.json in place."""
    path = folder / "tokenizer.json"
    spec = json.loads(path.read_text())
    change(spec)
    path.write_text(json.dumps(spec))


def added(**other):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": 7, "content": "<x>", **flags, "special": True, **other}


def splitting(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def replacing(content, times):
    one = {"type": "Replace", "pattern": {"String": "a"}, "content": content}
    return {"type": "Sequence", "normalizers": [one] * times}


def nested(depth):
    part = {"type": "NFC"}
    for _ in range(depth):
        part = {"type": "Sequence", "normalizers": [part]}
    return part


SPOILT = {
    "huge id": (lambda s: s["added_tokens"].append(added(id=1_000_000_000)), "'<x>' has the id 1000000000"),
    "negative id": (lambda s: s["model"]["vocab"].update(xyz=-1), "'xyz' has the id -1"),
    "id that is no number": (lambda s: s["model"]["vocab"].update(xyz=True), "'xyz' has the id True"),
    "id twice": (lambda s: s["model"]["vocab"].update(xyz=5), "gives the id 5 to both"),
    "added id taken": (lambda s: s["added_tokens"].append(added(id=5)), "gives the id 5 to both"),
    "piece with two ids": (lambda s: s["added_tokens"].append(added(id=500, content="a")), "gives 'a' two ids"),
    "no content": (lambda s: s["added_tokens"].append({"id": 500}), "has no content"),
    "unknown model": (lambda s: s["model"].update(type="WordLevel"), "unknown model in tokenizer.json: WordLevel"),
    "unknown component": (lambda s: s.update(pre_tokenizer={"type": "Custom"}), "unknown pre_tokenizer"),
    "hidden component": (
        lambda s: s.update(normalizer={"type": "Sequence", "normalizers": [{"type": "Evil"}]}), "unknown normalizer",
    ),
    "flood": (lambda s: s.update(normalizer={"type": "Prepend", "prepend": "a" * 9999}), "inserts 9999 characters"),
    "no model": (lambda s: s.pop("model"), "has no model"),
    "no vocabulary": (lambda s: s["model"].update(vocab=[]), "has no vocabulary"),
    "empty vocabulary": (lambda s: s.update(model={"type": "BPE", "vocab": {}}, added_tokens=[]), "empty"),
    "odd merge": (lambda s: s["model"]["merges"].append(["a"]), "is not a pair"),
    "merge of nothing": (lambda s: s["model"]["merges"].append(["zzz", "yyy"]), "tokenizer.json"),
    "no decoder": (lambda s: s.update(decoder=None), "the decoder is missing"),
    "component of no kind": (lambda s: s.update(decoder=[1]), "wanted an object with a type"),
    "broken pattern": (
        lambda s: s.update(pre_tokenizer=splitting("(")), "tokenizer.json",
    ),
    "pattern that is none": (lambda s: s.update(pre_tokenizer=splitting(3)), "found the pattern 3"),
    "pattern the library refuses": (lambda s: s.update(pre_tokenizer=splitting(r"\p{Nothing}+")), "tokenizer.json"),
    "growth": (
        lambda s: s.update(normalizer=replacing("a" * 40, 2)), "may make one character 1600, at most 1024",
    ),
    "deep sequence": (lambda s: s.update(normalizer=nested(30)), "nested more than 8 deep"),
    "many parts": (lambda s: s.update(normalizer=replacing("a", 99)), "more than 64 parts"),
    "added tokens that are none": (lambda s: s.update(added_tokens=3), "added_tokens is int"),
    "merges that are none": (lambda s: s["model"].update(merges=3), "merges is int"),
    "merge that is none": (lambda s: s["model"]["merges"].append(3), "is not a pair"),
    "sequence that is none": (
        lambda s: s.update(normalizer={"type": "Sequence", "normalizers": 3}), "normalizers is int",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_file_is_an_error(folder, name):
    """Each defect is found on loading, and named."""
    change, words = SPOILT[name]
    spoil(folder, change)
    with pytest.raises(InputError, match=words):
        Tokenizer.load(folder)


# what a pattern is, and a text on which it would take for ever
SLOW = {
    "nested": ("(a+)+$", "a" * 40 + "b"),
    "ambiguous": ("(aa?)+$", "a" * 60 + "b"),
    "two letters": ("(xyx?y?)+$", "xy" * 60 + "b"),
}


@pytest.mark.parametrize("name", ["nested", "ambiguous"])
def test_a_pattern_that_searches_for_ever_is_refused_on_loading(folder, name):
    """Nested repetitions are seen in the pattern, others on a run of one letter."""
    spoil(folder, lambda spec: spec["pre_tokenizer"]["pretokenizers"].insert(0, splitting(SLOW[name][0])))
    words = {"nested": "repeats a repetition", "ambiguous": "fails on a run"}
    with pytest.raises(InputError, match=rf"tokenizer\.json.*pattern.*{words[name]}"):
        Tokenizer.load(folder)


@pytest.mark.parametrize("name", SLOW)
def test_panics_of_the_library_are_errors(folder, name, monkeypatch):
    """Catastrophic backtracking makes the library panic; that is an InputError, not the end of the process."""
    monkeypatch.setattr("instar.text.vocabulary.vet", lambda pattern: None)
    monkeypatch.setattr("instar.text.vocabulary._runs", lambda patterns: ())
    spoil(folder, lambda spec: spec["pre_tokenizer"]["pretokenizers"].insert(0, splitting(SLOW[name][0])))
    loaded = Tokenizer.load(folder)
    with pytest.raises(InputError, match="the tokenizer failed"):
        loaded.encode(SLOW[name][1])


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_stops_the_program_passes_the_boundary(stop):
    """The boundary turns panics into errors, and lets through what the user or the system wants."""
    with pytest.raises(stop), library("x"):
        raise stop
    with pytest.raises(InputError, match="x: a panic"), library("x"):
        raise BaseException("a panic")


def test_padding_to_fifty_million_ids_is_refused(folder):
    """No model reads so many ids; the remedy is named."""
    spoil(folder, lambda spec: spec.update(padding={"strategy": {"Fixed": 50_000_000}}))
    with pytest.raises(InputError, match=r"50000000 ids.*set its padding to null"):
        Tokenizer.load(folder)


def test_padding_and_truncation_are_dropped(folder, tokenizer):
    """A file that pads every text to a million ids, or cuts it to none, does neither."""
    padding = {
        "strategy": {"Fixed": 1_000_000},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "!",
    }
    truncation = {"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0}
    spoil(folder, lambda spec: spec.update(padding=padding, truncation=truncation))
    loaded = Tokenizer.load(folder)
    assert loaded.encode("a ball") == tokenizer.encode("a ball")
    assert loaded.fingerprint == tokenizer.fingerprint


def test_dropout_is_dropped(folder, tokenizer, texts):
    """A vocabulary saved with dropout still gives one text one encoding."""
    spoil(folder, lambda spec: spec["model"].update(dropout=0.9))
    assert Tokenizer.load(folder).encode(texts[0]) == tokenizer.encode(texts[0])


def test_merges_into_control_tokens_are_dropped(folder):
    """A file whose merges spell a control token cannot make text into it."""

    def change(spec):
        spec["added_tokens"].append(added(id=0, content="ab"))
        spec["model"]["vocab"] = {("ab" if n == 0 else piece): n for piece, n in spec["model"]["vocab"].items()}
        spec["model"]["merges"] = [["a", "b"], *(m for m in spec["model"]["merges"] if "!" not in "".join(m))]

    spoil(folder, change)
    loaded = Tokenizer.load(folder)
    assert loaded.specials["ab"] == 0
    assert loaded.decode(loaded.encode("cab")) == "cab"
    assert 0 not in loaded.encode("cab ab")


def test_blanks_that_were_added_stay_text(folder):
    """A run of blanks among the added tokens is ordinary text, as GPT-NeoX uses it."""
    spoil(folder, lambda spec: spec["added_tokens"].append(added(id=447, content="    ", special=False)))
    loaded = Tokenizer.load(folder)
    assert loaded.encode("a    b")[1] == 447
    assert loaded.decode(loaded.encode("a    b")) == "a    b"
    assert "    " not in loaded.specials


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tokenizer.json", "{", "is not JSON"),
        ("tokenizer.json", "[]", "wanted a JSON object"),
        ("tokenizer.json", "[" * 200_000, "is not JSON"),
        (
            "tokenizer_config.json",
            '{"eos_token": "<gone>"}',
            "eos_token is '<gone>', which the vocabulary does not have",
        ),
        ("tokenizer_config.json", '{"eos_token": 7}', "found the token 7"),
        ("tokenizer_config.json", '{"instar": {"vocab_size": 9}}', "vocab_size=9"),
        ("tokenizer_config.json", '{"chat_template": 7}', "chat_template is int"),
    ],
)
def test_spoilt_side_files(folder, name, text, words):
    """Each file of the folder is named with what is wrong in it."""
    (folder / "chat_template.jinja").unlink()
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=words):
        Tokenizer.load(folder)


def test_bytes_that_are_no_text(folder):
    """A file that is no UTF-8, or too large, is refused before it is parsed."""
    (folder / "tokenizer.json").write_bytes(b"\xff")
    with pytest.raises(InputError, match="is not UTF-8"):
        Tokenizer.load(folder)
    with (folder / "tokenizer.json").open("wb") as file:
        file.truncate(MAX_TOKENIZER_BYTES + 1)
    with pytest.raises(InputError, match="at most 67,108,864"):
        Tokenizer.load(folder)


def test_missing_folder_and_file(tmp_path):
    """What is missing is said with the folder and what would be wanted there."""
    with pytest.raises(InputError, match="nowhere is not a folder"):
        Tokenizer.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no tokenizer.json; wanted that"):
        Tokenizer.load(tmp_path)


def test_template_inside_the_config(folder, tokenizer):
    """An older folder keeps its template, or several of them, in tokenizer_config.json."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    (folder / "chat_template.jinja").unlink()
    for template in (
        tokenizer.template,
        [{"name": "other", "template": ""}, {"name": "default", "template": tokenizer.template}],
    ):
        path.write_text(json.dumps({**config, "chat_template": template}))
        assert Tokenizer.load(folder).template == tokenizer.template
