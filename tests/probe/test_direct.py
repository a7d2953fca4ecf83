"""Who said it: the parts of a logit add up to it, in every shape that a model may have."""

from itertools import product

import pytest
import torch
from torch import nn

from instar.adapt.lora import attach, using
from instar.adapt.quantize import quantize
from instar.batch import View
from instar.config import InputError, ModelConfig
from instar.config.options import LoraOptions
from instar.model.grid import Grid
from instar.model.transformer import Transformer
from instar.probe.capture import capture
from instar.probe.copying import copying
from instar.probe.direct import direct, frozen
from instar.probe.lens import logits_of

TINY = dict(vocab_size=61, d_model=32, layers=3, heads=4, d_ff=48, max_positions=32)
ENCODER = TINY | dict(causal=False, heads_of=("masked",), norm="layer", mlp="plain", act="gelu", head_bias=True)
PAIR = TINY | dict(encoder_layers=2, start=2, mlp="plain", act="relu", bias=True, qkv_bias=True)
SHAPES = {
    "llama": dict(kv_heads=2),
    "qwen3": dict(qk_norm=True, head_size=12, kv_heads=2, tied=False),
    "gpt2": dict(norm="layer", positions="learned", mlp="plain", act="gelu_tanh", bias=True, qkv_bias=True),
    "gpt_neox": dict(norm="layer", residual="parallel", rotary_share=0.25, bias=True, qkv_bias=True, tied=False),
    "olmo2": dict(residual="inside", qk_norm=True, qk_norm_whole=True),
    "gemma2": dict(
        norm="rms_one", residual="both", score_cap=2.0, logit_cap=3.0, scaled_embed=True, head_size=12,
        windows=(5, 0, 5), act="gelu_tanh",
    ),
    "mixtral": dict(experts=4, kv_heads=2),
    "alibi": dict(norm="layer_plain", positions="alibi", embed_norm=True, first_norm=False, head_scale=0.5),
    "the paper's decoder": dict(residual="post", norm="layer", positions="sinusoidal", bias=True),
    "no stream": dict(residual="none", layers=2),
    "bert": ENCODER | dict(
        residual="post", positions="learned", token_types=2, embed_norm=True, bias=True, qkv_bias=True,
    ),
    "modernbert": ENCODER | dict(norm="layer_plain", embed_norm=True, first_norm=False, windows=(8, 0, 8)),
    "marian": PAIR | dict(residual="post", norm="layer", positions="sinusoidal_halves", scaled_embed=True,
                          head_bias=True),
    "bart": PAIR | dict(residual="post", norm="layer", positions="learned", position_start=2, embed_norm=True),
    "t5": PAIR | dict(positions="t5", relative_buckets=8, relative_distance=12, head_size=6, bias=False,
                      qkv_bias=False, head_scale=32**-0.5),
}  # fmt: skip


@torch.no_grad()
def stirred(model):
    """Norms and biases too, so that none of them can be forgotten; the logits of unit scale."""
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
        elif name.startswith(("heads", "embed.")):
            weight.mul_(10)
    return model


def traced(config, dtype=torch.float32):
    model = stirred(Transformer(config)).to(dtype).eval()
    tokens = torch.randint(3, 61, (2, 9), generator=torch.Generator().manual_seed(1))
    source = torch.randint(3, 61, (2, 7), generator=torch.Generator().manual_seed(2)) if config.encoder_layers else None
    return capture(model, tokens, source=source)


@pytest.mark.parametrize(
    ("shape", "dtype"), [*product(SHAPES, (torch.float32, torch.float64))], ids=lambda x: str(x).removeprefix("torch.")
)
def test_the_parts_add_up_to_the_logit(shape, dtype):
    """Glassbox, DLA: with the norms frozen the parts of a logit, and of a difference of two, are the logit: 1e-5 of its
    scale in fp32, 1e-12 in fp64."""
    trace = traced(ModelConfig(**(TINY | SHAPES[shape])), dtype)
    for place, minus in ((0, None), (8, 7)):
        found = direct(trace, place, 5, minus, row=1)
        said = trace.logits()[1, place]
        assert float(said.abs().max()) > 0.5
        assert found.logit == pytest.approx(float(said[5] - (0 if minus is None else said[minus])), abs=1e-5)
        assert found.limit == (1e-5 if dtype == torch.float32 else 1e-12)
        assert found.gap <= found.limit


@torch.no_grad()
def test_each_part_is_what_it_is():
    """Without norms the parts are the products written out: an embedding's, a head's and a layer's with the head's
    row."""
    trace = traced(ModelConfig(**TINY, norm="none", positions="learned", bias=True, tied=False), torch.float64)
    model, side = trace.model, trace.own
    found = direct(trace, 4, 5)
    row = model.heads["lm"].weight[5]
    assert found.embedding["tokens"] == pytest.approx(float(model.embed.weight[trace.tokens[0, 4]] @ row))
    assert found.embedding["positions"] == pytest.approx(float(model.positions.weight[4] @ row))
    out = side.blocks[1].attention.out
    head = side.attended[1].y[0, 2, 4] @ out.weight[:, 16:24].T
    assert float(found.heads[1, 2]) == pytest.approx(float(head @ row))
    assert float(found.attention_bias[1]) == pytest.approx(float(out.bias @ row))
    assert float(found.attention[1]) == pytest.approx(float(side.updates[1]["attention"][0, 4] @ row))
    assert float(found.feed_forward[2]) == pytest.approx(float(side.updates[2]["feed_forward"][0, 4] @ row))
    assert found.cross is None
    assert found.crossing is None


@torch.no_grad()
def test_what_the_last_head_said_is_what_is_missed_without_it():
    """Where no norm and no later layer reads it, a head's part is what the logit loses when the head is silenced."""
    trace = traced(ModelConfig(**TINY, norm="none", residual="parallel"), torch.float64)
    found = direct(trace, 6, 5)
    attend = trace.own.blocks[-1].attention.attend
    keep = torch.ones(4, 1, 1, dtype=torch.float64)
    keep[1] = 0
    hook = attend.register_forward_hook(lambda module, given, y: y * keep)
    silenced = float(trace.model(trace.tokens)[0, 6, 5])
    hook.remove()
    assert found.logit - silenced == pytest.approx(float(found.heads[-1, 1]), abs=1e-12)


def test_with_an_adapter_and_with_whole_numbers():
    """What adapters add and what quantised layers say is counted, by the layers themselves."""
    tokens = torch.randint(0, 61, (1, 9), generator=torch.Generator().manual_seed(1))
    model = stirred(Transformer(ModelConfig(**TINY, bias=True))).eval()
    base = direct(capture(model, tokens), 8, 5)
    attach(model, "a", LoraOptions(rank=2, dropout=0.5, targets=("v", "out", "up")))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".adapters." in name:
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(4)) / 4)
    with using(model, "a"):
        found = direct(capture(model, tokens), 8, 5)
        model.train()  # dropout of the adapter rests, whoever asks
        again = direct(capture(model, tokens), 8, 5)
        assert again.gap <= again.limit
        assert again.logit == found.logit
        trace = capture(model, tokens)
        assert torch.equal(logits_of(trace, -1), trace.logits())
        assert torch.equal(copying(model, trace.own), copying(model.eval(), trace.own))
    assert found.gap <= found.limit
    assert abs(found.logit - base.logit) > 0.01
    model = stirred(Transformer(ModelConfig(**TINY, bias=True))).eval()
    quantize(model, Grid(8, 0, True))
    found = direct(capture(model, tokens), 8, 5)
    assert found.gap <= found.limit
    assert found.logit != base.logit


def test_types_and_positions_of_a_view():
    """A token's own position and type are counted where a view says them."""
    model = stirred(Transformer(ModelConfig(**(TINY | SHAPES["bert"])))).double().eval()
    tokens = torch.randint(0, 61, (2, 9), generator=torch.Generator().manual_seed(1))
    view = View(types=torch.arange(9).expand(2, 9) // 5, positions=torch.arange(9).flip(0).expand(2, 9))
    found = direct(capture(model, tokens, view=view), 7, 5)
    assert found.gap <= found.limit
    assert set(found.embedding) == {"tokens", "positions", "types"}


def test_a_norm_of_another_text_is_red():
    """A scale that is not the one it had, or a norm that is not known, does not pass."""
    trace = traced(ModelConfig(**TINY))
    trace.own.last = trace.own.last * 2
    found = direct(trace, 8, 5)
    assert found.gap > 100 * found.limit
    with pytest.raises(InputError, match="found the norm GroupNorm"):
        frozen(nn.GroupNorm(1, 4), torch.ones(4))


@pytest.mark.parametrize(
    ("asked", "said"),
    [((9, 5), "place=9"), ((0, 61), "id=61, wanted 0 to 60"), ((0, 5, -1), "id=-1")],
)  # fmt: skip
def test_what_does_not_exist(asked, said):
    """No such place or id; a model without a head for words."""
    with pytest.raises(InputError, match=said):
        direct(traced(ModelConfig(**TINY)), *asked)
    with pytest.raises(InputError, match="no head says tokens"):
        direct(traced(ModelConfig(**TINY, heads_of=("score",))), 0, 5)
