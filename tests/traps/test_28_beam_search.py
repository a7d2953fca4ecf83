"""Trap 28: beam search that ranks by something else than it says. huggingface/transformers#26624 (the length of the
prompt in the score), #20901 (stopped too early), #38778 (an answer depends on its batch-mates); neulab/xnmt#572.

Guard: a score is a sum of log-probabilities over a power of the number of generated tokens, beams that see everything
find what trying everything finds, and prompts of any lengths side by side get the answers they get alone.
"""

from itertools import product

import pytest
import torch

from instar.config import ModelConfig
from instar.config.options import SamplingOptions
from instar.infer.beam import beam_search
from instar.infer.engine import Engine
from instar.model.pool import Pool
from instar.model.transformer import Transformer

START, END = 1, 2
TEXTS = [[1], [4, 0, 3, 3, 1, 0, 4], [3, 1], [0, 4, 4, 1, 3]]
# seeds of which some answers end and others do not
KINDS = {"decoder": (3, {}), "encoder-decoder": (8, dict(encoder_layers=2, start=START))}


@pytest.fixture(params=KINDS)
def make_model(request):
    """Tiny, fp64, with logits of a standard deviation above 1."""

    def make(vocab_size):
        seed, kind = KINDS[request.param]
        shape = dict(d_model=16, layers=2, heads=4, kv_heads=2, max_positions=48, tied=False, **kind)
        model = Transformer(ModelConfig(vocab_size=vocab_size, **shape), seed=seed).double()
        with torch.no_grad():
            model.heads["lm"].weight *= 20
            for block in model.blocks:
                if block.cross is not None:  # so that answers differ from source to source
                    block.cross.out.weight *= 3
        return model

    return make


def search(model, texts, options, **more):
    """Answers to texts: prompts of a decoder, sources of an encoder-decoder."""
    if model.encoder is None:
        return beam_search(model, texts, options, **more)
    return beam_search(model, [[] for _ in texts], options, sources=texts, **more)


def beam(width, **rules):
    return SamplingOptions(strategy="beam", beams=width, **rules)


@torch.no_grad()
def scores(model, text, answers, penalty):
    """By the formula, from one pass over whole texts without a cache. answers: ids of one length, with the stop."""
    source = None if model.encoder is None else torch.tensor([text] * len(answers))
    prompt = text if source is None else [START]
    ids = torch.tensor(answers)
    read = torch.cat((torch.tensor([prompt] * len(answers)), ids), dim=1)
    chances = model(read, source=source).log_softmax(-1)[:, len(prompt) - 1 : -1]
    return (chances.gather(2, ids[..., None]).sum((1, 2)) / ids.shape[1] ** penalty).tolist()


def every_answer(steps, size=5):
    """All that can be said in so many steps: what ends before, with its stop, and what does not end."""
    others = [id for id in range(size) if id != END]
    for length in range(steps):
        yield from ([*ids, END] for ids in product(others, repeat=length))
    yield from (list(ids) for ids in product(others, repeat=steps))


@pytest.mark.parametrize("stopping", ["likely", "full", "never"])
@pytest.mark.parametrize("penalty", [-1.0, 0.0, 1.0])
def test_wide_beams_find_what_trying_everything_finds(make_model, penalty, stopping):
    """5 tokens, 4 steps, as many beams as there are answers: the same answers, order and scores."""
    model, tried = make_model(5), []
    for length in range(1, 5):
        answers = [ids for ids in every_answer(4) if len(ids) == length]
        tried += zip(scores(model, TEXTS[1], answers, penalty), answers)
    tried.sort(reverse=True)
    assert len(tried) == 341
    options = beam(341, length_penalty=penalty, early_stopping=stopping, max_new_tokens=4)
    (found,) = search(model, [TEXTS[1]], options, n=341, stops=[END])
    assert [(h.ids, h.finish) for h in found] == [
        (ids[:-1], "stop") if ids[-1] == END else (ids, "length") for _, ids in tried
    ]
    assert [h.score for h in found] == pytest.approx([score for score, _ in tried], abs=1e-10)


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 0.7, 2.0])
def test_the_prompt_is_not_in_the_score(make_model, penalty):
    """Whatever the length of the prompt, each score is that of the formula."""
    model = make_model(11)
    found = search(model, TEXTS, beam(3, length_penalty=penalty, max_new_tokens=6), n=3, stops=[END])
    for text, best in zip(TEXTS, found):
        for answer in best:
            ids = answer.ids + [END] * (answer.finish == "stop")
            assert answer.score == pytest.approx(scores(model, text, [ids], penalty)[0], abs=1e-10)
    assert {answer.finish for best in found for answer in best} == {"stop", "length"}


@pytest.mark.parametrize("stopping", ["likely", "full", "never"])
@pytest.mark.parametrize("slots", [3, 6, 64])
def test_an_answer_does_not_depend_on_its_batch(make_model, slots, stopping):
    """Alone, side by side, in any order: the same ids, and scores to 1e-10, though prompts end at different steps."""
    model = make_model(11)
    options = beam(3, early_stopping=stopping, max_new_tokens=12)
    alone = [search(model, [text], options, n=3, stops=[END])[0] for text in TEXTS]
    assert len({answer.ids[0] for best in alone for answer in best if answer.ids}) > 2
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [1, 1, 2]):
        together = search(model, [TEXTS[n] for n in order], options, n=3, stops=[END], slots=slots)
        for n, best in zip(order, together):
            assert [answer.ids for answer in best] == [answer.ids for answer in alone[n]]
            assert [answer.score for answer in best] == pytest.approx([answer.score for answer in alone[n]], abs=1e-10)


@pytest.mark.parametrize("stopping", ["likely", "full"])
def test_one_beam_is_greedy(make_model, stopping):
    """The same ids and log-probabilities as the engine's greedy answers. (never goes on past the first end, as long as
    a longer answer may score higher.)"""
    model = make_model(11)
    found = search(model, TEXTS, beam(1, early_stopping=stopping, max_new_tokens=10), stops=[END])
    engine, options = Engine(model, stops=[END]), SamplingOptions(strategy="greedy", max_new_tokens=10)
    given = [(text, None) if model.encoder is None else ([], text) for text in TEXTS]
    greedy = [engine.submit(prompt, options, source=source) for prompt, source in given]
    engine.run()
    for (answer,), request in zip(found, greedy):
        assert (answer.ids, answer.finish) == (request.ids, request.finish)
        assert answer.logprobs == pytest.approx(request.logprobs, abs=1e-10)
    assert {request.finish for request in greedy} == {"stop", "length"}


def test_only_what_was_generated_is_copied(make_model, monkeypatch):
    """Full blocks of a prompt are read once and kept once for all its beams, and so is a source."""
    copied, kept = set(), []
    own, step = Pool.own, Engine.step

    def watched(pool, places):
        before = pool.table.copy()
        own(pool, places)
        copied.update((place, pool.window) for row, place in places if pool.table[row, place] != before[row, place])

    def counted(engine):
        events = step(engine)
        kept.append([pool.allocated for pool in engine.pages.every])
        return events

    monkeypatch.setattr(Pool, "own", watched)
    monkeypatch.setattr(Engine, "step", counted)
    model = make_model(11)
    search(model, [[5, 3] * 17], beam(3, max_new_tokens=12))
    assert {place for place, _ in copied} == {2 if model.encoder is None else 0}  # 34 tokens: two blocks and a part
    # 2 + 3 * 1 blocks for 34 + 11 tokens; 3 * 1 for 12, and 3 for the source
    assert max(kept) == ([5] if model.encoder is None else [3, 3])
