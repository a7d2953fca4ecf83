"""What positions are for: who does not see the order cannot tell who did it."""

import runpy
from pathlib import Path

import pytest
import torch

from instar.config import ModelConfig
from instar.model.transformer import Transformer

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "order.py"


@pytest.fixture(scope="module")
def benchmark():
    return runpy.run_path(str(BENCHMARK))


@pytest.fixture(scope="module")
def columns(benchmark):
    """A tokenizer, and of each column of the table its heading and two hundred texts."""
    tokenizer = benchmark["tokenizer_for"]()
    found = {
        heading: benchmark["told"](tokenizer, f"world:order?count=200{extra}", start)
        for heading, extra, start in benchmark["COLUMNS"]
    }
    return tokenizer, found


@pytest.mark.parametrize(
    ("scheme", "blind"),
    [
        ("none", {"sentences", "mirror images", "without a start token"}),
        ("alibi", {"without a start token"}),
        *((scheme, set()) for scheme in ("sinusoidal", "learned", "rotary", "t5")),
    ],
)
def test_whom_a_pair_is_the_same_for(columns, scheme, blind):
    """Without positions the two texts of a pair have the same logits; symmetric ALiBi cannot tell mirror images apart
    where no start token stands on one side. Every other scheme sees a difference, before any training."""
    tokenizer, told = columns
    torch.manual_seed(0)
    for heading, texts in told.items():
        model = Transformer(
            ModelConfig(
                vocab_size=tokenizer.vocab_size, d_model=32, layers=2, heads=4, positions=scheme, causal=False,
                heads_of=("classify",), pooling="mean", tied=False, max_positions=32,
            )
        ).double()  # fmt: skip
        if scheme == "t5":  # begins with all distances alike
            torch.nn.init.normal_(model.positions.weight)
        with torch.no_grad():
            logits = model.heads["classify"](model.pool(model.hidden(texts.tokens, view=texts.view), texts.view))
        # two languages take turns: the second of a pair is the next of its language
        pairs = logits.unflatten(0, (-1, 2, 2 if heading == "sentences" else 1))
        gap = (pairs[:, 0] - pairs[:, 1]).abs().amax(-1)
        assert gap.max() < 1e-12 if heading in blind else gap.min() > 1e-6, heading


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_positions_tell_who_did_it(benchmark):
    """Learned and rotary positions tell at least 0.95 of pairs never taught; without positions it is chance, and for
    symmetric ALiBi too where nothing marks the beginning."""
    found = dict(benchmark["measure"](("none", "learned", "rotary", "alibi")))
    assert min(found["learned"] + found["rotary"]) >= 0.95
    assert min(found["alibi"][:2]) >= 0.95
    assert max(abs(share - 0.5) for share in [*found["none"], found["alibi"][2]]) <= 0.02
