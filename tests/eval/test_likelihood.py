"""Log-probabilities against the full softmax, one text at a time; where a continuation begins; what is too long."""

from dataclasses import replace

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.eval import likelihood
from instar.eval.likelihood import Window, after, begin, score, whole
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

TEXTS = ["Anna had a red ball. She gave the ball to Tom.\n" * 4, "王明有一个红色的球。球在花园里。\n" * 2]
PAIRS = [("Anna had", " a red ball."), ("She gave the ball to", " Tom."), ("王明有", "一个红色的球。"), ("A", " b")]


@pytest.fixture(scope="module")
def begun():
    """A tokenizer that puts a begin token before every document."""
    return Tokenizer.train(TEXTS, 320, masks=True)


@torch.no_grad()
def by_hand(model, ids, first, source=None):
    """Every log-probability from the softmax over the whole vocabulary, and whether each token was the likeliest."""
    given = {} if source is None else {"source": torch.tensor([source])}
    logits = model(torch.tensor([ids[:-1]]), **given)[0]
    chances = logits.softmax(-1)
    total, hits = 0.0, 0
    for place in range(first, len(ids)):
        total += chances[place - 1, ids[place]].log().item()
        hits += int(chances[place - 1].argmax()) == ids[place]
    return total, hits


def test_each_window_as_by_hand(tokenizer, model):
    """The sum over what counts, how many tokens that were, and how many of them were the likeliest."""
    windows = after(model, tokenizer, PAIRS)
    with torch.no_grad():  # one continuation that the model says by itself
        best = model(torch.tensor([windows[0].ids[:3]]))[0, -1].argmax().item()
    windows.append(Window([*windows[0].ids[:3], best], 3))
    for window, found in zip(windows, score(model, windows)):
        total, hits = by_hand(model, window.ids, window.first)
        assert found.logprob == pytest.approx(total, rel=1e-10)
        assert (found.tokens, found.hits) == (len(window.ids) - window.first, hits)
        assert found.greedy is (hits == found.tokens)
    assert found.greedy


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_ragged_is_single(tokenizer, model, batch):
    """Texts of any length read together, in their order, are what each is alone; progress adds up."""
    done = []
    windows = after(model, tokenizer, [(context * n, text) for n in (1, 3) for context, text in PAIRS])
    together = score(model, windows, batch=batch, each=done.append)
    for window, found in zip(windows, together):
        (alone,) = score(model, [window])
        assert found.logprob == pytest.approx(alone.logprob, rel=1e-12)
        assert (found.tokens, found.hits) == (alone.tokens, alone.hits)
    assert sum(done) == len(windows)


def test_logits_never_exist_all_at_once(tokenizer, model, monkeypatch):
    """The head sees a bounded number of rows; the figures stay."""
    windows = after(model, tokenizer, PAIRS)
    plain = [one.logprob for one in score(model, windows)]
    monkeypatch.setattr(likelihood, "LOGITS", 3 * tokenizer.vocab_size)
    rows = []
    model.heads["lm"].register_forward_hook(lambda head, inputs, output: rows.append(len(output)))
    assert [one.logprob for one in score(model, windows)] == pytest.approx(plain, rel=1e-12)
    assert max(rows) <= 3


def test_the_begin_token_foresees_the_first(begun, tokenizer, model):
    """With a begin token every token counts; without one the first does not."""
    ids = begun.encode("Anna had")
    assert begin(begun) == [begun.bos]
    assert whole(model, begun, ["Anna had"]) == [Window([begun.bos, *ids], 1)]
    assert begin(tokenizer) == []
    assert whole(model, tokenizer, ["Anna had"]) == [Window(tokenizer.encode("Anna had"), 1)]


def test_a_begin_token_that_documents_do_not_have(tokenizer, model):
    """GPT-2 knows one but puts it nowhere: a text by itself has it, a context has not."""
    known = Tokenizer(
        tokenizer.vocabulary.spec, tokenizer.config | {"bos_token": "<|end_of_text|>", "add_bos_token": False}
    )
    assert begin(known) == [known.eos]
    assert after(model, known, [("Anna", " had")])[0].ids == known.encode("Anna had")
    assert after(model, known, [("", "Anna had")]) == [Window([known.eos, *known.encode("Anna had")], 1)]


def test_where_the_continuation_begins(begun, model):
    """Both are encoded as one text, and blanks at the end of the context belong to the continuation: "red" and " red"
    are other tokens."""
    joined, context = begun.encode("Anna had a red ball."), begun.encode("Anna had a")
    wanted = Window([begun.bos, *joined], 1 + len(context))
    assert after(model, begun, [("Anna had a", " red ball.")]) == [wanted]
    assert after(model, begun, [("Anna had a ", "red ball.")]) == [wanted]
    assert joined[len(context)] != begun.encode("red ball.")[0]


def test_a_token_over_the_edge(tokenizer, model):
    """Where a token holds the end of the context and the beginning of the continuation, what counts is what the
    context alone did not fill, and at least the last token."""
    for context, text in (("She gave the bal", "l"), ("She gave Ann", "a"), ("She gave the bal", "l to Tom")):
        before, joined = tokenizer.encode(context), tokenizer.encode(context + text)
        assert joined[: len(before)] != before
        (window,) = after(model, tokenizer, [(context, text)])
        assert window == Window(joined, min(len(before), len(joined) - 1))


def test_a_long_context_loses_its_beginning(tokenizer, model):
    """The last 65 ids are read, the last of them only as a target; the cut is told."""
    context = "Anna had a red ball." * 20
    ids = tokenizer.encode(context + " Tom.")
    (window,) = after(model, tokenizer, [(context, " Tom.")])
    assert window.ids == ids[-65:]
    assert window.cut == len(ids) - 65 > 0
    assert window.ids[window.first :] == ids[len(tokenizer.encode(context)) :]


@pytest.mark.parametrize("pair", [("Anna", ""), ("Anna", "  "), ("Anna", " b" * 80), ("", "b")])
def test_a_continuation_that_cannot_be_read(tokenizer, model, pair):
    """Empty, longer than the model reads, or with nothing before it."""
    with pytest.raises(InputError, match=r"is \d+ tokens, wanted from 1 to 64"):
        after(model, tokenizer, [("Anna", " had"), pair])


@pytest.mark.parametrize("text", ["", "b", "b" * 80])
def test_a_text_that_cannot_be_read(tokenizer, model, text):
    """Of which no token counts, or longer than the model reads."""
    with pytest.raises(InputError, match="tokens, wanted from 2 to 65"):
        whole(model, tokenizer, ["Anna had", text])


def test_an_encoder_decoder_reads_the_context(tokenizer):
    """The context is its source, a whole document; each continuation as by hand, alone and beside others."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, layers=2, heads=2, max_positions=64, encoder_layers=1, start=7,
    )  # fmt: skip
    model = Transformer(config, seed=3).double()
    windows = after(model, tokenizer, PAIRS)
    assert windows[0] == Window([7, *tokenizer.encode("a red ball.")], 1, 0, tokenizer.document("Anna had"))
    for window, found in zip(windows, score(model, windows)):
        assert found.logprob == pytest.approx(by_hand(model, window.ids, 1, window.source)[0], rel=1e-10)
    (cut,) = after(model, tokenizer, [("Anna had a red ball." * 20, " Tom.")])
    assert (len(cut.source), cut.cut > 0, cut.source[-1]) == (64, True, tokenizer.eos)
    with pytest.raises(InputError, match="start=-1"):
        after(Transformer(replace(config, start=-1)), tokenizer, PAIRS)
    with pytest.raises(InputError, match="encoder-decoder"):
        whole(model, tokenizer, ["Anna had"])
    with pytest.raises(InputError, match="wanted from 1 to 64"):
        after(model, tokenizer, [("Anna", " b" * 80)])


def test_models_that_foresee_nothing(tokenizer):
    """One that reads both ways, and one that says no tokens."""
    shape = {"vocab_size": tokenizer.vocab_size, "d_model": 16, "layers": 1, "heads": 2}
    for config, message in (({"causal": False}, "causal=false"), ({"heads_of": ("score",)}, "wanted the head lm")):
        with pytest.raises(InputError, match=message):
            after(Transformer(ModelConfig(**shape, **config)), tokenizer, PAIRS)
