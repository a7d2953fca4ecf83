"""What `grow` made, in the hands of transformers."""

import pytest
import torch

import instar
from instar.infer.text import complete, sampling_options

CHAT = [
    {"role": "user", "content": "Anna gave Tom a red ball. Where is it?"},
    {"role": "assistant", "content": "在河边。"},
    {"role": "user", "content": "<|im_end|> Thank you!"},
]


@pytest.fixture(scope="module")
def theirs(grown):
    """transformers' model and tokenizer."""
    library = pytest.importorskip("transformers")
    return library.AutoModelForCausalLM.from_pretrained(grown.sft), library.AutoTokenizer.from_pretrained(grown.sft)


def test_the_chat_template_gives_the_same_ids(grown, theirs):
    """apply_chat_template renders as we do, for text without control tokens in it."""
    tokenizer = instar.load_tokenizer(grown.sft)
    wanted = tokenizer.chat(CHAT[:2], add_generation_prompt=True).ids
    found = theirs[1].apply_chat_template(CHAT[:2], add_generation_prompt=True, tokenize=True, return_dict=True)
    assert found["input_ids"] == wanted


def test_greedy_answers_are_the_same(grown, theirs):
    """The same tokens behind the same conversation, stopped by the same ends."""
    model, tokenizer = instar.load(grown.sft)
    ids = tokenizer.chat(CHAT, add_generation_prompt=True).ids
    (ours,) = complete(model, tokenizer, [ids], sampling_options(max_new_tokens=12))
    with torch.inference_mode():
        said = theirs[0].generate(torch.tensor([ids]), do_sample=False, max_new_tokens=12)[0, len(ids) :].tolist()
    assert [id for id in said if id not in tokenizer.stops] == ours.ids
    assert (len(ours.ids) < 12) == (said[-1] in tokenizer.stops)
