"""Every scheme of positions against its published formula, and what it can tell apart."""

import math
from dataclasses import replace

import pytest
import torch

from instar.config import ModelConfig, RopeScaling
from instar.model.positions import POSITIONS, Rotary, frequencies_of, slopes
from instar.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=61, d_model=24, layers=2, heads=4, max_positions=64)
SCALED = {
    "none": RopeScaling(),
    "linear": RopeScaling("linear", 2.5),
    "llama3": RopeScaling("llama3", 4.0, 1.0, 4.0, 16),
    "yarn": RopeScaling("yarn", 4.0, original_positions=256),
    "yarn of other bounds": RopeScaling("yarn", 8.0, original_positions=64, fast=8.0, slow=0.5),
    "yarn with a temper": RopeScaling("yarn", 4.0, original_positions=256, temper=1.7),
    "dynamic": RopeScaling("dynamic", 4.0, original_positions=16),
}


def scheme(name, **changes):
    return POSITIONS[name](replace(CONFIG, positions=name, **changes))


def grid(queries, keys):
    """Positions of queries (1, T) and keys (1, S)."""
    return torch.arange(queries)[None], torch.arange(keys)[None]


# --- added to the embeddings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [24, 7])
def test_sinusoidal_is_the_formula_of_the_paper(width):
    """PE(p, 2i) = sin(p / 10000^(2i/D)), PE(p, 2i+1) = cos of the same, number by number in float64."""
    waves = POSITIONS["sinusoidal"](ModelConfig(d_model=width, heads=1, head_size=2))
    added = waves.add(torch.zeros(1, 65, width), grid(65, 0)[0])[0]
    for place in range(65):
        for channel in range(width):
            angle = place / 10000 ** (2 * (channel // 2) / width)
            wanted = math.cos(angle) if channel % 2 else math.sin(angle)
            assert added[place, channel].item() == pytest.approx(wanted, abs=1e-5)


def test_sinusoidal_halves_are_those_of_marian():
    """All sines before all cosines, as transformers' Marian computes them."""
    marian = pytest.importorskip("transformers.models.marian.modeling_marian")
    theirs = marian.MarianSinusoidalPositionalEmbedding(64, 24)
    with torch.no_grad():
        wanted = theirs.create_weight()
    found = scheme("sinusoidal_halves").add(torch.zeros(1, 64, 24), grid(64, 0)[0])[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_sinusoidal_t2t_counts_from_one_to_a_wave_of_its_own():
    """Channel i of D/2: sin((p + 1) / 10000^(i / (D/2 - 1))), then the cosines."""
    found = scheme("sinusoidal_t2t").add(torch.zeros(1, 64, 24), grid(64, 0)[0])[0]
    for place in range(64):
        for wave in range(12):
            angle = (place + 1) / 10000 ** (wave / 11)
            assert found[place, wave].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert found[place, 12 + wave].item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_learned_rows_start_where_the_config_says():
    """position_start=2: the first position is row 2, and there are two rows more."""
    plain, later = scheme("learned"), scheme("learned", position_start=2)
    with torch.no_grad():
        plain.weight.normal_(generator=torch.Generator().manual_seed(0))
        later.weight[2:] = plain.weight
    assert later.weight.shape == (66, 24)
    x, positions = torch.zeros(1, 64, 24), grid(64, 0)[0]
    assert torch.equal(plain.add(x, positions), later.add(x, positions))


# --- added to the scores --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heads", "wanted"),
    [
        (8, [2**-1, 2**-2, 2**-3, 2**-4, 2**-5, 2**-6, 2**-7, 2**-8]),
        (16, [2 ** (-(n + 1) / 2) for n in range(16)]),
        (1, [2**-8]),
        (12, [2**-1, 2**-2, 2**-3, 2**-4, 2**-5, 2**-6, 2**-7, 2**-8, 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]),
    ],
)
def test_alibi_slopes_are_the_published_ones(heads, wanted):
    """Press et al. 2022, section 3: 1/2, 1/4, ... 1/256 for 8 heads, 2^-0.5, 2^-1, ... for 16; theirs for 12."""
    assert slopes(heads).tolist() == pytest.approx(wanted, rel=1e-12)


def test_alibi_slopes_are_those_of_bloom():
    """For any number of heads, as transformers has them."""
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    for heads in range(1, 40):
        mask = torch.ones(1, 2, dtype=torch.int64)
        wanted = bloom.build_alibi_tensor(mask, heads, torch.float32)[:, 0, 1]
        torch.testing.assert_close(slopes(heads).float(), wanted, rtol=1e-6, atol=0)


def test_alibi_falls_with_the_distance():
    """Head h, query p, key s: -slope(h) |p - s|, for a causal model on the only side it sees."""
    bias = scheme("alibi").bias(*grid(5, 9), torch.float64)
    for head, slope in enumerate(slopes(4).tolist()):
        for query in range(5):
            for key in range(9):
                assert bias[0, head, query, key].item() == pytest.approx(-slope * abs(query - key), abs=1e-12)


DISTANCES = torch.arange(-400, 401)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20), (10, 64)])
def test_t5_buckets_are_those_of_transformers(causal, buckets, distance):
    """Every distance from -400 to 400."""
    attention = pytest.importorskip("transformers.models.t5.modeling_t5").T5Attention
    wanted = attention._relative_position_bucket(DISTANCES, not causal, buckets, distance)
    found = scheme("t5", causal=causal, relative_buckets=buckets, relative_distance=distance).bucket(DISTANCES)
    assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20)])
def test_t5_buckets_as_the_paper_tells_them(buckets, distance):
    """Half of the buckets are one distance each; the others grow logarithmically up to `distance`, beyond which all is
    one (Raffel et al. 2020, section 2.1)."""
    found = scheme("t5", relative_buckets=buckets, relative_distance=distance).bucket(-torch.arange(400)).tolist()
    exact = buckets // 2
    assert found[:exact] == list(range(exact))
    assert set(found[distance:]) == {buckets - 1}
    for back in range(exact, distance):
        place = exact + math.log(back / exact) / math.log(distance / exact) * exact
        if abs(place - round(place)) > 1e-6:  # at a border the last bit decides
            assert found[back] == math.floor(place)


def test_t5_bias_is_a_row_of_its_table():
    """Head h, query p, key s: weight[bucket(s - p), h], and only what stands ahead is one bucket in a causal model."""
    relative = scheme("t5", relative_buckets=8, relative_distance=20)
    with torch.no_grad():
        relative.weight.normal_(generator=torch.Generator().manual_seed(0))
    bias = relative.bias(*grid(5, 30), torch.float32)
    assert bias.shape == (1, 4, 5, 30)
    for query in range(5):
        for key in range(30):
            row = relative.weight[relative.bucket(torch.tensor(key - query))]
            assert torch.equal(bias[0, :, query, key], row)
    assert len(set(bias[0, 0, 0].tolist())) == 1


# --- turned ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("name", SCALED)
def test_stretched_frequencies_are_those_of_transformers(name, share):
    """Frequencies and the factor of the scores, for a text shorter and one longer than the original context."""
    transformers = pytest.importorskip("transformers")
    utils = pytest.importorskip("transformers.modeling_rope_utils")
    scaling = SCALED[name]
    rotary = Rotary(replace(CONFIG, head_size=32, rotary_share=share, rope_theta=500.0, rope_scaling=scaling))
    theirs = dict(rope_type=scaling.kind, rope_theta=500.0, factor=scaling.factor, partial_rotary_factor=share)
    if scaling.kind in ("llama3", "yarn"):
        theirs["original_max_position_embeddings"] = scaling.original_positions
    if scaling.kind == "llama3":
        theirs |= dict(low_freq_factor=scaling.low_factor, high_freq_factor=scaling.high_factor)
    if scaling.kind == "yarn":
        theirs |= dict(beta_fast=scaling.fast, beta_slow=scaling.slow)
        theirs |= dict(attention_factor=scaling.temper) if scaling.temper else {}
    if scaling.kind == "none":
        theirs = dict(rope_type="linear", rope_theta=500.0, factor=1.0, partial_rotary_factor=share)
    longest = scaling.original_positions if scaling.kind == "dynamic" else 1024
    config = transformers.LlamaConfig(
        hidden_size=128, num_attention_heads=4, head_dim=32, max_position_embeddings=longest, rope_parameters=theirs
    )
    for length in (10, 50):
        wanted, temper = utils.ROPE_INIT_FUNCTIONS[theirs["rope_type"]](config, "cpu", seq_len=length)
        found = rotary.scale(rotary.size, rotary.theta, scaling, length)
        torch.testing.assert_close(found[0], wanted, rtol=2e-6, atol=0)
        assert found[1] == pytest.approx(temper, rel=1e-12)
        turn = rotary.rotation(torch.tensor([[7]]), torch.float64, length=length)
        torch.testing.assert_close(turn.cos[0, 0, 0], (7 * wanted.double()).cos() * temper, rtol=0, atol=1e-4)


def test_yarn_leaves_fast_waves_and_stretches_slow_ones():
    """Peng et al. 2023: more than `fast` turns are left alone, fewer than `slow` divided, between them falling; scores
    are sharpened by (0.1 ln s + 1)^2."""
    plain = frequencies_of(64, 10000.0)
    found, temper = Rotary(replace(CONFIG, head_size=64, rope_scaling=SCALED["yarn"])).scale(
        64, 10000.0, SCALED["yarn"], 0
    )
    turns, share = 256 * plain / (2 * math.pi), plain / found
    assert share[turns > 32 * 1.4] == pytest.approx(1.0)
    assert share[turns < 1 / 1.4] == pytest.approx(4.0)
    assert (share.diff() >= -1e-6).all()
    assert temper == pytest.approx(0.1 * math.log(4) + 1)


def test_dynamic_stretches_the_slowest_wave_by_what_the_text_is_too_long():
    """Up to the original length nothing; beyond, the slowest wave by s L / L0 - (s - 1) and the fastest by nothing."""
    rotary = Rotary(replace(CONFIG, head_size=32, rope_scaling=SCALED["dynamic"]))
    plain = frequencies_of(32, 10000.0)
    for length, grown in ((1, 1), (16, 1), (32, 5), (64, 13)):
        found, _ = rotary.scale(32, 10000.0, SCALED["dynamic"], length)
        assert (plain / found)[[0, -1]].tolist() == pytest.approx([1, grown], rel=1e-5)


def test_partial_rotation_turns_the_first_channels_alone():
    """rotary_share=0.25 of 32 channels: the first 8 as a head of 8 would be, the others as they came."""
    whole, part = Rotary(replace(CONFIG, head_size=8)), Rotary(replace(CONFIG, head_size=32, rotary_share=0.25))
    x = torch.randn(2, 4, 9, 32, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(9)[None]
    found = part.rotation(positions, torch.float32).turn(x)
    assert torch.equal(found[..., 8:], x[..., 8:])
    assert torch.equal(found[..., :8], whole.rotation(positions, torch.float32).turn(x[..., :8]))
    assert not torch.allclose(found[..., :8], x[..., :8])


# --- what a model can tell ------------------------------------------------------------------------------------------


@pytest.fixture(params=POSITIONS)
def encoder(request):
    """A bidirectional encoder in fp64 with attention far from even, and five tokens twice over for it."""
    config = replace(CONFIG, positions=request.param, causal=False, heads_of=(), norm="layer", residual="post")
    model = Transformer(config).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.5 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    tokens = torch.randint(0, 61, (2, 9), generator=generator)
    return request.param, model, tokens


def alike(one, other):
    return torch.allclose(one, other, rtol=0, atol=1e-10)


@torch.no_grad()
def test_only_without_positions_order_is_lost(encoder):
    """`none`: tokens in another order have the same states in that order; every other scheme tells."""
    name, model, tokens = encoder
    order = torch.tensor([3, 0, 8, 6, 2, 1, 7, 5, 4])
    assert alike(model.hidden(tokens[:, order]), model.hidden(tokens)[:, order]) == (name == "none")


@torch.no_grad()
def test_a_symmetric_bias_cannot_tell_mirror_images(encoder):
    """A text read backwards is the same to `alibi`, which knows distances and no direction, and to `none`."""
    name, model, tokens = encoder
    assert alike(model.hidden(tokens.flip(1)), model.hidden(tokens).flip(1)) == (name in ("none", "alibi"))


@torch.no_grad()
def test_a_causal_model_tells_order_even_without_positions():
    """Who sees whom is an order too: the same tokens in another order give another last state."""
    model = Transformer(replace(CONFIG, positions="none")).double()
    tokens = torch.tensor([[5, 9, 3, 7, 1]])
    swapped = tokens[:, [1, 0, 2, 3, 4]]
    assert not alike(model.hidden(tokens)[:, -1], model.hidden(swapped)[:, -1])
