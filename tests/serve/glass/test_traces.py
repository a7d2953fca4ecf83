"""What is kept of passes, for how long, and how much of it."""

from types import SimpleNamespace

import pytest
import torch

from instar.config import ModelConfig
from instar.config.options import GlassOptions
from instar.model.transformer import Transformer
from instar.probe.capture import capture
from instar.serve.glass.traces import Traces, estimate
from instar.serve.glass.trouble import Trouble


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def look(bytes):
    return SimpleNamespace(trace=SimpleNamespace(bytes=bytes), pictures={})


def keep(traces, bytes, held=None):
    return traces.keep(held, look(bytes), {"text": "x"})


def code(call, *arguments):
    with pytest.raises(Trouble) as caught:
        call(*arguments)
    return caught.value.status, caught.value.code


def test_a_trace_is_kept_for_so_long_after_its_last_use():
    """A look at it begins its time anew; behind that it is 409, as is one that never was."""
    clock = Clock()
    traces = Traces(1000, 900, clock)
    kept = keep(traces, 10)
    for _ in range(3):
        clock.now += 899
        assert traces.find(kept.id) is kept
    clock.now += 901
    assert code(traces.find, kept.id) == (409, "trace_expired")
    assert code(traces.find, "t9") == (409, "trace_expired")
    assert len(traces) == 0


def test_the_least_recently_used_gives_way_to_what_is_new():
    """At most so many bytes in all."""
    traces = Traces(1000, 900)
    first, second = keep(traces, 400), keep(traces, 400)
    traces.find(first.id)
    third = keep(traces, 600)
    assert [traces.find(one.id) for one in (first, third)] == [first, third]
    assert code(traces.find, second.id) == (409, "trace_expired")
    assert traces.bytes == 1000


def test_what_is_larger_than_the_budget_is_refused_and_drops_nothing():
    """507 with the bytes that are needed and those that there are, also before a pass is run."""
    traces = Traces(1000, 900)
    kept = keep(traces, 900)
    for call in (lambda: keep(traces, 1001), lambda: traces.check_room(1001)):
        with pytest.raises(Trouble) as caught:
            call()
        assert caught.value.body["error"].items() >= {"code": "memory", "need": 1001, "budget": 1000}.items()
    assert traces.find(kept.id) is kept


def test_what_is_kept_beside_a_trace_counts_with_it():
    """Others give way to it and it does not give way to itself; more than the budget is refused."""
    traces = Traces(1000, 900)
    first, second = keep(traces, 400), keep(traces, 400)
    traces.grown(first, 300)
    assert (first.bytes, traces.bytes) == (700, 700)
    assert code(traces.find, second.id) == (409, "trace_expired")
    assert code(traces.grown, first, 301) == (507, "memory")
    assert first.bytes == 700


def test_traces_of_a_model_go_with_it():
    """And those of others stay."""
    traces, one, other = Traces(1000, 900), object(), object()
    gone, stays = keep(traces, 1, one), keep(traces, 1, other)
    traces.drop(one)
    assert traces.find(stays.id) is stays
    assert code(traces.find, gone.id)[0] == 409


def test_what_a_trace_was_held_against_goes_with_its_model():
    """A look keeps its model alive, so that it goes where the model is let go, with its bytes; the newest takes the
    place of the one before and is counted once, and one that there is no room for is not kept."""
    traces, one, other, third = Traces(1000, 900), object(), object(), object()
    kept = keep(traces, 400, one)
    traces.hold(kept, "other", other, look(100))
    traces.hold(kept, "third", third, look(200))
    traces.hold(kept, "third", third, look(200))
    assert (kept.bytes, traces.bytes, kept.beside.name) == (600, 600, "third")
    traces.drop(other)
    assert kept.beside.held is third
    traces.drop(third)
    assert (kept.bytes, kept.beside) == (400, None)
    assert traces.find(kept.id) is kept
    assert code(traces.hold, kept, "other", other, look(700)) == (507, "memory")
    assert (kept.bytes, kept.beside) == (400, None)


def test_pictures_count_with_their_trace():
    """Of both models where there are two; where there is no room they go, and the trace stays."""
    traces, one, other = Traces(1000, 900), object(), object()
    kept = keep(traces, 400, one)
    traces.hold(kept, "other", other, look(100))
    for each in (kept.look, kept.beside.look):
        each.pictures["a"] = torch.zeros(10, dtype=torch.uint8)
    traces.counted(kept)
    traces.counted(kept)
    assert (kept.bytes, kept.drawn) == (520, 20)
    traces.drop(other)
    assert (kept.bytes, kept.drawn) == (410, 10)
    kept.look.pictures["b"] = torch.zeros(800, dtype=torch.uint8)
    traces.counted(kept)
    assert (kept.bytes, kept.drawn, kept.look.pictures) == (400, 0, {})
    assert traces.find(kept.id) is kept


def test_a_number_of_another_process_is_no_trace_of_this_one():
    """A process that was started anew counts from one again, and its first trace is not the first of the one before."""
    assert keep(Traces(10, 9), 1).id != keep(Traces(10, 9), 1).id


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"kv_heads": 2}, {"head_size": 16, "d_ff": 50}, {"encoder_layers": 2, "positions": "sinusoidal_halves"},
        {"causal": False, "heads_of": ("masked",)}, {"qk_norm": True, "layers": 5},
    ],
)  # fmt: skip
def test_the_estimate_is_what_a_trace_holds(changes):
    """Of every kind of model within a fifth, and never so low that what could not be kept is run."""
    torch.manual_seed(0)
    shape = dict(vocab_size=50, d_model=32, layers=3, heads=4, max_positions=64) | changes
    config = ModelConfig(**shape)
    source = torch.randint(50, (1, 24)) if config.encoder_layers else None
    trace = capture(Transformer(config, seed=1), torch.randint(50, (1, 40)), source=source)
    expected = estimate(config, 40, 24 if config.encoder_layers else 0)
    assert 0.8 * expected <= trace.bytes <= 1.05 * expected


def test_a_trace_outlives_no_process():
    """By default the process that holds it rests later than it expires."""
    assert GlassOptions().idle > GlassOptions().seconds
