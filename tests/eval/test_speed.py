"""How fast a model answers: on a clock of our own, and that every round is a new one."""

from types import SimpleNamespace

import pytest

from instar.config import InputError, ModelConfig
from instar.eval import speed
from instar.eval.limits import Limits
from instar.model.transformer import Transformer

SHAPE = dict(vocab_size=96, d_model=32, layers=2, heads=2, max_positions=64)


class Clock:
    """An engine whose steps take a second each, and say for each request whatever was written down."""

    def __init__(self, steps):
        self.steps, self.now, self.requests = list(steps), 0.0, []
        self.model = SimpleNamespace(config=SimpleNamespace(encoder_layers=0))

    @property
    def busy(self):
        return bool(self.steps)

    def submit(self, prompt, options):
        self.requests.append(SimpleNamespace(ids=[], options=options))
        return self.requests[-1]

    def step(self):
        self.now += 1.0
        events = []
        for request, said in zip(self.requests, self.steps.pop(0)):
            request.ids += [7] if said else []
            finish = "length" if len(request.ids) == request.options.max_new_tokens else None
            events += [SimpleNamespace(request=request, id=7, finish=finish)] if said else []
        return events


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        # both at once: three tokens each, four of them in two seconds after the first
        ([(1, 1), (1, 1), (1, 1)], (1.0, 3.0, 2.0)),
        # the second comes two steps late: only the steps where both speak count
        ([(1, 0), (0, 0), (1, 1), (1, 1), (0, 1)], (3.0, 5.0, 2.0)),
        # the first has ended before the second begins
        ([(1, 0), (1, 0), (1, 0), (0, 1), (0, 1), (0, 1)], (4.0, 6.0, None)),
    ],
)
def test_rate(monkeypatch, steps, wanted):
    """Tokens a second while all streams speak, and no figure where they never do."""
    engine = Clock(steps)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: engine.now)
    timing = speed.time_answers(engine, [[1], [2]], 3)
    assert (timing.first, timing.total, timing.rate) == wanted
    assert timing.ids == [[7, 7, 7]] * 2


@pytest.mark.parametrize("pairs", [False, True])
def test_measured(monkeypatch, pairs):
    """A model of each kind answers; no prompt is asked twice, for the cache would know it, and one round more than is
    counted is run."""
    model = Transformer(ModelConfig(**SHAPE, **(dict(encoder_layers=1, start=1) if pairs else {}))).eval()
    asked, rounds, answer = [], [], speed.time_answers

    def watch(engine, prompts, new):
        asked.extend(map(tuple, prompts))
        return answer(engine, prompts, new)

    monkeypatch.setattr(speed, "time_answers", watch)
    found = speed.measure_speed(model, 3, prompt=8, new=12, repeats=2, done=lambda: rounds.append(1))
    assert len(asked) == len(set(asked)) == 9
    assert len(rounds) == 3
    assert found.prompt_rate == pytest.approx(24 / found.first)
    assert found.rate > 0
    assert found.answer_rate > 0
    shares = speed.shares(model, Limits(1e15, {"fp32": 1e15}), found)
    assert all(0 < share < 1e-3 for share in shares)
    faster = speed.shares(model, Limits(1e14, {"fp32": 1e14}), found)
    assert faster == pytest.approx([10 * share for share in shares])


def test_no_room():
    """A prompt and answer that the model cannot hold are an error, not a figure."""
    model = Transformer(ModelConfig(**SHAPE)).eval()
    with pytest.raises(InputError, match="64"):
        speed.measure_speed(model, 1, prompt=60, new=20)
