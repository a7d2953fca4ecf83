"""Trap 4: a doubled or missing begin or end token (vllm-project/vllm#27515, sgl-project/sglang#888,
abetlen/llama-cpp-python#1439, huggingface/transformers#37686; jingyaogong/minimind#185, #226, #314, #419, where data
already held "<s>" and one user then had to write it into every prompt).

Guard: control tokens come from `document`, `prompt` and the structure of a template; encoding adds none, and text that
looks like one stays text.
"""

import json

import pytest

from instar.text import Tokenizer

TEXT = "<s>A ball.</s><|end_of_text|>"
OWN = Tokenizer.train(["A red ball."], 320)
LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}] {{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A folder like Llama's: <s> and </s>, a post-processor and a template that both begin with <s>."""
    folder = tmp_path_factory.mktemp("foreign")
    OWN.save(folder)
    spec = json.loads((folder / "tokenizer.json").read_text())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    first = len(spec["model"]["vocab"])
    spec["added_tokens"] = [
        {"id": first + n, "content": text, **flags, "special": True} for n, text in enumerate(("<s>", "</s>"))
    ]
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [first], "tokens": ["<s>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": {"content": "</s>"}}')
    (folder / "chat_template.jinja").write_text(LLAMA_TEMPLATE)
    return Tokenizer.load(folder)


def talk(tokenizer, **options):
    """A conversation whose messages hold the marker's text."""
    messages = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": TEXT}]
    return tokenizer.chat(messages, **options).ids


# One row for each use of text: how it makes ids, and whether it ends what it makes.
USES = {
    "document": (lambda t: t.document(TEXT), True),
    "documents": (lambda t: t.documents([TEXT])[0], True),
    "prompt": (lambda t: t.prompt(TEXT), False),
    "chat": (talk, True),
    "chat_batch": (lambda t: t.chat_batch([[{"role": "assistant", "content": TEXT}]])[0].ids, True),
}


@pytest.mark.parametrize("use", USES)
def test_exactly_one_begin_and_end(foreign, use):
    """A vocabulary with a begin token: it stands once, in front; the end stands once, at the end, where text ends."""
    make, ends = USES[use]
    ids = make(foreign)
    assert [place for place, id in enumerate(ids) if id == foreign.bos] == [0]
    assert [place for place, id in enumerate(ids) if id == foreign.eos] == ([len(ids) - 1] if ends else [])


@pytest.mark.parametrize("use", ["document", "documents", "prompt"])
def test_without_a_begin_token(use):
    """Our own vocabulary has no begin token and adds none; a document ends once."""
    make, ends = USES[use]
    ids = make(OWN)
    assert ids[: len(OWN.encode(TEXT))] == OWN.encode(TEXT)
    assert ids[len(OWN.encode(TEXT)) :] == ([OWN.eos] if ends else [])


def test_every_turn_ends_once():
    """In our own chats each turn has one start and one end, and the text's end does not occur."""
    ids = talk(OWN)
    assert [ids.count(OWN.specials[name]) for name in ("<|im_start|>", "<|im_end|>", "<|end_of_text|>")] == [2, 2, 0]


def test_encoding_adds_nothing(foreign):
    """Plain encoding neither begins nor ends, though the folder's post-processor does."""
    for tokenizer in (OWN, foreign):
        assert not set(tokenizer.encode(TEXT)) & set(tokenizer.specials.values())
        assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_real_checkpoint(shared):
    """TinyStories: the stock library's prompt, one begin, one end."""
    real = Tokenizer.load(shared / "weights/TinyStories-656K")
    ids = real.document("Once upon a time<|end_story|>")
    assert ids[:6] == [1, 80, 147, 201, 282, 57]
    assert (ids.count(real.bos), ids.count(real.eos), ids[-1]) == (1, 1, real.eos)
