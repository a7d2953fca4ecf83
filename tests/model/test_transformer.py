"""The model computes what its config says, wherever it is cut, packed or cast."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from instar.batch import View
from instar.config import InputError, ModelConfig, RopeScaling
from instar.config.presets import PRESETS, preset
from instar.model.cache import KVCache
from instar.model.positions import Rotary
from instar.model.transformer import Transformer

CONFIG = ModelConfig(
    vocab_size=61, d_model=24, layers=2, heads=4, kv_heads=2, head_size=8, max_positions=64, qk_norm=True, tied=False
)
GPT2 = preset("gpt2", vocab_size=61, d_model=24, layers=2, heads=4, max_positions=64)


@pytest.fixture
def tokens():
    return torch.randint(0, 61, (3, 20), generator=torch.Generator().manual_seed(2))


def loss(model, tokens):
    """Mean next-token loss."""
    return F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


# --- shapes that cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "word", "meant"),
    [
        ("norm", "rns", "rms"),
        ("mlp", "gatd", "gated"),
        ("act", "gelu_tan", "gelu_tanh"),
        ("positions", "rotery", "rotary"),
        ("residual", "prre", "pre"),
        ("heads_of", ("lmm",), "lm"),
    ],
)
def test_names_of_no_part_are_told(field, word, meant):
    """A word that no table holds is an error at construction, with the nearest one."""
    with pytest.raises(InputError, match=f"did you mean {meant}"):
        Transformer(replace(CONFIG, **{field: word}))


def test_rope_scaling_of_no_kind_is_told():
    """The kind of rotary stretching too is looked up at construction."""
    with pytest.raises(InputError, match="did you mean llama3"):
        Transformer(replace(CONFIG, rope_scaling=RopeScaling(kind="lama3")))


def test_vocabulary_is_needed():
    """A config that still waits for its tokenizer builds no model."""
    with pytest.raises(InputError, match="vocab_size=0"):
        Transformer(replace(CONFIG, vocab_size=0))


def test_an_encoder_that_is_not_there_is_told():
    """A source for a decoder alone, and an encoder-decoder without one, are told."""
    tokens = torch.zeros(1, 3, dtype=torch.int64)
    with pytest.raises(InputError, match="a model without an encoder"):
        Transformer(CONFIG)(tokens, source=tokens)
    with pytest.raises(InputError, match="an encoder-decoder was given no source"):
        Transformer(replace(CONFIG, encoder_layers=2))(tokens)


def test_text_longer_than_learned_positions(tokens):
    """A learned position that does not exist is told with both numbers, not an index error in the depths."""
    with pytest.raises(InputError, match=r"max_positions=16.*20"):
        Transformer(replace(GPT2, max_positions=16))(tokens)


def test_view_beside_a_cache_is_refused(tokens):
    """A cache says where tokens stand; a view beside it would be ignored, and nothing is ignored in silence."""
    with pytest.raises(InputError, match="a view and a cache"):
        Transformer(CONFIG)(tokens, view=View(), cache=KVCache(CONFIG, 3, 32))


# --- initialisation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nano", "deep", "gpt2"])
def test_first_loss_is_that_of_guessing(name):
    """A new model says nothing: its loss is within 2 % of ln V (textbook value of U12)."""
    shape = dict(d_model=96, layers=4, heads=4) if name == "gpt2" else {}
    model = Transformer(preset(name, vocab_size=2048, **shape))
    tokens = torch.randint(0, 2048, (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert loss(model, tokens).item() == pytest.approx(math.log(2048), rel=0.02)


@torch.no_grad()
@pytest.mark.parametrize("name", ["nano", "deep"])
def test_stream_keeps_its_scale(name):
    """Behind every block of a new model the stream's standard deviation stays between 0.5 and 2."""
    model = Transformer(preset(name, vocab_size=256))
    scales = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, inputs, output: scales.append(output.std().item()))
    model(torch.randint(0, 256, (2, 64), generator=torch.Generator().manual_seed(0)))
    assert min(scales) > 0.5
    assert max(scales) < 2


@pytest.mark.parametrize("config", [CONFIG, GPT2], ids=["nano", "gpt2"])
def test_initialisation_follows_the_seed(config):
    """One seed, one model, whatever was drawn before; another seed, another."""
    first = Transformer(config, seed=1).state_dict()
    torch.rand(7)
    again, other = Transformer(config, seed=1).state_dict(), Transformer(config, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in first if first[name].ndim > 1)


@pytest.mark.parametrize("config", [CONFIG, GPT2], ids=["nano", "gpt2"])
def test_building_leaves_the_random_state_alone(config):
    """A model is built from its seed alone and does not move the global generator."""
    before = torch.random.get_rng_state()
    Transformer(config)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("tied", [True, False])
def test_size_counts_shared_weights_once(tied):
    """The published formula: embeddings, 2 D (H + K) E of attention, 3 D F of the gated layer, and norms."""
    model = Transformer(replace(CONFIG, tied=tied))
    block = 2 * 24 * (4 + 2) * 8 + 3 * 24 * CONFIG.d_ff + 2 * 24 + 2 * 8
    assert model.size() == 61 * 24 * (1 if tied else 2) + 2 * block + 24


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_can_be_built(name):
    """Every named shape is one, without allocating it."""
    with torch.device("meta"):
        assert Transformer(preset(name, vocab_size=PRESETS[name].get("vocab_size", 64)), seed=None).size() > 0


def test_well_known_sizes():
    """GPT-2 has 124,439,808 weights, Llama 3.2 1B 1,235,814,400 and Qwen3 0.6B 596,049,920."""
    with torch.device("meta"):
        found = {n: Transformer(preset(n), seed=None).size() for n in ("gpt2", "llama-3.2-1b", "qwen3-0.6b")}
    assert found == {"gpt2": 124439808, "llama-3.2-1b": 1235814400, "qwen3-0.6b": 596049920}


# --- what is computed -----------------------------------------------------------------------------------------------

FAMILIES = pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, rope_scaling=RopeScaling("llama3", 4.0, 1.0, 4.0, 16), qk_norm=False, tied=True),
        GPT2,
        replace(CONFIG, positions="sinusoidal", residual="post", norm="layer", mlp="plain", act="relu"),
        replace(CONFIG, positions="none", residual="none", norm="none"),
    ],
    ids=["qwen3", "llama3", "gpt2", "vaswani", "bare"],
)


@FAMILIES
@torch.no_grad()
def test_one_pass_equals_a_pass_for_every_prefix(config, tokens):
    """A token sees what stands before it and nothing else: T prefixes, one by one, give what one pass gives."""
    model = Transformer(config).double()
    whole = model(tokens)
    for end in range(1, tokens.shape[1] + 1):
        torch.testing.assert_close(model(tokens[:, :end])[:, -1], whole[:, end - 1], rtol=0, atol=1e-10)


@torch.no_grad()
def test_without_causality_every_token_sees_all(tokens):
    """causal=False: the first token's state depends on the last token."""
    model = Transformer(replace(CONFIG, causal=False))
    other = tokens.clone()
    other[:, -1] = (other[:, -1] + 1) % 61
    assert not torch.allclose(model.hidden(tokens)[:, 0], model.hidden(other)[:, 0])


@torch.no_grad()
@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, causal=False)], ids=["causal", "both ways"])
def test_padding_is_invisible(config, tokens):
    """What stands in padded places, on either side, does not reach the real tokens, bit for bit."""
    model = Transformer(config).double()
    keep = torch.ones_like(tokens, dtype=torch.bool)
    keep[0, 15:], keep[1, :6], keep[2, 7:9] = False, False, False
    other = torch.where(keep, tokens, (tokens + 1) % 61)
    view = View(keep=keep)
    assert torch.equal(model(tokens, view=view)[keep], model(other, view=view)[keep])
    assert model(tokens, view=view).isfinite().all()


@torch.no_grad()
def test_rotary_scores_depend_on_distance_alone():
    """q and k turned by positions m and n meet as those turned by m + 40 and n + 40 do."""
    rotary = Rotary(CONFIG)
    q, k = torch.randn(2, 1, 1, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    here, there = (rotary.rotation(torch.arange(9)[None] + start, torch.float64) for start in (0, 40))
    scores = [turn(q) @ turn(k).mT for turn in (here.turn, there.turn)]
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-6)


@torch.no_grad()
def test_rotary_angles_are_exact_far_out():
    """bf16 activations get angles that were computed in fp32: position 1001 is not 1000."""
    rotation = Rotary(replace(CONFIG, max_positions=2048)).rotation(torch.tensor([[1000, 1001]]), torch.bfloat16)
    wanted = torch.tensor([1000.0, 1001.0]).cos()
    torch.testing.assert_close(rotation.cos[0, 0, :, 0].float(), wanted, rtol=0, atol=4e-3)


def test_gradients_equal_finite_differences(tokens):
    """A step along any weight changes the loss as the gradient says (central differences in float64)."""
    model = Transformer(CONFIG).double()
    loss(model, tokens).backward()
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        step = 1e-5 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            weight += step
            ahead = loss(model, tokens)
            weight -= 2 * step
            behind = loss(model, tokens)
            weight += step
        wanted = (weight.grad * step).sum()
        assert (ahead - behind).item() == pytest.approx(2 * wanted.item(), rel=1e-5, abs=1e-13), name


# --- precision, memory, compilation ---------------------------------------------------------------------------------


def test_bf16_products_leave_fp32_gradients(tokens):
    """compute=bfloat16: activations in bf16, weights, gradients and logits in fp32, loss near that of fp32."""
    model = Transformer(CONFIG)
    wanted = loss(model, tokens)
    wanted.backward()
    exact = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    model.compute = torch.bfloat16
    assert model.hidden(tokens).dtype == torch.bfloat16
    found = loss(model, tokens)
    found.backward()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(wanted.item(), rel=5e-3)
    for name, weight in model.named_parameters():
        assert weight.dtype == weight.grad.dtype == torch.float32
        assert F.cosine_similarity(weight.grad.flatten(), exact[name].flatten(), dim=0) > 0.99, name


def test_gradients_of_micro_batches_add_up_in_fp32(tokens):
    """Small gradients of later micro-batches are not swallowed: they accumulate in fp32, not in bf16."""
    model = Transformer(CONFIG)
    model.compute = torch.bfloat16
    loss(model, tokens).backward()
    first = model.embed.weight.grad.clone()
    (loss(model, tokens) * 2**-12).backward()
    torch.testing.assert_close(model.embed.weight.grad, first * (1 + 2**-12), rtol=1e-6, atol=0)


@pytest.mark.parametrize("config", [CONFIG, GPT2], ids=["nano", "gpt2"])
def test_recomputed_blocks_give_the_same_gradients(config, tokens):
    """Saving memory by recomputing changes nothing, with dropout as well."""
    model = Transformer(replace(config, dropout=0.2)).train()
    found = []
    for model.recompute in (False, True):
        torch.manual_seed(11)
        model.zero_grad()
        loss(model, tokens).backward()
        found.append({name: weight.grad.clone() for name, weight in model.named_parameters()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_dropout_acts_only_in_training(tokens):
    """Two passes differ in training and are equal in evaluation."""
    model = Transformer(replace(CONFIG, dropout=0.5))
    with torch.no_grad():
        assert not torch.equal(model.train()(tokens), model(tokens))
        assert torch.equal(model.eval()(tokens), model(tokens))


@FAMILIES
def test_blocks_compile_whole(config, tokens):
    """torch.compile takes a block without a break in its graph, and it computes the same."""
    torch._dynamo.reset()
    model = Transformer(config)
    with torch.no_grad():
        wanted = model(tokens)
        for block in model.blocks:
            block.forward = torch.compile(block.forward, backend="eager", fullgraph=True)
        torch.testing.assert_close(model(tokens), wanted)


def test_view_of_one_document_is_no_view(tokens):
    """Positions 0, 1, 2, ... and one segment say what saying nothing says."""
    model = Transformer(CONFIG).double()
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    view = View(positions=positions, segments=torch.zeros_like(tokens), keep=torch.ones_like(tokens, dtype=torch.bool))
    torch.testing.assert_close(model(tokens, view=view), model(tokens), rtol=0, atol=1e-10)
