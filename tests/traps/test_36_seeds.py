"""Trap 36: a seed that does not fix the answer. vllm-project/vllm#1595, #5898, #23138.

One generator for the whole batch gave each request whatever numbers its batch-mates had left. Here each request draws
from its own, one number a token, so the same seed gives the same text alone or beside any others. Tested in fp64 on the
CPU; on other devices and in half precision, sums in another order may tip a draw that lies on the edge between two
tokens.
"""

import torch

from instar.config import ModelConfig
from instar.config.options import SamplingOptions
from instar.infer.engine import Engine
from instar.infer.text import generate
from instar.model.transformer import Transformer

CASES = [
    ([5, 6, 7], SamplingOptions(max_new_tokens=12), 1),
    ([5, 6, 7], SamplingOptions(max_new_tokens=12), 2),
    ([9] * 20, SamplingOptions(max_new_tokens=7, top_p=0.9, temperature=1.3), 1),
    ([1], SamplingOptions(max_new_tokens=15, top_k=8, min_p=0.02), 3),
    ([2, 3], SamplingOptions(max_new_tokens=9, strategy="greedy"), 3),
    ([8, 8, 1], SamplingOptions(max_new_tokens=10, repetition_penalty=1.4, frequency_penalty=0.3), -7),
]


def make_model():
    config = ModelConfig(vocab_size=61, d_model=16, layers=2, heads=2, max_positions=48, tied=False)
    model = Transformer(config, seed=3).double()
    with torch.no_grad():
        model.heads["lm"].weight *= 20
    return model


def answers(model, cases, slots):
    engine = Engine(model, slots=slots)
    requests = [engine.submit(prompt, options, seed=seed) for prompt, options, seed in cases]
    engine.run()
    return [request.ids for request in requests]


def test_the_same_seed_alone_or_batched():
    """Each request says the same alone, with any neighbours, in any order and any number of rows."""
    model = make_model()
    alone = [answers(model, [case], 1)[0] for case in CASES]
    for slots in (1, 2, 6):
        assert answers(model, CASES, slots) == alone
        assert answers(model, CASES[::-1], slots) == alone[::-1]


def test_another_seed_another_text():
    """The first two cases differ in nothing but the seed; without one, requests draw differently too."""
    model = make_model()
    first, second = answers(model, CASES[:2], 2)
    assert first != second
    unseeded = answers(model, [([5, 6, 7], SamplingOptions(max_new_tokens=12), None)] * 2, 2)
    assert unseeded[0] != unseeded[1]


def test_the_global_generator_is_left_alone():
    """Generating neither reads nor moves torch's own random state, so it cannot disturb training."""
    model = make_model()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = generate(model, None, [[5, 6]], temperature=1.0, seed=4, max_new_tokens=8)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert generate(model, None, [[5, 6]], temperature=1.0, seed=4, max_new_tokens=8) == first


def test_a_prompt_in_a_list_answers_as_it_does_alone():
    """Many prompts with one seed, n answers each: every answer is that of a call for its prompt alone."""
    model = make_model()
    prompts = [[5, 6, 7], [1], [9] * 20]
    together = generate(model, None, prompts, temperature=1.0, n=2, seed=11, max_new_tokens=8)
    alone = [generate(model, None, [prompt], temperature=1.0, n=2, seed=11, max_new_tokens=8) for prompt in prompts]
    assert together == [answer for pair in alone for answer in pair]
    assert together[0] != together[1]
