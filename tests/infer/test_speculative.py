"""Guesses of how an answer goes on: what they are, how many there are, and that they never change the answer."""

import random
import re

import pytest
import torch

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.infer.draft import Draft
from instar.infer.engine import Engine
from instar.infer.speculative import Index, NGram


def searched(text, most, least, longest):
    """By hand: the longest ending that stood in the text before, where it last did, and what followed it."""
    for size in range(longest, least - 1, -1):
        for place in range(len(text) - 1, size - 1, -1):
            if text[place - size : place] == text[-size:]:
                grown = list(text)
                for step in range(most):
                    grown.append(grown[place + step])
                return grown[len(text) :]
    return []


@pytest.mark.parametrize(("least", "longest"), [(1, 1), (1, 3), (2, 4), (3, 3)])
def test_the_index_finds_what_a_search_finds(least, longest):
    """Texts of few letters, grown by pieces of any size: after each piece, what brute force would propose."""
    draw = random.Random(least * 10 + longest)
    found = 0
    for letters in (1, 2, 3, 6):
        index, text = Index(least, longest), []
        for _ in range(60):
            piece = [draw.randrange(letters) for _ in range(draw.choice((0, 1, 1, 1, 2, 7)))]
            index.extend(piece)
            text += piece
            for asked in (least, longest):
                guess = index.find(9, asked)
                assert guess == searched(text, 9, asked, longest), text
                found += len(guess) == 9
    assert found > 100


def test_where_guesses_look(asked):
    """In the prompt and the answer, in a source where that was asked for, and never past the answer's end."""
    plain, both = NGram(), NGram(sources=True)
    request = asked([7, 1, 2, 3, 4, 5, 6, 1], [2], source=[9, 1, 2, 8])
    assert plain.propose([request], 3) == both.propose([request], 3) == [[3, 4, 5]]
    request.ids += [3, 8, 9]
    assert [ngram.propose([request], 3) for ngram in (plain, both)] == [[[]], [[]]]
    request.ids += [1, 2]
    assert plain.propose([request], 9) == [[3, 8, 9, 1]]  # the last occurrence, at most 4 in a first guess
    request = asked([5, 5, 5], source=[1, 2, 8, 0], ids=[1, 2])
    assert [ngram.propose([request], 3) for ngram in (plain, both)] == [[[]], [[8, 0, 5]]]
    for room, guess in ((1, []), (2, [5]), (3, [5, 5])):  # the step itself says one token more
        assert plain.propose([asked([5, 5, 5], ids=[5], max_new_tokens=1 + room)], 9) == [guess]


def test_the_end_of_an_answer_is_not_guessed(asked):
    """A guess breaks off before a stop: the step that reads it says the stop by itself."""
    assert NGram().propose([asked([1, 2, 3, 4, 5, 1, 2], stops=[4])], 9) == [[3]]
    assert NGram().propose([asked([1, 2, 3, 4, 5, 1, 2], stops=[3])], 9) == [[]]


def test_requests_do_not_mix(asked):
    """Each has a text and a pace of its own; one that has ended leaves nothing behind."""
    ngram = NGram()
    first, second = asked([1, 2, 3, 1, 2]), asked([1, 2, 4, 1, 2])
    assert ngram.propose([first, second], 1) == [[3], [4]]
    for _ in range(2):
        ngram.told(first, 2, 0)
    assert ngram.propose([second, first], 1) == [[4], []]
    for request in (first, second):
        ngram.forget(request)
    assert not len(ngram.paces)
    assert not ngram._indexes
    ngram.forget(first)
    assert (ngram.paces.drafted, ngram.paces.accepted) == (4, 0)


def test_chance_is_not_a_sign(asked):
    """Where guessing did not pay lately, two tokens that stood there before are not enough for another try."""
    ngram, request = NGram(), asked([1, 2, 3, 4, 5, 6, 1, 2])
    assert ngram.propose([request], 1) == [[3]]
    ngram.told(request, 4, 0)
    request.ids += [9, 1, 2]
    assert [ngram.propose([request], 1) for _ in range(9)] == [[[]]] * 9
    request.ids += [3, 4]
    assert ngram.propose([request], 1) == [[5]]


def test_random_text_is_hardly_guessed_at(asked):
    """Of 4,000 tokens of chance few steps try, though some of it comes true; of a loop all do, at full length."""

    def follow(text, begin):
        ngram, request, steps = NGram(), asked(text[:begin]), []
        at = begin
        while at < len(text) - 20:
            (guess,) = ngram.propose([request], 16)
            true = next((n for n, (a, b) in enumerate(zip(guess, text[at:])) if a != b), len(guess))
            ngram.told(request, len(guess), true)
            steps.append(len(guess))
            request.ids += text[at : at + true + 1]
            at += true + 1
        return steps

    draw = random.Random(0)
    for kinds, most in ((500, 0.004), (50, 0.004), (8, 0.03)):
        steps = follow([draw.randrange(kinds) for _ in range(4000)], 100)
        assert 0 < sum(size > 0 for size in steps) < most * len(steps)
    assert len(follow([n % 23 for n in range(4000)], 100)) < 4000 / 14


@pytest.mark.parametrize(
    "make",
    [lambda: NGram(least=0), lambda: NGram(least=3, longest=2), lambda: NGram(most=0), lambda: NGram(rows=0),
     lambda: NGram().told(object(), 1, 2)],
)  # fmt: skip
def test_figures_out_of_range(make):
    """Each is named with what was wanted."""
    with pytest.raises(InputError, match="wanted"):
        make()


class Wrong:
    """Guesses of any length, some of which happen to be right."""

    def propose(self, requests, most):
        return [[(5 * request.ids[-1] + n) % 61 for n in range(len(request.ids) % 5)] for request in requests]

    def told(self, request, drafted, accepted):
        assert 0 <= accepted <= drafted

    def forget(self, request):
        pass


def answers(model, propose, rules, count=10):
    """What an engine says to prompts of different lengths, more than it has rows for."""
    engine = Engine(model, slots=5, chunk=20, propose=propose)
    draw = random.Random(8)
    requests = []
    for number in range(count):
        prompt = [draw.randrange(61) for _ in range(draw.choice((1, 3, 16, 40)))]
        requests.append(engine.submit(prompt, SamplingOptions(max_new_tokens=30, **rules), seed=number, stops=[7]))
    engine.run()
    engine.pages.check()
    return requests


@pytest.mark.parametrize(
    ("rules", "windows"),
    [(dict(strategy="greedy"), (0, 9)), (dict(temperature=0.4), ()), (dict(top_p=0.7, min_new_tokens=20), (0, 9)),
     (dict(top_k=9, min_p=0.02, logit_bias=((3, 2.0),)), ())],
)  # fmt: skip
def test_no_answer_changes(make_model, rules, windows):
    """With guesses of every kind each request has the same tokens, log-probabilities and end as without. Those of the
    model itself, by the request's own luck, all come true."""
    model, small = (make_model(windows=windows, max_positions=100, **more) for more in ({}, {"d_ff": 24}))
    plain = answers(model, None, rules)
    own = Draft(model, model, trial=0, rows=10**9)
    own.paces.share = 0.0
    for propose in (NGram(least=1, longest=2), NGram(), Draft(small, model), Wrong(), own):
        guessed = answers(model, propose, rules)
        assert [request.ids for request in guessed] == [request.ids for request in plain]
        assert [request.finish for request in guessed] == [request.finish for request in plain]
        for request, wanted in zip(guessed, plain):
            assert request.logprobs == pytest.approx(wanted.logprobs, abs=1e-9)
        assert isinstance(propose, NGram) or sum(request.drafted for request in guessed) > 20
        if isinstance(propose, (NGram, Draft)):
            assert propose.paces.drafted == sum(request.drafted for request in guessed)
            assert propose.paces.accepted == sum(request.accepted for request in guessed)
            assert not len(propose.paces)
    assert own.paces.accepted == own.paces.drafted > 50


def test_a_constraint_beside_guesses(make_model, tokenizer):
    """An answer that is to obey a constraint goes on beside others that are guessed ahead, and each says what it says
    without guesses."""
    pytest.importorskip("llguidance")
    from instar.infer.constrain import compile

    model, rules = make_model(tokenizer.vocab_size), SamplingOptions(regex="[a-z]{20}", max_new_tokens=30)
    grammar, said = compile(tokenizer, rules, tokenizer.vocab_size), []
    for propose in (None, Wrong()):
        engine = Engine(model, slots=4, stops=tokenizer.stops, propose=propose)
        greedy = SamplingOptions(strategy="greedy", max_new_tokens=30)
        asked = [engine.submit([n], greedy) for n in (5, 9)]
        asked.insert(1, engine.submit([7], rules, seed=1, constraint=grammar.start()))
        engine.run()
        said.append([request.ids for request in asked])
    assert sum(request.drafted for request in asked) > 20
    assert said[0] == said[1]
    assert re.fullmatch("[a-z]{20}", tokenizer.decode(asked[1].ids))


def test_the_distribution_stays_as_it_is(make_model):
    """3,000 answers with guesses that come true or not: a chi-square of their second and third token
    against the model's own probabilities."""
    model, small = (make_model(vocab_size=5, d_model=8, max_positions=8, layers=n) for n in (2, 1))
    for each in (model, small):
        with torch.no_grad():
            each.heads["lm"].weight /= 10
    draft = Draft(small, model, trial=0, rows=10**9)
    draft.paces.share = 0.0
    engine = Engine(model, slots=250, capacity=8, propose=draft)
    options = SamplingOptions(max_new_tokens=4)
    requests = [engine.submit([1], options, seed=seed) for seed in range(3000)]
    engine.run()
    assert draft.paces.accepted > 1000
    assert draft.paces.drafted - draft.paces.accepted > 500
    found = torch.zeros(5, 5)
    for request in requests:
        found[request.ids[1], request.ids[2]] += 1
    with torch.inference_mode():
        firsts = torch.tensor([[1, a, b] for a in range(5) for b in range(5)])
        chances = model(firsts).softmax(-1)
        ways = (
            chances[:, 0].gather(1, firsts[:, 1:2]) * chances[:, 1].gather(1, firsts[:, 2:]) * chances[:, 2]
        ).float()
    wanted = 3000 * ways.view(5, 5, 5).sum(0)
    assert wanted.min() > 5
    statistic = float(((found - wanted) ** 2 / wanted).sum())
    assert statistic < 51.2  # 24 degrees of freedom, p = 0.001


def test_a_guess_beside_a_prompt_that_ends_where_it_does(make_model):
    """Tokens 1 and 2 of one row and 0 to 2 of another are read together; each sees what stands before it."""

    class One(Wrong):
        def propose(self, requests, most):
            return [[5] if len(request.prompt) == 1 else [] for request in requests]

    model = make_model()
    engine = Engine(model, slots=2, propose=One())
    options = SamplingOptions(strategy="greedy", max_new_tokens=4)
    first = engine.submit([12], options)
    engine.step()
    second = engine.submit([1, 2, 3], options)
    engine.step()
    for request in (first, second):
        with torch.inference_mode():
            logits = model(torch.tensor([request.text]))[0, len(request.prompt) - 1 : -1]
        wanted = logits.log_softmax(-1)[range(len(request.ids)), request.ids]
        assert request.logprobs == pytest.approx(wanted.tolist(), abs=1e-9)
