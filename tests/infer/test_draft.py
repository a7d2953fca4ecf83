"""A small model guesses what a larger one says: with its luck, and without reading anything twice."""

import random

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.infer.draft import Draft, check_same_words, proposer
from instar.infer.sampling import Rules
from instar.infer.text import generate, stream
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer


def free(model, target, **room):
    """A draft model that costs nothing, so that it always guesses as much as it may."""
    draft = Draft(model, target, trial=0, rows=10**9, **room)
    draft.paces.share = 0.0
    return draft


def by_hand(model, request, count):
    """What the model says next to a request when it reads everything anew for each token."""
    ids = list(request.ids)
    for _ in range(count):
        with torch.inference_mode():
            logits = model(torch.tensor([[*request.prompt, *ids]]))[0, -1:]
        rules = Rules([request.options], logits, [request.stops])
        short = torch.tensor([len(ids) < request.options.min_new_tokens])
        luck = torch.tensor([request.luck.of(len(ids))], dtype=torch.float64)
        ids += rules.choose(rules.shape(logits, short=short), luck).tolist()
        if ids[-1] in request.stops:
            return ids[len(request.ids) : -1]
    return ids[len(request.ids) :]


def settings(seed):
    """Different ways to choose."""
    return [
        dict(strategy="greedy"),
        dict(temperature=0.7, seed=seed),
        dict(temperature=1.3, top_k=20, seed=seed),
        dict(top_p=0.9, min_new_tokens=9, stops=range(30), seed=seed),
        dict(strategy="greedy", logit_bias=((5, 4.0), (6, 4.0))),
    ][seed % 5]


@pytest.mark.parametrize("windows", [(), (0, 9)])
def test_guesses_are_what_the_small_model_says(make_model, asked, windows):
    """Requests come, go on by any part of a guess or without one, and leave: guesses are those of a model that reads
    everything anew, by the request's own options and luck. The books balance, and at the end all room is free."""
    model = make_model(windows=windows, max_positions=150)
    draft = free(model, make_model(), slots=4, chunk=5)
    draw = random.Random(1)
    running, made = [], 0
    for step in range(45):
        if len(running) < 4 and draw.random() < 0.4:
            prompt = [draw.randrange(61) for _ in range(draw.choice((1, 3, 16, 17, 40)))]
            running.append(asked(prompt, **settings(step)))
        there = [request for request in running if draw.random() < 0.8]
        for request in [request for request in running if request not in there]:  # it goes on without being asked about
            request.ids += [draw.randrange(61) for _ in range(draw.choice((0, 1, 3)))]
        for request, guess in zip(there, draft.propose(there, 3)):
            room = 3 if 3 + len(request.prompt) + len(request.ids) <= 150 else 0
            assert guess == by_hand(model, request, room)
            made += bool(guess)
            right = draw.randint(0, len(guess))
            draft.paces.told(request, 1, 1)
            request.ids += [*guess[:right], draw.randrange(61)]
        for request in [request for request in running if draw.random() < 0.05]:
            running.remove(request)
            draft.forget(request)
        draft.pages.check()
    assert made > 40
    for request in running:
        draft.forget(request)
    draft.pages.check()
    assert all(pool.allocated == 0 for pool in draft.pages.every)
    assert draft.pages.free_rows == 4
    assert not len(draft.paces)


def test_nothing_is_read_twice(make_model, asked):
    """The first guess reads the prompt in chunks; each later one what was said since, less what it had guessed."""
    model = make_model()
    draft, read = free(model, make_model(), chunk=8), []
    hidden = model.hidden
    model.hidden = lambda tokens, **rest: (read.append(tokens.shape[1]), hidden(tokens, **rest))[1]
    request = asked(range(20), strategy="greedy")
    (guess,) = draft.propose([request], 3)
    assert read == [8, 8, 4, 1, 1]
    for right, first in ((3, 2), (2, 1), (0, 1)):
        read.clear()
        request.ids += [*guess[:right], (guess[right] + 1) % 61 if right < 3 else 7]
        (guess,) = draft.propose([request], 3)
        assert read == [first, 1, 1]
    same = asked(range(20), strategy="greedy")
    read.clear()
    draft.propose([same], 1)
    assert read == [4]  # the block of its prompt is known


def test_what_is_not_guessed_at(make_model, asked):
    """No guess without a free row, beyond what the small model reads, or behind an id that it does not know."""
    draft = free(make_model(vocab_size=50), make_model(), slots=1)
    strange, first, second = asked([1, 55]), asked([1] * 40), asked([2])
    assert [len(guess) for guess in draft.propose([strange, first, second], 2)] == [0, 2, 0]
    first.ids += [3] * 7
    assert draft.propose([first], 2) == [[]]
    assert len(draft.propose([first], 1)[0]) == 1
    draft.forget(first)
    assert len(draft.propose([second], 2)[0]) == 2
    wide = free(make_model(vocab_size=90), make_model())
    requests = [asked([1], seed=seed, temperature=100.0) for seed in range(64)]
    assert max(max(guess) for guess in wide.propose(requests, 4)) < 61


def test_models_that_do_not_belong_together(make_model):
    """An encoder-decoder on either side, and a vocabulary with other words or another number of them."""
    both = Transformer(ModelConfig(vocab_size=61, d_model=16, layers=1, encoder_layers=1, heads=2))
    for draft, target in ((both, make_model()), (make_model(), both)):
        with pytest.raises(InputError, match="encoder-decoder"):
            Draft(draft, target)
    red, blue = "a red ball and a blue ball " * 9, "a red bull and a blue bull " * 9
    some, same, longer, other = (Tokenizer.train([text], 320) for text in (red, red, red + "in the sand", blue))
    check_same_words(some, same)
    sizes = [len(tokenizer.vocabulary.table) for tokenizer in (longer, some)]
    with pytest.raises(InputError, match="{} ids, the model's {}".format(*sizes)):
        check_same_words(longer, some)
    with pytest.raises(InputError, match=r"to the draft model and .* to the model; .*same family"):
        check_same_words(other, some)


def test_who_guesses(make_model, tokenizer):
    """By n-grams, by a model, or nobody: `generate` says the same; what does not go together is refused."""
    model, small = (make_model(tokenizer.vocab_size, layers=layers, max_positions=120) for layers in (2, 1))
    texts = ["Anna had a red ball. Anna had", "王明"]
    said = [
        generate(model, tokenizer, texts, max_new_tokens=40, temperature=0.5, **ahead)
        for ahead in ({}, dict(speculate="ngram"), dict(draft=small), dict(draft=(small, tokenizer)))
    ]
    assert said[1:] == said[:1] * 3
    pieces = stream(model, tokenizer, texts[0], max_new_tokens=40, temperature=0.5, speculate="ngram")
    assert "".join(pieces) == said[0][0]
    assert proposer(model, tokenizer) is None
    both = make_model(encoder_layers=1)
    assert proposer(both, None, speculate="ngram").sources
    assert not proposer(make_model(encoder_layers=1, source_vocab_size=9), None, speculate="ngram").sources
    for ahead, words in (
        (dict(speculate="often"), "speculate"),
        (dict(speculate="ngram", draft=small), "both"),
        (dict(draft=make_model(9)), "9 ids"),
        (dict(draft=small, beams=2), "beam search"),
    ):
        with pytest.raises(InputError, match=words):
            generate(model, tokenizer, texts, **ahead)
