"""What a model asks of a machine, counted another way."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from instar.adapt.quantize import quantize
from instar.config import ModelConfig
from instar.eval.limits import (
    Limits,
    key_bytes,
    measure_limits,
    multiplied,
    peak_bytes,
    prompt_operations,
    read_bytes,
    step_operations,
)
from instar.model.grid import Grid
from instar.model.transformer import Transformer

WIDE = dict(vocab_size=96, d_model=64, layers=2, heads=4, max_positions=64)
SHAPES = {
    "gated": WIDE,
    "plain, own head size": WIDE | dict(mlp="plain", head_size=24, kv_heads=2),
    "few keys": WIDE | dict(kv_heads=1, tied=False),
    "pairs": WIDE | dict(encoder_layers=3, start=1),
}


def matrices(stack):
    """Weights of the linear layers in the blocks of a stack."""
    return sum(layer.weight.numel() for layer in stack.blocks.modules() if isinstance(layer, torch.nn.Linear))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_multiplied(shape):
    """Every weight of a block once, the head once; keys of a source are computed once, and do not count."""
    config = ModelConfig(**shape)
    model = Transformer(config)
    crossing = 2 * config.layers * config.d_model * config.kv_heads * config.head_size if model.encoder else 0
    assert multiplied(config) == (matrices(model) - crossing, config.d_model * config.vocab_size)


def test_multiplied_experts():
    """Of experts as many as a token takes; a dense block counts whole."""
    config = ModelConfig(**WIDE, experts=8, experts_used=2, d_expert=32, dense_layers=(0,))
    blocks, _ = multiplied(config)
    attention = 2 * 4 * config.d_model * config.d_model
    assert blocks == attention + 3 * config.d_model * (config.d_ff + 2 * 32)


@pytest.mark.parametrize("length", [1, 16])
def test_operations(length):
    """The products that torch counts in a forward pass, the head once; and a causal mask leaves half of the scores."""
    config = ModelConfig(**WIDE)
    model = Transformer(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.ones(1, length, dtype=torch.int64))
    counts = counter.get_flop_counts()["Global"]
    products = sum(count for what, count in counts.items() if "mm" in str(what) and "bmm" not in str(what))
    blocks, head = multiplied(config)
    assert products == 2 * (blocks + head) * length
    scores = 2 * 2 * config.heads * config.head_size * length**2 * config.layers
    assert prompt_operations(config, length) == 2 * (blocks * length + head) + scores / 2
    assert step_operations(config, 3, length) == 3 * (2 * (blocks + head) + scores / length)


def test_read_bytes():
    """All but the embedding, which a tied head reads after all; no encoder; experts as often as they are taken."""
    model = Transformer(ModelConfig(**WIDE, tied=False))
    assert read_bytes(model) == 4 * (model.size() - 96 * 64)
    tied = Transformer(ModelConfig(**WIDE))
    assert read_bytes(tied) == 4 * tied.size()
    pairs = Transformer(ModelConfig(**SHAPES["pairs"]))
    assert read_bytes(pairs) == 4 * (pairs.size() - sum(weight.numel() for weight in pairs.encoder.parameters()))
    many = Transformer(ModelConfig(**WIDE, experts=8, experts_used=2))
    experts = sum(weight.numel() for layer in many.experts for weight in layer.experts.parameters())
    assert read_bytes(many) == 4 * (many.size() - 0.75 * experts)
    assert read_bytes(many) < read_bytes(many, 4) < 4 * many.size()


def test_read_bytes_of_whole_numbers():
    """Quantised weights count as they are stored."""
    model = Transformer(ModelConfig(**WIDE, tied=False))
    before = read_bytes(model)
    quantize(model, Grid(8, 0, symmetric=True))
    blocks, head = multiplied(model.config)
    assert blocks + 4 * head < read_bytes(model) < 1.1 * (blocks + 4 * head) < before


def test_key_bytes():
    """Keys and values of every layer; a window holds no more than it."""
    config = ModelConfig(**WIDE | dict(kv_heads=2))
    assert key_bytes(config, 10, 4) == 2 * 2 * 2 * 16 * 10 * 4
    windows = ModelConfig(**WIDE, windows=(0, 3))
    assert key_bytes(windows, 10, 2) == 2 * 64 * (10 + 3) * 2


def test_floor():
    """The longer of reading and multiplying."""
    limits = Limits(100.0, {"fp32": 10.0})
    assert limits.floor(200, 5, "fp32") == 2.0
    assert limits.floor(200, 50, "fp32") == 5.0


def test_measured_limits():
    """Every precision has a figure, and a narrow one at least that of a wider one; the setting of torch stays."""
    before = torch.get_float32_matmul_precision()
    limits = measure_limits(torch.device("cpu"), megabytes=4, size=128)
    assert torch.get_float32_matmul_precision() == before
    assert limits.bandwidth > 1e8
    assert 1e8 < limits.products["fp32"] <= limits.products["bf16"] <= limits.products["int8"]
    assert peak_bytes(torch.device("cpu")) > 1 << 24
