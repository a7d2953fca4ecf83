"""Beam searches in the engine: beside all else, in memory that is kept for them, and heard of when they are decided."""

from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.config import InputError, ModelConfig
from instar.config.options import SamplingOptions
from instar.infer.beam import beam_search
from instar.infer.constrain import Constraint
from instar.infer.engine import Engine
from instar.infer.search import seats
from instar.model.pages import Pages, blocks_of
from instar.model.transformer import Transformer

ENDS = [7, 30]
SHAPES = {
    "decoder": dict(),
    "windows": dict(windows=(17, 0), positions="alibi"),
    "near": dict(windows=(5, 5)),
    "encoder-decoder": dict(encoder_layers=1, start=1),
}


def beam(width=3, **rules):
    return SamplingOptions(strategy="beam", beams=width, **dict(max_new_tokens=8) | rules)


def model_of(shape):
    """fp64, with logits of a standard deviation above 1."""
    model = Transformer(
        ModelConfig(vocab_size=61, d_model=16, layers=2, heads=2, max_positions=96, tied=False, **SHAPES[shape]), seed=3
    ).double()
    with torch.no_grad():
        model.heads["lm"].weight *= 20
    return model


MODELS = {shape: model_of(shape) for shape in SHAPES}


def submit(engine, text, options, **more):
    """A text: the prompt of a decoder, the source of an encoder-decoder."""
    if engine.model.encoder is None:
        return engine.submit(text, options, **more)
    return engine.submit([], options, source=text, **more)


def outcome(request):
    """What is to be the same whatever else is asked."""
    best = [(found.ids, found.finish) for found in request.hypotheses]
    return best, request.ids, request.finish


def alone(shape, text, options, **more):
    engine = Engine(MODELS[shape], stops=ENDS)
    request = submit(engine, text, options, **more)
    engine.run()
    return request


def check(engine):
    """The books balance, and what beams may still need is free."""
    engine.pages.check()
    assert len(engine.waiting) + len(engine.running) == len({*engine.waiting, *engine.running})
    assert engine.schedule.free_rows >= 0
    rows = [beam.row for request in engine.schedule.searching for beam in request.beams]
    rows += [request.row for request in (*engine.schedule.speaking, *engine.schedule.reading)]
    assert len(set(rows)) == len(rows)
    assert len(rows) + engine.pages.free_rows == len(engine.pages)
    engine.schedule._set_aside()
    assert all(0 <= pool.owed <= pool.free for pool in engine.pages.pools.values())
    for at in (at for request in engine.schedule.searching for at in request.beams):
        for window, pool in engine.pages.pools.items():  # what no layer looks at is given back
            assert not window or pool.count[at.row] - pool.first[at.row] <= blocks_of(window) + 1


@st.composite
def asked(draw):
    """A text, options of a search or of another answer, what else is passed, and the steps before the next is asked."""
    text = [draw(st.integers(1, 2))] * draw(st.integers(0, 40)) + draw(
        st.lists(st.integers(0, 60), min_size=1, max_size=5)
    )
    count, steps = draw(st.integers(1, 40)), draw(st.integers(0, 6))
    if draw(st.booleans()):
        strategy = draw(st.sampled_from(["greedy", "sample"]))
        return text, SamplingOptions(strategy=strategy, max_new_tokens=count), dict(seed=5), steps
    width, patience = draw(st.integers(1, 5)), draw(st.sampled_from(["likely", "full", "never"]))
    least = draw(st.integers(0, min(9, count)))
    options = beam(width, max_new_tokens=count, min_new_tokens=least, early_stopping=patience)
    return text, options, dict(n=draw(st.integers(1, width))), steps


SIZES = dict(tight=st.floats(1.0, 3.0), slots=st.integers(5, 9), chunk=st.sampled_from([7, 24, 200]))


def walk(shape, many, tight, slots, chunk):
    """Searches of any width, greedy and drawn answers, which come and go at any step in memory that is scarce."""
    model = MODELS[shape]
    sources = dict(source_capacity=64) if model.encoder is not None else {}
    least = Pages(model.config, 1, 80, chunk=max(chunk, 17), dtype=torch.float64, **sources).budget
    engine = Engine(model, slots=slots, capacity=80, chunk=chunk, budget=int(least * tight), stops=ENDS, **sources)
    requests = []
    for text, options, more, steps in many:
        with suppress(InputError):  # never may it be let in and not find room
            requests.append((submit(engine, text, options, **more), text, options, more))
        for _ in range(steps):
            engine.step()
            check(engine)
    while engine.busy:
        searching = {request: request.preempted for request in engine.schedule.searching}
        engine.step()
        check(engine)
        assert all(request.preempted == before for request, before in searching.items())
    assert all(pool.allocated == 0 for pool in engine.pages.every)
    for request, text, options, more in requests:
        assert outcome(request) == outcome(alone(shape, text, options, **more))


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=3, deadline=None, derandomize=True, database=None)
@given(many=st.lists(asked(), min_size=2, max_size=6), **SIZES)
def test_beside_all_else(shape, many, tight, slots, chunk):
    """Each answer is what it is alone, beams never lack a block, and all is given back."""
    walk(shape, many, tight, slots, chunk)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(many=st.lists(asked(), min_size=2, max_size=6), **SIZES)
def test_long_beside_all_else(shape, many, tight, slots, chunk):
    """The same, many times."""
    walk(shape, many, tight, slots, chunk)


@pytest.mark.parametrize("shape", SHAPES)
def test_in_the_same_steps(shape):
    """Beams go on beside others: each step is one pass, of one token for each answer and each beam."""
    passes = []
    model = MODELS[shape]
    engine = Engine(model, slots=12, chunk=16)
    search = submit(engine, [3] * 20, beam(4))
    other = submit(engine, [5, 6], SamplingOptions(strategy="greedy", max_new_tokens=12))
    wide = submit(engine, [9, 9], beam(2, max_new_tokens=6))
    real = model.hidden
    model.hidden = lambda tokens, **more: passes.append(tokens.shape[1]) or real(tokens, **more)
    try:
        told = []
        while engine.busy:
            told.append(engine.step())
            check(engine)
    finally:
        del model.hidden
    # 16 of 20 tokens; the other 4 with all others; beams then
    wanted = [16, 8, *[7] * 5, *[5] * 2, *[1] * 4] if model.encoder is None else [3, *[7] * 5, *[5] * 2, *[1] * 4]
    assert passes == wanted
    ends = {event.request: n for n, events in enumerate(told) for event in events if event.finish}
    assert (ends[wide], ends[search]) == ((6, 8) if model.encoder is None else (5, 7))
    assert [event.id for events in told for event in events if event.request is search] == [None]
    assert len(other.ids) == 12


def test_what_a_request_tells():
    """Hypotheses as many as were asked for, best first; ids and log-probabilities are those of the best."""
    engine = Engine(MODELS["decoder"], stops=ENDS)
    request = engine.submit([1, 2, 3], beam(5), n=3)
    engine.step()
    assert (request.finish, request.ids, request.hypotheses) == (None, [], [])
    engine.run()
    (wanted,) = beam_search(MODELS["decoder"], [[1, 2, 3]], beam(5), n=3, stops=ENDS)
    assert request.hypotheses == wanted
    assert (request.ids, request.logprobs, request.finish) == (wanted[0].ids, wanted[0].logprobs, wanted[0].finish)


def test_a_prompt_is_shared():
    """What another text computed is found by a search, and what a search read is found by others."""
    engine = Engine(MODELS["decoder"])
    first = engine.submit([4] * 40, beam())
    engine.run()
    second, third = engine.submit([4] * 39 + [5], beam()), engine.submit([4] * 38, SamplingOptions(max_new_tokens=2))
    engine.run()
    assert (first.cached, second.cached, third.cached) == (0, 32, 32)


def test_rows_are_kept_for_beams():
    """While a long prompt is read in chunks, nobody takes the rows that its beams will need."""
    engine = Engine(MODELS["decoder"], slots=5, chunk=6)
    search = engine.submit([3] * 20, beam(4))
    others = [engine.submit([n], SamplingOptions(strategy="greedy", max_new_tokens=20)) for n in (1, 2, 3)]
    most = 0
    while search.finish is None:
        engine.step()
        check(engine)
        most = max(most, sum(other.row >= 0 for other in others))
    assert most == 1
    engine.run()
    assert [len(other.ids) for other in others] == [20] * 3


def test_a_cancelled_search_leaves_nothing():
    """Its rows and blocks are free at once, while it reads and while it searches; others are not disturbed."""
    engine = Engine(MODELS["encoder-decoder"], slots=8)
    wanted = alone("encoder-decoder", [4, 5], beam(max_new_tokens=20))
    for steps in (0, 1, 4):
        search, other = (submit(engine, text, beam(max_new_tokens=20)) for text in ([3] * 9, [4, 5]))
        engine.schedule.pages.forget()
        for _ in range(steps):
            engine.step()
        engine.cancel(search)
        check(engine)
        engine.run()
        assert search.finish == "cancelled"
        assert engine.pages.free_rows == 8
        assert all(pool.allocated == pool.owed == 0 for pool in engine.pages.every)
    assert len(other.ids) == 20
    assert other.ids[:3] == wanted.ids[:3] or wanted.finish == "stop"


def test_a_failing_step_ends_its_searches():
    """An error inside the model ends the requests of that step, with all their rows; the engine goes on."""
    model = MODELS["decoder"]
    engine = Engine(model, slots=6)
    search = engine.submit([1, 2], beam())
    engine.step()
    engine.step()
    hook = model.blocks[1].register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    hook.remove()
    assert (search.finish, engine.busy, engine.pages.free_rows) == ("cancelled", False, 6)
    again = engine.submit([1, 2], beam())
    engine.run()
    engine.pages.check()
    assert again.hypotheses == beam_search(model, [[1, 2]], beam())[0]


def test_nothing_moves_where_every_beam_goes_on():
    """The first to go on from a beam stays in its row; only what has a new parent moves, into rows that are left."""
    assert seats([5, 7, 2], [0, 1, 2]) == [5, 7, 2]
    assert seats([5, 7, 2], [2, 0, 1]) == [2, 5, 7]
    assert seats([5, 7, 2], [1, 1, 0]) == [7, 2, 5]
    assert sorted(seats([5, 7, 2, 9], [3, 3, 3, 3])) == [2, 5, 7, 9]


def test_answers_of_a_batch_bit_for_bit():
    """In an engine whose answers are the same bit for bit, so are scores of beams, whoever else is asked."""
    model = MODELS["decoder"].float()
    try:
        found = []
        for others in (0, 5):
            engine = Engine(model, deterministic=True, slots=32)
            more = [engine.submit([n] * (3 * n + 1), beam(3, max_new_tokens=4 + n)) for n in range(others)]
            if more:
                engine.step()
            request = engine.submit([1, 2, 3], beam(4), n=4)
            engine.run()
            found.append(request.hypotheses)
        assert found[0] == found[1]
    finally:
        model.double()


def test_blocks_that_beams_are_owed():
    """What is set aside is what the answer may take: each beam its own blocks, the prompt's full ones once."""
    engine = Engine(MODELS["decoder"], slots=4, capacity=80)
    engine.submit([1] * 40, beam(3, max_new_tokens=25))
    engine.step()
    (pool,) = engine.pages.pools.values()
    # 40 + 24 tokens are 4 blocks: 2 full ones of the prompt, and 2 for each beam, of which one is begun
    assert (pool.allocated, pool.owed) == (3, 3 * 2 - 1)
    held = set()
    while engine.busy:
        held.add(pool.allocated)
        engine.schedule._set_aside()
        assert pool.allocated + pool.owed == 2 + 3 * 2
        engine.step()
    assert len(held) > 2
    assert (pool.allocated, pool.owed) == (0, 0)


def test_nobody_takes_what_beams_are_owed():
    """An answer that came before them and wants a block that is free, but kept for beams, makes way until they end."""
    model = MODELS["decoder"]
    least = Pages(model.config, 1, 80, dtype=torch.float64).budget  # 5 blocks
    engine = Engine(model, slots=8, capacity=80, budget=least * 16 // 5)
    first = engine.submit([2] * 47, SamplingOptions(strategy="greedy", max_new_tokens=33))  # 3 blocks, then 5
    search = engine.submit([1], beam(4, max_new_tokens=40))  # at most 12
    while engine.busy:
        engine.step()
        check(engine)
        if first.preempted and search.finish is None:
            assert first in engine.waiting
            assert engine.pages.pools[0].free > 0
    assert (first.preempted, len(first.ids), search.preempted, search.finish) == (1, 33, 0, "length")
    ((wanted,),) = beam_search(model, [[1]], beam(4, max_new_tokens=40))
    assert search.ids == wanted.ids


def test_what_is_refused():
    """At submit, by name: more beams than rows, more blocks than there are, answers that one request has not."""
    model = MODELS["decoder"]
    engine = Engine(model, slots=4)
    with pytest.raises(InputError, match="beams=5, and this engine runs 4 rows at a time; ask for fewer beams"):
        engine.submit([1], beam(5))
    with pytest.raises(InputError, match="n=4, wanted from 1 to beams=3"):
        engine.submit([1], beam(), n=4)
    with pytest.raises(InputError, match="n=0, wanted from 1 to beams=3"):
        engine.submit([1], beam(), n=0)
    with pytest.raises(InputError, match=r"n=2 and sampling\.strategy=greedy; submit the prompt 2 times"):
        engine.submit([1], SamplingOptions(strategy="greedy"), n=2)
    with pytest.raises(InputError, match="beam does not heed a constraint"):
        engine.submit([1], beam(), constraint=object.__new__(Constraint))
    least = Pages(model.config, 1, 80, dtype=torch.float64).budget  # 5 blocks
    tight = Engine(model, slots=8, capacity=80, budget=least)
    with pytest.raises(InputError, match=r"6 beams of 8 tokens behind a prompt of 1 may take 6 blocks, and .* holds 5"):
        tight.submit([1], beam(6))
    with pytest.raises(InputError, match="2 beams of 20 tokens behind a prompt of 33 may take 6 blocks"):
        tight.submit([1] * 33, beam(2, max_new_tokens=20))
    assert not engine.busy
    assert not tight.busy
    fits = [tight.submit([1], beam(5)), tight.submit([1] * 33, beam(2, max_new_tokens=15))]
    tight.run()
    assert [request.finish for request in fits] == ["length"] * 2


def test_no_answer_at_all():
    """Where nothing but stops can be said, and none may yet, the request fails and says why."""
    engine = Engine(MODELS["decoder"], stops=range(61))
    request = engine.submit([1], beam(min_new_tokens=2))
    (event,) = engine.step()
    assert (event.request, event.finish, request.hypotheses) == (request, "failed", [])
    assert request.error == "no answer has any probability"
    assert engine.pages.free_rows == len(engine.pages)
    with pytest.raises(InputError, match="n=1 answers are wanted, but to prompt 0 there are only 0"):
        beam_search(MODELS["decoder"], [[1]], beam(min_new_tokens=2), stops=range(61))
