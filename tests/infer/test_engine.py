"""Continuous batching: what enters, what leaves, and what is refused before any work."""

import pytest
import torch

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.infer.engine import Engine


def greedy(count=8, **rules):
    return SamplingOptions(strategy="greedy", max_new_tokens=count, **rules)


def test_requests_enter_and_leave_at_every_step(make_model):
    """Five requests over two rows: never more than two run, each row is given on at once, all answer in full."""
    engine = Engine(make_model(), slots=2)
    requests = [engine.submit([n, n + 1], greedy(n)) for n in (3, 1, 4, 1, 5)]
    events = []
    while engine.busy:
        assert len(engine.running) <= 2
        assert len(engine.running) + engine.pages.free_rows == 2
        engine.pages.check()
        events += engine.step()
    assert [len(request.ids) for request in requests] == [3, 1, 4, 1, 5]
    assert {request.finish for request in requests} == {"length"}
    for request in requests:
        own = [event for event in events if event.request is request]
        assert [event.id for event in own] == request.ids
        assert [event.finish for event in own] == [None] * (len(own) - 1) + ["length"]
        assert [event.logprob for event in own] == request.logprobs


def test_a_late_request_joins_those_that_run(make_model):
    """A request submitted between two steps is answered as if it had been alone, and disturbs nobody."""
    model = make_model()
    alone = [Engine(model, slots=1) for _ in range(2)]
    wanted = [engine.submit(prompt, greedy(9)) for engine, prompt in zip(alone, ([1, 2, 3], [7]))]
    for engine in alone:
        engine.run()
    engine = Engine(model, slots=4)
    first = engine.submit([1, 2, 3], greedy(9))
    for _ in range(4):
        engine.step()
    second = engine.submit([7], greedy(9))
    engine.run()
    assert [first.ids, second.ids] == [request.ids for request in wanted]


def test_prompts_are_read_in_chunks_beside_answers(make_model):
    """A step reads no more tokens than its chunk, a long prompt in parts, and answers go on meanwhile."""
    engine = Engine(make_model(), slots=8, chunk=20)
    sizes = []
    real = engine.model.hidden
    engine.model.hidden = lambda tokens, **more: sizes.append(tokens.shape[1]) or real(tokens, **more)
    requests = [engine.submit([n] * size, greedy(4)) for n, size in enumerate((6, 6, 6, 6, 30, 2))]
    told = [[event.request.number for event in engine.step()] for _ in range(3)]
    assert sizes[:3] == [20, 20, 20]  # 6 + 6 + 6 + 2; 3 answers + 4 + 13 of 30; 4 answers + 16 more of the 30
    assert told[0] == [0, 1, 2]
    assert set(told[1]) >= {0, 1, 2, 3}
    engine.run()
    assert [len(request.ids) for request in requests] == [4] * 6


def test_the_end_of_an_answer(make_model):
    """A stop id ends the answer and is not part of it; stops of one request are not those of another."""
    model = make_model()
    free = Engine(model, slots=1)
    request = free.submit([1, 2], greedy(10))
    free.run()
    stop = next(id for id in request.ids[1:] if id != request.ids[0])
    cut = request.ids.index(stop)
    engine = Engine(model, slots=2)
    stopped, other = engine.submit([1, 2], greedy(10), stops=[stop]), engine.submit([1, 2], greedy(10))
    engine.run()
    assert (stopped.ids, stopped.finish) == (request.ids[:cut], "stop")
    assert len(stopped.logprobs) == cut
    assert (other.ids, other.finish) == (request.ids, "length")
    everyone = Engine(model, slots=2, stops=[stop])
    assert everyone.submit([1, 2], greedy(10)).stops == {stop}


def test_cancel(make_model):
    """A cancelled request leaves its row or the queue, keeps what it said, and is not heard of again."""
    engine = Engine(make_model(), slots=1)
    runs, waits, last = (engine.submit([n], greedy(6)) for n in (1, 2, 3))
    engine.step()
    engine.step()
    engine.cancel(waits)
    engine.cancel(runs)
    engine.cancel(runs)
    assert (runs.finish, len(runs.ids), waits.finish, waits.ids) == ("cancelled", 2, "cancelled", [])
    while engine.busy:
        assert all(event.request is last for event in engine.step())
    assert last.finish == "length"
    assert engine.step() == []


def test_no_room_for_the_answer(make_model):
    """Story: vllm-project/vllm#33418 (U14). Refused before any work, naming prompt, wish, limit and remedy."""
    engine = Engine(make_model())
    engine.submit([1] * 10, greedy(39))  # 48 positions: the 39th token is said but never read
    with pytest.raises(
        InputError, match=r"has 10 tokens and 40 more are wanted, but the model reads 48; ask for at most 39"
    ):
        engine.submit([1] * 10, greedy(40))
    with pytest.raises(InputError, match=r"has 60 tokens .* the model reads 48; shorten the prompt"):
        engine.submit([1] * 60, greedy(1))
    with pytest.raises(InputError, match="this engine has room for 12; ask for at most 3"):
        Engine(make_model(), capacity=12).submit([1] * 10, greedy(4))
    assert len(engine.waiting) == 1


@pytest.mark.parametrize(
    ("prompt", "seed", "message"),
    [([], 0, "the prompt is empty"), ([61], 0, "outside 0 to 60"), ([-1], 0, "outside 0 to 60"), ([1], 2**70, "seed=")],
)
def test_prompts_that_cannot_be(make_model, prompt, seed, message):
    """Nothing is queued of a request that is refused."""
    engine = Engine(make_model())
    with pytest.raises(InputError, match=message):
        engine.submit(prompt, greedy(), seed=seed)
    assert not engine.busy


def test_a_cache_of_modest_size_by_default(make_model):
    """A model that reads 131,072 tokens does not claim memory for all of them in every row."""
    engine = Engine(make_model(max_positions=131072), slots=2)
    assert engine.capacity == engine.pages.capacity == 4096


def test_a_model_in_training_goes_on_in_training(make_model):
    """Generation is without dropout, and leaves the model in the mode in which it was."""
    model = make_model(dropout=0.5)
    still = Engine(model.eval(), slots=1)
    wanted = still.submit([1, 2], greedy())
    still.run()
    engine = Engine(model.train(), slots=1)
    request = engine.submit([1, 2], greedy())
    engine.run()
    assert request.ids == wanted.ids
    assert model.training
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())


def test_logits_that_are_no_numbers(make_model):
    """Damaged weights are an error, not a text; the engine drops those requests and goes on with others."""
    model = make_model()
    engine = Engine(model, slots=2)
    request = engine.submit([1], greedy())
    kept = model.heads["lm"].weight.detach().clone()
    with torch.no_grad():
        model.heads["lm"].weight[5] = float("nan")
    with pytest.raises(InputError, match="logits are not numbers"):
        engine.step()
    assert (request.finish, engine.busy) == ("cancelled", False)
    with torch.no_grad():
        model.heads["lm"].weight.copy_(kept)
    healthy = engine.submit([1], greedy())
    engine.run()
    assert len(healthy.ids) == 8


def test_a_failing_step_loses_only_its_own_requests(make_model):
    """An exception inside the model (no memory, Ctrl-C) ends the requests of that step; those that wait are served."""
    model = make_model()
    engine = Engine(model, slots=1)
    first, second = engine.submit([1], greedy()), engine.submit([2], greedy())
    engine.step()
    hook = model.blocks[1].register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    hook.remove()
    engine.run()
    fresh = Engine(model, slots=1)
    wanted = fresh.submit([2], greedy())
    fresh.run()
    assert (first.finish, second.ids) == ("cancelled", wanted.ids)
