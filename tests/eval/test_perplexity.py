"""What is counted, over which context, and against the real checkpoint's golden figure. Batch size: traps/test_07."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instar.config import InputError, ModelConfig
from instar.eval import likelihood
from instar.eval.perplexity import Surprise, measure, windows
from instar.hub.folders import load
from instar.model.transformer import Transformer

LONG = "Anna had a red ball. She gave the ball to Tom. 王明有一个红色的球。" * 6


@given(size=st.integers(0, 60), context=st.integers(1, 12), data=st.data())
def test_windows_count_each_token_once(size, context, data):
    """Every token but the first, in order, once; after `overlap` others where there are so many."""
    overlap = data.draw(st.integers(0, context - 1))
    counted = []
    for window in windows(range(size), context, overlap):
        assert len(window.ids) <= context + 1
        assert 1 <= window.first < len(window.ids)
        assert window.first > min(overlap, window.ids[window.first] - 1)
        counted += window.ids[window.first :]
    assert counted == list(range(1, size))


def test_windows_as_documented():
    """The example of the docstring."""
    assert [(w.ids, w.first) for w in windows(range(6), 3, 1)] == [([0, 1, 2, 3], 1), ([2, 3, 4, 5], 2)]


@pytest.mark.parametrize(("context", "overlap"), [(64, 0), (64, 63), (20, 5), (1, 0)])
def test_each_token_is_foreseen_from_its_window(tokenizer, model, context, overlap):
    """Against the plainest reading: one window at a time, log-softmax, pick, add."""
    ids = tokenizer.document(LONG)
    nats = 0.0
    with torch.no_grad():
        for window in windows(ids, context, overlap):
            chances = model(torch.tensor([window.ids[:-1]]))[0].log_softmax(-1)
            wanted = torch.tensor(window.ids[1:])[:, None]
            nats -= chances.gather(-1, wanted)[window.first - 1 :].sum().item()
    found = measure(model, tokenizer, [LONG], context=context, overlap=overlap)
    assert found.nats == pytest.approx(nats, rel=1e-12)
    assert found.tokens == len(ids) - 1


def test_more_context_more_is_known(shared):
    """On a real story with the real checkpoint, a longer context lowers the loss."""
    model, tokenizer = load(shared / "weights/TinyStories-656K")
    story = (shared / "pretrain/en/tinystories.txt").read_text(encoding="utf-8").split("\n<|endoftext|>\n")[0]
    losses = [measure(model, tokenizer, [story], context=context).loss for context in (4, 16, 64)]
    assert losses == sorted(losses, reverse=True)


def test_the_golden_perplexity(shared):
    """TinyStories-656K on its first twenty stories: the golden sum and count, as its file says they were made (each
    story behind its begin token, no end counted), whole and story by story."""
    folder = shared / "weights/TinyStories-656K"
    model, tokenizer = load(folder)
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))["perplexity"]
    text = (shared / "pretrain/en/tinystories.txt").read_text(encoding="utf-8")
    stories = text.split("\n<|endoftext|>\n")[: golden["stories"]]
    found = measure(model, tokenizer, stories, ended=False)
    assert found.tokens == golden["tokens"]
    assert found.nats == pytest.approx(golden["nll_sum"], abs=0.01)
    assert found.perplexity == pytest.approx(math.exp(golden["nll_per_token"]), rel=1e-4)
    assert found.bytes == sum(len(story.encode()) for story in stories)  # a begin token stands before the first
    for story, (nats, tokens) in list(zip(stories, golden["per_story"]))[:5]:
        one = measure(model, tokenizer, [story], ended=False)
        assert (one.nats, one.tokens) == (pytest.approx(nats, abs=2e-3), tokens)


def test_only_bytes_that_were_foreseen_count(tokenizer, model):
    """Without a begin token nothing foresees the first token: its surprise is not known, so its bytes do not count."""
    text = "球 ball"
    found = measure(model, tokenizer, [text, text])
    ids = tokenizer.encode(text)
    assert found.bytes == 2 * (len(text.encode()) - len(tokenizer.token_bytes(ids[0])))
    assert found.tokens == 2 * len(ids)  # all but the first, and the end
    assert measure(model, tokenizer, [text], ended=False).tokens == len(ids) - 1


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary(tokenizer, model):
    """V, and log2 V bits a token."""
    with torch.no_grad():
        model.heads["lm"].weight.zero_()
    found = measure(model, tokenizer, [LONG])
    assert found.perplexity == pytest.approx(tokenizer.vocab_size)
    assert found.bits_per_byte == pytest.approx(found.tokens * math.log2(tokenizer.vocab_size) / found.bytes)
    assert found.report()["documents"] == 1


def test_logits_never_exist_all_at_once(tokenizer, model, monkeypatch):
    """Story: huggingface/transformers#12878 (U6). The head sees a bounded number of rows; the figure stays."""
    whole = measure(model, tokenizer, [LONG] * 4)
    monkeypatch.setattr(likelihood, "LOGITS", 7 * tokenizer.vocab_size)
    rows = []
    model.heads["lm"].register_forward_hook(lambda head, inputs, output: rows.append(len(output)))
    assert measure(model, tokenizer, [LONG] * 4).nats == pytest.approx(whole.nats, rel=1e-12)
    assert max(rows) <= 7


def test_texts_are_read_as_they_come(tokenizer, model):
    """An endless stream of documents is not gathered first: few are in hand when the first is measured."""
    taken = []
    first = []
    model.heads["lm"].register_forward_hook(lambda *_: first.append(len(taken)))

    def texts():
        for number in range(500):
            taken.append(number)
            yield "Anna had a ball."

    done = []
    measure(model, tokenizer, texts(), batch=2, each=done.append)
    assert first[0] <= 33
    assert sum(done) == 500


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["", "a"], {"ended": False}, "no text to measure"),
        (["Anna"], {"context": 65}, "context=65, wanted from 1 to 64"),
        (["Anna"], {"context": 8, "overlap": 8}, "overlap=8 .* wanted 0 to 7"),
        (["Anna"], {"batch": 0}, "batch=0"),
    ],
)
def test_what_cannot_be_measured(tokenizer, model, texts, options, message):
    """Each is an error that names the figure."""
    with pytest.raises(InputError, match=message):
        measure(model, tokenizer, texts, **options)


def test_a_hopeless_loss_is_still_a_number():
    """exp of a very large loss does not overflow."""
    assert math.isfinite(Surprise(nats=1e9, tokens=1).perplexity)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (dict(encoder_layers=1, start=0), "this model reads a source besides"),
        (dict(causal=False, heads_of=("masked",)), "heads masked, wanted the head lm"),
    ],
)
def test_models_that_foresee_no_text_are_refused(tokenizer, shape, message):
    """An encoder-decoder and an encoder are told by name, not by a missing key."""
    config = ModelConfig(vocab_size=tokenizer.vocab_size, d_model=16, layers=1, heads=2, max_positions=64, **shape)
    with pytest.raises(InputError, match=message):
        measure(Transformer(config), tokenizer, ["Anna had a ball."])
