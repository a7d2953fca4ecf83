"""Requests of several adapters and of the bare model in one batch: each is what it is alone."""

import pytest
import torch

from instar.adapt.lora import activate, attach, remove, using, weights_of
from instar.config import InputError
from instar.config.options import LoraOptions, SamplingOptions
from instar.infer import router as router_file
from instar.infer.engine import Engine
from instar.infer.speculative import NGram

SHAPES = {
    "plain": dict(kv_heads=1, windows=(5, 0)),
    "experts": dict(experts=4, experts_used=2, d_expert=16, mlp="gated"),
    "tied": dict(tied=True),
    "source": dict(encoder_layers=1, start=1),
}
NAMES = ("ann", "bob", "", None)


def greedy(count=6, **rules):
    return SamplingOptions(strategy="greedy", max_new_tokens=count, **rules)


@pytest.fixture
def adapted(make_model):
    """adapted(**shape) -> a model with adapters ann, on all layers and with rows for two tokens, and bob, on some
    layers; none is active."""

    def make(dtype=torch.float64, **changes):
        model = make_model(**changes)
        attach(model, "ann", LoraOptions(rank=3, targets=("all-linear",)), tokens=(5, 7))
        attach(model, "bob", LoraOptions(rank=2, targets=("q", "down")))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name in ("ann", "bob"):
                for weight in weights_of(model, name).values():
                    weight += 0.5 * torch.randn(weight.shape, generator=generator).to(weight)
        activate(model)
        model.to(dtype).eval()
        for name in ("ann", "bob"):  # as they are kept beside a model in half precision
            for weight in weights_of(model, name).values():
                weight.data = weight.data.to(torch.promote_types(dtype, torch.float32))
        return model

    return make


def source_of(model):
    return [5, 6, 7, 9] if model.config.encoder_layers else None


def alone(model, name, prompt, options, **how):
    """What a request says by itself with an adapter active, as before there were several."""
    with using(model, *([name] if name else [])):
        engine = Engine(model, slots=8, **how)
        request = engine.submit(prompt, options, source=source_of(model), seed=3)
        engine.run()
    return request


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mixed_batch(adapted, shape):
    """Answers of two adapters, of the bare model and of what is active, side by side, are those that each gives alone,
    and differ from one another; prompts are read in chunks, and one comes later."""
    model = adapted(**SHAPES[shape])
    prompts = [[5, 7, 9], list(range(3, 25)), [4]]
    engine = Engine(model, slots=16, chunk=20)
    asked = [(name, p, engine.submit(p, greedy(), source=source_of(model), adapter=name)) for p in prompts
             for name in NAMES]  # fmt: skip
    for _ in range(3):
        engine.step()
    late = engine.submit([5, 8], greedy(), source=source_of(model), adapter="ann")
    engine.run()
    for name, prompt, request in [*asked, ("ann", [5, 8], late)]:
        wanted = alone(model, name, prompt, greedy())
        assert request.ids == wanted.ids
        assert request.logprobs == pytest.approx(wanted.logprobs, abs=1e-9)
    assert len({tuple(request.logprobs) for _, prompt, request in asked if prompt == prompts[0]}) >= 3
    engine.pages.check()


def test_whatever_is_active(adapted):
    """A request that names none heeds what is active, beside one that heeds nothing and one of another adapter."""
    model = adapted()
    wanted = {name: alone(model, name, [5, 7, 9], greedy()).ids for name in ("ann", "bob", "")}
    with using(model, "ann"):
        engine = Engine(model, slots=4)
        asked = [engine.submit([5, 7, 9], greedy(), adapter=name) for name in (None, "bob", "", "ann")]
        engine.run()
    assert [request.ids for request in asked] == [wanted["ann"], wanted["bob"], wanted[""], wanted["ann"]]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [("plain", torch.float32), ("plain", torch.bfloat16), ("experts", torch.float32), ("source", torch.float32)],
)
def test_bit_for_bit(adapted, shape, dtype):
    """S11 with adapters in the batch: whoever stands beside it, an answer has the bits that it has alone."""
    model = adapted(dtype, **SHAPES[shape])
    rules, prompts = SamplingOptions(max_new_tokens=4), [list(range(3, 6 + n)) for n in range(7)]
    engine = Engine(model, slots=24, chunk=20, deterministic=True)
    asked = [
        (name, prompt, engine.submit(prompt, rules, source=source_of(model), seed=3, adapter=name))
        for prompt in prompts for name in ("ann", "bob", "")
    ]  # fmt: skip
    engine.run()
    for name, prompt, request in asked[:3] + asked[-3:]:
        wanted = alone(model, name, prompt, rules, deterministic=True)
        assert (request.ids, request.logprobs) == (wanted.ids, wanted.logprobs)


def test_searches_and_guesses(adapted):
    """Beams heed the adapter of their request, and so do tokens that were guessed ahead."""
    model = adapted()
    search = SamplingOptions(strategy="beam", beams=3, max_new_tokens=6)
    engine = Engine(model, slots=16, propose=NGram(least=1, trial=0))
    prompt = [5, 7, 9, 5, 7, 9, 5, 7]
    pairs = [(name, rules, engine.submit(prompt, rules, adapter=name)) for name in ("ann", "bob", "")
             for rules in (search, greedy(20))]  # fmt: skip
    engine.run()
    assert sum(request.drafted for _, _, request in pairs) > 0
    for name, rules, request in pairs:
        assert request.logprobs == pytest.approx(alone(model, name, prompt, rules).logprobs, abs=1e-9)


@pytest.mark.parametrize("shape", ["plain", "source"])
def test_keys_are_never_shared_across_adapters_or_salts(adapted, shape):
    """S13: what one adapter, or one client, computed is found by the same alone, whether it runs still or is done;
    sources too."""
    model = adapted(**SHAPES[shape] | dict(windows=()))
    prompt, encoded = list(range(3, 43)), []
    if model.encoder is not None:
        model.encoder.blocks[0].register_forward_hook(lambda _, given, __: encoded.append(len(given[0])))
    engine = Engine(model, slots=16)
    kinds = [(salt, name) for salt in (b"", b"a", b"b") for name in NAMES]
    for known in (0, 32):
        asked = [engine.submit(prompt, greedy(1), source=source_of(model), salt=salt, adapter=name)
                 for salt, name in kinds]  # fmt: skip
        engine.run()
        assert [request.cached for request in asked] == [known] * len(kinds)
        assert model.encoder is None or sum(encoded) == len(kinds)
    assert len({router_file.root_of(*kind) for kind in [*kinds, (b"a\1ann", None), (b"\1ann", "")]}) == len(kinds) + 2


def test_an_adapter_that_is_not_there(adapted):
    """Refused before any work, with the name that may have been meant."""
    engine = Engine(adapted(), slots=1)
    with pytest.raises(InputError, match="unknown adapter anna; did you mean ann"):
        engine.submit([1], greedy(), adapter="anna")
    assert not engine.busy


def test_adapters_come_and_go(adapted):
    """An engine knows of adapters that were put on later, also of another one under an old name."""
    model = adapted()
    engine = Engine(model, slots=4)

    def both():
        engine.forget()
        asked = [engine.submit([5, 7, 9], greedy(), adapter=name) for name in ("bob", "")]
        engine.run()
        return [request.logprobs for request in asked]

    first = both()
    remove(model, "bob")
    attach(model, "bob", LoraOptions(rank=2, targets=("q", "down")))
    activate(model)
    model.double()
    second = both()
    assert first[0] != pytest.approx(first[1], abs=1e-6)
    assert second == [pytest.approx(first[1], abs=1e-9)] * 2  # a new one adds nothing yet


def test_without_adapters_nothing_is_routed(adapted, monkeypatch):
    """Where all heed what is active anyway, layers are called as ever; where all heed one other, they are as if it
    were active."""
    model = adapted()
    routed = []
    monkeypatch.setattr(router_file, "Routing", lambda *_: routed.append(1))
    engine = Engine(model, slots=4)
    for names in ((None, ""), ("ann", "ann")):
        asked = [engine.submit([5, n], greedy(3), adapter=name) for n, name in enumerate(names)]
        engine.run()
        for n, (name, request) in enumerate(zip(names, asked)):
            assert request.ids == alone(model, name, [5, n], greedy(3)).ids
    assert not routed


def test_a_compiled_step_is_for_steps_without_adapters(adapted):
    """The step that is compiled knows what is active; one in which somebody heeds something else is run as it is."""
    model = adapted()
    engine = Engine(model, slots=4)
    ran = []

    def compiled(rows, tokens):
        ran.append(len(rows))
        engine._reader._compiled = None
        work = engine.schedule
        logits = engine._reader._pass(plan_of(work), tokens, [1] * len(rows), [None] * len(rows))
        engine._reader._compiled = compiled
        return logits

    def plan_of(schedule):
        from instar.infer.schedule import Work

        return Work(list(schedule.speaking), [], [], [])

    engine._reader._compiled = compiled
    bare = engine.submit([4], greedy(8), adapter="")
    engine.step()
    engine.step()
    assert ran == [1]
    other = engine.submit([5, 7], greedy(3), adapter="ann")
    for _ in range(3):
        engine.step()
    assert other.finish == "length"
    assert ran == [1]
    engine.run()
    assert len(ran) > 1
    assert bare.ids == alone(model, "", [4], greedy(8)).ids
    assert other.ids == alone(model, "ann", [5, 7], greedy(3)).ids
