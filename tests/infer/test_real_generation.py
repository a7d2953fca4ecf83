"""Real checkpoints say what their owners' golden files say."""

import itertools
import json

import pytest
import torch

from instar.config.options import SamplingOptions
from instar.hub.folders import load, load_model
from instar.infer.text import complete, generate, stream


@pytest.fixture(scope="module")
def stories(shared):
    """TinyStories-656K: model, tokenizer, golden cases."""
    folder = shared / "weights/TinyStories-656K"
    return *load(folder), json.loads((folder / "golden.json").read_text(encoding="utf-8"))["causal_lm"]


def test_tinystories_tells_its_golden_stories(stories):
    """All prompts in one batch: the golden ids; the text, but for the blank with which it continues its prompt, too."""
    model, tokenizer, cases = stories
    options = SamplingOptions(strategy="greedy", max_new_tokens=60)
    answers = complete(model, tokenizer, [case["prompt"] for case in cases], options)
    for case, answer in zip(cases, answers):
        ended = case["greedy_ids"][-1] in tokenizer.stops
        assert answer.ids == case["greedy_ids"][: -1 if ended else None]
        assert answer.finish == ("stop" if ended else "length")
        said = tokenizer.decode(case["greedy_ids"][: -1 if ended else None])
        assert answer.text.removeprefix(" ") == said
        assert tokenizer.decode(case["input_ids"] + answer.ids) == case["prompt"] + answer.text


def test_tinystories_streams_the_same_story(stories):
    """Piece by piece it is the same text."""
    model, tokenizer, cases = stories
    (text,) = generate(model, tokenizer, cases[0]["prompt"], max_new_tokens=60)
    assert "".join(stream(model, tokenizer, cases[0]["prompt"], max_new_tokens=60)) == text == cases[0]["greedy_text"]


def test_tinystories_golden_logits(stories):
    """The ten largest logits behind each prompt, and the log-probability of each of its tokens."""
    model, _, cases = stories
    with torch.no_grad():
        for case in cases:
            ids = torch.tensor(case["input_ids"])
            logits = model(ids[None])[0]
            top = logits[-1].topk(10)
            assert top.indices.tolist() == case["top10_ids"]
            assert top.values.tolist() == pytest.approx(case["top10_logits"], abs=2e-5)
            chances = logits[:-1].log_softmax(-1).gather(-1, ids[1:, None]).squeeze(-1)
            assert chances.tolist() == pytest.approx(case["prompt_token_logprobs"], abs=2e-5)


def test_nano_sort_sorts(shared):
    """All 729 rows of six symbols, in one call: the same symbols in order. Its 11 positions have room for just that."""
    model = load_model(shared / "weights/gpt-nano-sort/hf")
    rows = [list(row) for row in itertools.product(range(3), repeat=6)]
    assert generate(model, None, rows, max_new_tokens=6, slots=243) == [sorted(row) for row in rows]
