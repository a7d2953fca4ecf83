"""S12: where a step fails, only the request ends that it fails for; everyone else is answered as if alone."""

import random

import pytest
import torch

from instar.config.options import SamplingOptions
from instar.infer.chooser import Chooser
from instar.infer.engine import PUZZLES, Engine
from instar.infer.speculative import NGram

BAD = 60  # a token that nobody says by himself
SHAPES = {
    "plain": {},
    "windows": dict(windows=(5, 0), kv_heads=1),
    "source": dict(encoder_layers=1, start=1),
}
GREEDY = SamplingOptions(strategy="greedy", max_new_tokens=12)
DRAWN = SamplingOptions(max_new_tokens=12)
SEARCH = SamplingOptions(strategy="beam", beams=3, max_new_tokens=12)
KINDS = (GREEDY, DRAWN, SEARCH, SamplingOptions(max_new_tokens=12, presence_penalty=1.0))


def numbers(model):
    """Behind the bad token logits are no numbers, and neither are its keys."""
    with torch.no_grad():
        model.embed.weight[BAD] = float("nan")


def raises(model):
    """A pass with the bad token in it raises."""

    def look(module, given):
        if bool((given[0] == BAD).any()):
            raise RuntimeError("the pass failed")

    model.embed.register_forward_pre_hook(look)


FAULTS = {"numbers": (numbers, "not numbers"), "raises": (raises, "RuntimeError: the pass failed")}


class Crowd:
    """Requests of all kinds side by side in an engine, and what each says alone."""

    def __init__(self, model, **how):
        self.model, self.how, self.events = model, how, []
        with torch.no_grad():
            model.heads["lm"].weight[BAD] = 0  # it is never the likeliest; drawn answers are held off it by its bias
        self.engine = Engine(model, isolate=True, **dict(slots=16, chunk=20) | how)
        self.asked = []

    def submit(self, prompt, options, seed=3):
        source = [5, 6, 7] if self.model.config.encoder_layers else None
        if options.strategy == "sample":
            options = SamplingOptions(**vars(options) | dict(logit_bias=((BAD, -100.0),)))
        self.asked.append((self.engine.submit(prompt, options, source=source, seed=seed), prompt, options, source))
        return self.asked[-1][0]

    def run(self, steps=10**6):
        while self.engine.busy and steps:
            steps -= 1
            suspect = self.engine.schedule.suspects[:1]
            told = self.engine.step()
            assert not suspect or {event.request for event in told} <= {*suspect}
            self.events += told
            self.engine.pages.check()

    def check(self):
        """Everyone was told of once, the bad failed, and others say what they say alone."""
        self.run()
        for request, prompt, options, source in self.asked:
            own = [event for event in self.events if event.request is request]
            assert [event.finish for event in own[:-1]] == [None] * (len(own) - 1)
            assert own[-1].finish == request.finish
            if BAD in prompt:
                assert request.finish == "failed"
                continue
            assert request.error is None
            if not request.width:
                assert [event.id for event in own if event.id is not None] == request.ids
            how = {key: self.how[key] for key in ("deterministic",) if key in self.how}
            engine = Engine(self.model, slots=4, **how)
            wanted = engine.submit(prompt, options, source=source, seed=3)
            engine.run()
            assert request.ids == wanted.ids
            assert request.logprobs == (wanted.logprobs if how else pytest.approx(wanted.logprobs, abs=1e-9))
        stores = [store for pool in self.engine.pages.every for store in pool.stores.values()]
        assert not any(store.isnan().any() for store in stores)
        assert all(pool.allocated == 0 for pool in self.engine.pages.every)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fault", FAULTS)
def test_one_poisoned_request(make_model, fault, shape):
    """Answers that are drawn, searched for and penalised go on in the midst of theirs when a long prompt comes that
    poisons the pass; it alone fails and says why, and whoever comes meanwhile is answered too."""
    spoil, why = FAULTS[fault]
    model = make_model(**SHAPES[shape])
    spoil(model)
    crowd = Crowd(model)
    for n, options in enumerate(KINDS):
        crowd.submit([3 + n] * (n + 1), options)
    crowd.run(4)
    bad = crowd.submit([*range(3, 28), BAD, 4, 5], GREEDY)
    crowd.run(1)
    crowd.submit([9, 8], DRAWN)
    crowd.check()
    assert why in bad.error
    assert not crowd.engine.schedule.suspects


def test_a_text_that_spoils_others_while_it_is_read(make_model):
    """Numbers that are none may be seen by others before whoever they belong to says a token: a text that was being
    read is suspected too, and found out at once."""
    model = make_model()
    numbers(model)
    crowd = Crowd(model)
    other = crowd.submit([3, 4], GREEDY)
    crowd.run(2)
    spoilt = []
    model.embed.register_forward_pre_hook(lambda _, given: spoilt.append(bool((given[0] == BAD).any())))
    model.heads["lm"].register_forward_hook(lambda _, __, y: y * float("nan") if spoilt and spoilt[-1] else None)
    crowd.submit([5, BAD, *range(6, 36)], GREEDY)
    crowd.check()
    assert other.preempted <= 3


def walk(model, seed, count, share=0.2):
    """So many requests, a share of them poisoned, in a memory that hardly holds them; one is called off."""
    draw = random.Random(seed)
    least = Engine(model, slots=1).pages.budget
    crowd = Crowd(model, slots=5, budget=int(least * 2.7))
    for _ in range(count):
        prompt = [draw.randrange(3, 59) for _ in range(draw.randrange(1, 30))]
        if draw.random() < share:
            prompt[draw.randrange(len(prompt))] = BAD
        crowd.submit(prompt, draw.choice(KINDS))
        crowd.run(draw.randrange(3))
    gone = draw.choice([each for each in crowd.asked if each[0].finish is None])
    crowd.engine.cancel(gone[0])
    crowd.asked.remove(gone)
    crowd.events = [event for event in crowd.events if event.request is not gone[0]]
    crowd.check()
    assert any(request.finish == "failed" for request, *_ in crowd.asked)


@pytest.mark.parametrize("fault", FAULTS)
def test_many_at_random(make_model, fault):
    """Whoever is poisoned fails, and nobody else, whatever happens to their memory."""
    model = make_model()
    FAULTS[fault][0](model)
    walk(model, 0, 7, share=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fault", FAULTS)
def test_very_many_at_random(make_model, fault, shape):
    """The same for long."""
    model = make_model(**SHAPES[shape])
    FAULTS[fault][0](model)
    for seed in range(6):
        walk(model, seed, 30)


def test_bit_for_bit(make_model):
    """A neighbour's fault changes no bit of an answer in an engine that is deterministic."""
    model = make_model().float()
    numbers(model)
    crowd = Crowd(model, deterministic=True)
    for n in range(3):
        crowd.submit([3 + n] * 10, DRAWN)
    crowd.run(3)
    crowd.submit([BAD], GREEDY)
    crowd.check()


@pytest.mark.parametrize("place", ["choose", "constrain", "begin"])
def test_a_fault_in_a_sampler(make_model, monkeypatch, place):
    """What raises wherever one request is looked at, by its rules or by its constraint, is that one's fault."""
    real = getattr(Chooser, place)

    def broken(self, asked, *rest):
        if any(BAD in request.prompt for request in (asked if isinstance(asked, list) else [asked])):
            raise IndexError("out of range")
        return real(self, asked, *rest)

    monkeypatch.setattr(Chooser, place, broken)
    crowd = Crowd(make_model())
    others = [crowd.submit([3 + n], options) for n, options in enumerate(KINDS)]
    crowd.run(2)
    bad = crowd.submit([4, BAD], GREEDY)
    crowd.run()
    assert bad.error.startswith("IndexError: out of range (at test_isolation.py:")
    assert {request.finish for request in others} == {"length"}
    monkeypatch.undo()
    crowd.check()


def test_a_constraint_that_breaks(make_model):
    """A constraint that raises when it hears of a token fails its request at once, and nobody is computed again."""

    class Broken:
        error, ended = None, False

        def advance(self, id):
            raise ValueError("no such state")

    crowd = Crowd(make_model())
    crowd.engine._chooser.constrain = lambda said: None
    other = crowd.submit([3], GREEDY)
    bad = crowd.engine.submit([4], GREEDY, constraint=Broken())
    crowd.check()
    assert (bad.finish, bad.error.partition(" (at")[0]) == ("failed", "ValueError: no such state")
    assert other.preempted == 0


def test_all_are_poisoned(make_model):
    """Each fails by itself, all of them after one step that failed for them together, and the engine answers the
    next."""
    model = make_model()
    numbers(model)
    crowd, failed = Crowd(model), []
    isolate = crowd.engine._isolate
    crowd.engine._isolate = lambda *what: failed.append(1) or isolate(*what)
    for n, options in enumerate([*KINDS, GREEDY]):
        crowd.submit([3 + n, BAD], options)
    crowd.check()
    assert len(failed) == 1 + len(crowd.asked)
    crowd.submit([7], GREEDY)
    crowd.check()


@pytest.mark.parametrize("alone", [True, False])
def test_a_fault_that_is_nobodys(make_model, alone):
    """A pass that fails once, or whenever there is company, ends nobody: everyone is answered, if need be by himself,
    with what he drew by; and it is told of, once."""
    model = make_model()
    crowd = Crowd(model)
    for n, options in enumerate(KINDS):
        crowd.submit([3 + n] * 5, options)
    left = [1]

    def look(module, given):
        company = given[0].shape[1] > 5 and not crowd.engine.schedule.suspects
        if left[0] and company:
            left[0] -= alone
            raise MemoryError("too much at once")

    hook = model.embed.register_forward_pre_hook(look)
    with pytest.warns(UserWarning, match="for none of its requests alone: MemoryError: too much at once") as told:
        crowd.run()
    assert len(told) == 1
    hook.remove()
    crowd.check()
    assert left[0] == 1 - alone


def test_a_fault_without_end(make_model):
    """Where steps fail again and again, for nobody, and nothing is said, the engine does not try for ever: its requests
    end, the error is raised, and the next is answered."""
    crowd, steps = Crowd(make_model()), []

    def broken(work):
        steps.append(work)
        raise MemoryError("never enough")

    spoken, crowd.engine.schedule.spoken = crowd.engine.schedule.spoken, broken
    request = crowd.submit(list(range(3, 33)), GREEDY)  # longer than a chunk
    with pytest.raises(MemoryError):
        crowd.run(100)
    assert (len(steps), request.finish) == (PUZZLES, "cancelled")
    crowd.engine.schedule.spoken = spoken
    crowd.asked.clear()
    crowd.submit([3], GREEDY)
    crowd.check()


def test_a_proposer_that_breaks(make_model):
    """Whoever guesses ahead and fails is not asked again; answers are the same without."""

    class Broken(NGram):
        def propose(self, requests, most):
            raise KeyError("lost")

    crowd = Crowd(make_model(), propose=Broken())
    crowd.submit([3, 4], GREEDY)
    with pytest.warns(UserWarning, match="nothing is guessed ahead any more: KeyError"):
        crowd.check()
    assert crowd.engine.propose is None


def test_interruption_is_not_held_off(make_model):
    """Ctrl-C in a pass reaches whoever steps, and those that wait are served afterwards."""
    model = make_model()
    crowd = Crowd(model, slots=1)
    first, second = crowd.submit([3], GREEDY), crowd.submit([4], GREEDY)
    hook = model.blocks[1].register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        crowd.run(2)
    hook.remove()
    crowd.run()
    assert (first.finish, second.finish) == ("cancelled", "length")
