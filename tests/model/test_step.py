"""The decoding step as one function of tensors: the same answers as the engine's ordinary pass."""

import pytest
import torch

from instar.config import ModelConfig
from instar.config.options import SamplingOptions
from instar.infer.engine import Engine
from instar.model import step as step_file
from instar.model.transformer import Transformer

SHAPES = {
    "plain": {},
    "windows and alibi": {"windows": (0, 20), "positions": "alibi"},
    "t5": {"positions": "t5"},
    "learned": {"positions": "learned"},
    "experts": {"experts": 4, "experts_used": 2},
    "encoder-decoder": {"encoder_layers": 1, "start": 1},
}


def answers(shape, compile):
    """Seven requests over five rows, of different lengths."""
    shape = {"vocab_size": 64, "d_model": 32, "layers": 2, "heads": 4, "kv_heads": 2, "d_ff": 64} | shape
    config = ModelConfig(max_positions=300, **shape)
    engine = Engine(Transformer(config).double().eval(), slots=5, capacity=200, source_capacity=60, compile=compile)
    requests = []
    for n in range(7):
        ids = [(n * 7 + place) % 60 for place in range(40 - n * 3)]
        options = SamplingOptions(strategy="greedy", max_new_tokens=30 + n)
        given = {"prompt": [], "source": ids} if config.encoder_layers else {"prompt": ids}
        requests.append(engine.submit(**given, options=options))
    engine.run()
    engine.pages.check()
    return [(request.ids, request.logprobs) for request in requests]


def same(found, wanted):
    assert [ids for ids, _ in found] == [ids for ids, _ in wanted]
    for (_, one), (_, other) in zip(found, wanted):
        assert one == pytest.approx(other, abs=1e-12)


@pytest.mark.parametrize("name", SHAPES)
def test_a_step_is_an_ordinary_pass(name, monkeypatch):
    """For every kind of layer and of positions, and sources of different lengths; here not compiled."""
    ran = []

    def run(*given):
        ran.append(given)
        return step_file.logits_of(*given)

    monkeypatch.setattr(torch, "compile", lambda f, **_: run)
    same(answers(SHAPES[name], True), answers(SHAPES[name], False))
    assert len(ran) > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "windows and alibi", "encoder-decoder"])
def test_a_compiled_step(name):
    """Through torch's compiler, with rows and blocks that change from step to step."""
    same(answers(SHAPES[name], True), answers(SHAPES[name], False))


def test_where_nothing_can_be_compiled(monkeypatch):
    """It is said once, and the answers come all the same."""

    def refuses(f, **_):
        def run(*given):
            raise RuntimeError("no compiler found\nmore")

        return run

    monkeypatch.setattr(torch, "compile", refuses)
    with pytest.warns(UserWarning, match="the decoding step is not compiled, and slower: no compiler found$") as told:
        found = answers({}, True)
    assert len(told) == 1
    same(found, answers({}, False))


def test_graphs_have_few_sizes():
    """On a GPU rows and blocks are filled up, so that few graphs are captured."""
    assert [step_file._power(count) for count in (1, 2, 3, 5, 16, 17)] == [1, 2, 4, 8, 16, 32]
