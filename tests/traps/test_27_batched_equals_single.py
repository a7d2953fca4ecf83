"""Trap 27: a prompt answered otherwise because of what stood beside it. huggingface/transformers#3021, #7552, #18388;
unslothai/unsloth#4078; TransformerLensOrg/TransformerLens#1005; ndif-team/nnsight#673.

Batches padded on the left without telling positions and masks, so that a short prompt was read as if it began late or
behind padding. Here prompts are padded on the right and the padding is forgotten; a request's greedy ids and the
probability of each are what they are alone, whatever else runs and in whichever row.
"""

import pytest
import torch

from instar.config import ModelConfig
from instar.config.options import SamplingOptions
from instar.infer.engine import Engine
from instar.model.transformer import Transformer

OPTIONS = [SamplingOptions(strategy="greedy", max_new_tokens=n) for n in (3, 9, 6)]


def make_model(**changes):
    """Tiny, fp64, with logits of a standard deviation above 1, so that a wrong detail shows."""
    shape = dict(vocab_size=61, d_model=16, layers=2, heads=4, kv_heads=2, max_positions=48, tied=False)
    model = Transformer(ModelConfig(**shape | changes), seed=3).double()
    with torch.no_grad():
        model.heads["lm"].weight *= 20
    return model


def make_prompts():
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(0, 61, (n,), generator=generator).tolist() for n in (1, 17, 5, 30, 2, 11, 23, 3)]


def answers(model, prompts, slots):
    """ids and log-probabilities by prompt; prompt n asks for one of three lengths, so rows end at different steps."""
    engine = Engine(model, slots=slots, capacity=48)
    requests = {n: engine.submit(prompt, OPTIONS[n % 3]) for n, prompt in prompts}
    engine.run()
    return {n: (request.ids, request.logprobs) for n, request in requests.items()}


@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal", "none"])
@pytest.mark.parametrize("slots", [2, 3, 8])
def test_an_answer_does_not_depend_on_its_batch(positions, slots):
    """The same ids and log-probabilities to 1e-10, alone, in any order, with rows that are left and taken again."""
    model = make_model(positions=positions)
    prompts = list(enumerate(make_prompts()))
    alone = {}
    for prompt in prompts:
        alone |= answers(model, [prompt], 1)
    assert len({tuple(ids[:3]) for ids, _ in alone.values()}) > 4  # the answers differ, so mixing them up would show
    for order in (prompts, prompts[::-1], prompts[3:] + prompts[:3]):
        together = answers(model, order, slots)
        for n, (ids, logprobs) in alone.items():
            assert together[n][0] == ids
            assert together[n][1] == pytest.approx(logprobs, abs=1e-10)
