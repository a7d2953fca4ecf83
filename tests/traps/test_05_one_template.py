"""Trap 5: the template of training was not the one of serving (hiyouga/LLaMA-Factory#2509: 26% against 57% accuracy,
#1740, #6020, #8720; unslothai/unsloth#1832; huggingface/trl#5813, a reward model scored without the end it was taught).

Guard: one renderer for every use, the template inside the folder, and a prompt that is the beginning of what is taught.
"""

import asyncio

import pytest

from instar.serve.render import Renderer
from instar.text import Tokenizer

# Bytes only, so that the golden ids can be read off the alphabet.
BYTES = Tokenizer.train([], 320)
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  球在哪里?\n\n"},
    {"role": "assistant", "content": "\n在花园里。"},
    {"role": "user", "content": "And Tom's?\r\n"},
    {"role": "assistant", "content": "Tom's is  red."},
]
RENDERED = (
    "<|im_start|>system\nBe brief.<|im_end|>\n"
    "<|im_start|>user\n球在哪里?<|im_end|>\n<|im_start|>assistant\n在花园里。<|im_end|>\n"
    "<|im_start|>user\nAnd Tom's?<|im_end|>\n<|im_start|>assistant\nTom's is  red.<|im_end|>\n"
)


def stock(tokenizer, folder, messages, **options):
    """What transformers makes of the folder we save."""
    from transformers import AutoTokenizer

    tokenizer.save(folder)
    return AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, return_dict=True, **options)["input_ids"]


def reloaded(tokenizer, folder, messages, **options):
    """A server that knows nothing but the folder."""
    tokenizer.save(folder)
    return Tokenizer.load(folder).chat(messages, **options).ids


def served(tokenizer, folder, messages, **options):
    """The server's process that renders, which always asks for an answer."""
    if not options.get("add_generation_prompt"):
        return tokenizer.chat(messages).ids
    tokenizer.save(folder)

    async def rendering():
        renderer = Renderer(folder)
        await renderer.start()
        try:
            return await renderer.chat(messages)
        finally:
            await renderer.close()

    return asyncio.run(rendering())


# One row for each use of the template; later stages add theirs.
USES = {
    "training": lambda t, _, messages, **options: t.chat(messages, teach="all", **options).ids,
    "batch": lambda t, _, messages, **options: t.chat_batch([messages, messages], teach="all", **options)[1].ids,
    "reloaded": lambda t, folder, messages, **options: reloaded(t, folder, messages, teach="all", **options),
    "transformers": stock,
    "server": served,
}
TOKENIZERS = {
    "bytes": BYTES,
    "qwen2": Tokenizer.train([RENDERED], 384),
    "llama-bpe": Tokenizer.train([RENDERED], 384, split="llama-bpe"),
}


def test_golden():
    """The template's text and ids, byte for byte."""
    ids = BYTES.chat(TALK).ids
    assert BYTES.decode(ids, skip_special=False) == RENDERED
    start, end = BYTES.specials["<|im_start|>"], BYTES.specials["<|im_end|>"]
    newline = BYTES.vocabulary.ids["Ċ"]
    system = [BYTES.vocabulary.ids[letter] for letter in "system"]
    brief = [BYTES.vocabulary.ids["Ġ" if letter == " " else letter] for letter in "Be brief."]
    assert ids[:19] == [start, *system, newline, *brief, end, newline]
    assert BYTES.chat(TALK, add_generation_prompt=True).ids[len(ids) :] == [
        start, *(BYTES.vocabulary.ids[letter] for letter in "assistant"), newline
    ]  # fmt: skip


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("options", [{}, {"add_generation_prompt": True}], ids=["whole", "prompt"])
def test_every_use_gives_the_same_ids(name, options, tmp_path):
    """Training, batches, a reloaded folder, the server and the stock library agree."""
    tokenizer = TOKENIZERS[name]
    wanted = tokenizer.chat(TALK, **options).ids
    for use, make in USES.items():
        assert make(tokenizer, tmp_path / use, TALK, **options) == wanted, use


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("reply", ["Yes.", "\n\n Yes.", "  yes", "\r\n\t是", "'s", "123", ""])
def test_a_prompt_is_the_beginning_of_what_is_taught(name, reply):
    """Whatever the reply begins with, the prompt's ids are a prefix of training's, and all after them teaches."""
    tokenizer = TOKENIZERS[name]
    prompt = tokenizer.chat(TALK[:2], add_generation_prompt=True).ids
    taught = tokenizer.chat([*TALK[:2], {"role": "assistant", "content": reply}])
    assert taught.ids[: len(prompt)] == prompt
    answer = [*tokenizer.encode(reply.strip()), tokenizer.specials["<|im_end|>"]]
    assert taught.ids[len(prompt) : -1] == answer
    assert taught.teaches == [False] * len(prompt) + [True] * len(answer) + [False]


def test_the_template_is_part_of_the_identity(tmp_path):
    """A changed template is another tokenizer for every cache."""
    BYTES.save(tmp_path)
    path = tmp_path / "chat_template.jinja"
    path.write_text(path.read_text().replace("assistant\\n", "assistant: "))
    assert Tokenizer.load(tmp_path).fingerprint != BYTES.fingerprint
