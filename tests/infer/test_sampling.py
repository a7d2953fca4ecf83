"""The edges of drawing, and what is refused. Formulas and order are in tests/traps/test_29."""

import math
from dataclasses import replace

import pytest
import torch

from instar.config import InputError
from instar.config.options import ChatOptions, GenerateOptions, SamplingOptions
from instar.infer.sampling import check, describe, draw, logprob, sampler, top_k


@pytest.mark.parametrize(("luck", "id"), [(0.0, 1), (0.249, 1), (0.251, 3), (0.999, 3), (1.0, 3)])
def test_draw_is_the_inverse_of_the_distribution(luck, id):
    """Luck in [0, 1) falls into the share of a token that has one; tokens without are never drawn, first nor last."""
    logits = torch.tensor([[-math.inf, math.log(0.25), -math.inf, math.log(0.75), -math.inf]])
    assert draw(logits, torch.tensor([luck], dtype=torch.float64)).item() == id


def test_sampler_repeats_with_its_generator():
    """A composed sampler draws what its own generator gives."""
    logits = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    sample = sampler(0.8, top_k(4), generator=torch.Generator().manual_seed(1))
    again = sampler(0.8, top_k(4), generator=torch.Generator().manual_seed(1))
    first = sample(logits)
    assert torch.equal(first, again(logits))
    assert not torch.equal(first, sample(logits))
    assert (logits.topk(4).indices == first[:, None]).any(-1).all()


def test_logprob():
    """In nats, normalised over the whole vocabulary."""
    logits = torch.randn(4, 7, dtype=torch.float64)
    ids = torch.tensor([0, 6, 3, 3])
    assert torch.allclose(logprob(logits, ids), logits.log_softmax(-1)[torch.arange(4), ids])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": -0.1}, "temperature=-0.1, wanted a number from 0 to 100"),
        ({"temperature": 1e-9}, "wanted 0, which is greedy, or 0.001 and more"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"temperature": math.inf}, "temperature=inf"),
        ({"top_p": 1.1}, "top_p=1.1, wanted a number from 0 to 1"),
        ({"top_k": 2.5}, "top_k=2.5, wanted a whole number"),
        ({"top_k": True}, "top_k=True"),
        ({"min_p": "0.1"}, "min_p=0.1, wanted a number"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0, wanted a whole number from 1"),
        ({"strategy": "beem"}, "unknown sampling.strategy beem"),
        ({"stop": ("",)}, "stop=.* none of them empty"),
    ],
)
def test_figures_out_of_range(changes, message):
    """Each names the option, the value and what is wanted."""
    with pytest.raises(InputError, match=message):
        check(replace(SamplingOptions(), **changes))


def test_describe_tells_what_decides():
    """Story: vllm-project/vllm#15241, hidden sampling defaults (U11). What is said is what acts, and no more."""
    assert describe(SamplingOptions()) == "temperature 1"
    assert describe(GenerateOptions().sampling) == describe(ChatOptions().sampling) == "temperature 0.8, top p 0.95"
    assert describe(SamplingOptions(strategy="greedy", temperature=0.7, top_k=5)) == "greedy"
    assert describe(SamplingOptions(temperature=0, repetition_penalty=1.2)) == "greedy, repetition penalty 1.2"
