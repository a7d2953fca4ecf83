"""Trap 26, the engine's half: cached generation that differs from reading everything again. jingyaogong/minimind#550,
huggingface/nanoVLM#69, Lightning-AI/litgpt#2165.

A cache off by one position, or rescaled by its length, gives fluent but different text, so nothing looks broken. The
oracle is the plainest loop there is: read all tokens without a cache, take the likeliest, begin again.
"""

import pytest
import torch

from instar.config import ModelConfig, RopeScaling
from instar.config.options import SamplingOptions
from instar.infer.engine import Engine
from instar.model.transformer import Transformer

SHAPES = {
    "rotary": {},
    "one key-value head": {"kv_heads": 1, "qk_norm": True},
    "llama3 scaling": {"rope_scaling": RopeScaling("llama3", 8.0, 1.0, 4.0, 16)},
    "gpt2": {"positions": "learned", "norm": "layer", "mlp": "plain", "act": "gelu_tanh", "bias": True},
}


def make_model(**changes):
    shape = dict(vocab_size=61, d_model=16, layers=3, heads=4, max_positions=40, tied=False)
    model = Transformer(ModelConfig(**shape | changes), seed=4).double()
    with torch.no_grad():
        model.heads["lm"].weight *= 20
    return model


@torch.no_grad()
def by_hand(model, ids, count):
    """The likeliest next token again and again, without a cache, and how likely each was."""
    ids, said = list(ids), []
    for _ in range(count):
        chances = model(torch.tensor([ids]))[0, -1].log_softmax(-1)
        said.append((int(chances.argmax()), float(chances.max())))
        ids.append(said[-1][0])
    return [id for id, _ in said], [chance for _, chance in said]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 13])
def test_the_engine_says_what_the_plain_loop_says(shape, size):
    """Greedy ids are equal and log-probabilities within 1e-10, up to the last position that the model has."""
    model = make_model(**SHAPES[shape])
    prompt = torch.randint(0, 61, (size,), generator=torch.Generator().manual_seed(size)).tolist()
    count = 40 + 1 - size  # the last token is said but never read
    engine = Engine(model, slots=4)
    request = engine.submit(prompt, SamplingOptions(strategy="greedy", max_new_tokens=count))
    engine.submit(prompt[:1], SamplingOptions(strategy="greedy", max_new_tokens=5))  # a neighbour that leaves early
    engine.run()
    ids, chances = by_hand(model, prompt, count)
    assert request.ids == ids
    assert request.logprobs == pytest.approx(chances, abs=1e-10)


def test_logprobs_are_those_of_one_pass():
    """The engine's log-probability of each token, also a drawn and penalised one, is the model's own, raw."""
    model = make_model()
    engine = Engine(model, slots=1)
    options = SamplingOptions(
        temperature=0.5, top_k=20, repetition_penalty=1.5, presence_penalty=0.5, max_new_tokens=20
    )
    request = engine.submit([3, 1, 4], options, seed=9)
    engine.run()
    ids = request.prompt + request.ids
    with torch.no_grad():
        chances = model(torch.tensor([ids[:-1]]))[0].log_softmax(-1)
    wanted = chances[2:].gather(-1, torch.tensor(request.ids)[:, None]).squeeze(-1)
    assert request.logprobs == pytest.approx(wanted.tolist(), abs=1e-10)
