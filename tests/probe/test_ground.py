"""Where positions stand and what order makes of a text, against answers that are known."""

import math

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.model.positions import frequencies_of
from instar.model.transformer import Transformer
from instar.probe.ground import ground, neighbours, order_lab, order_of, plane, reversed_order, shift, toeplitz_gap
from instar.probe.subject import Subject, Token, read_ids
from instar.text.tokenizer import Tokenizer


def born(layers=1, **changes):
    """A tiny model in fp64 with large random weights."""
    shape = dict(vocab_size=23, d_model=16, layers=layers, heads=2, max_positions=32, tied=False)
    model = Transformer(ModelConfig(**shape | changes), seed=1).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return model


def waves(count, size):
    """Sinusoids in fp64, written out (Vaswani et al. 2017, section 3.5)."""
    angles = torch.arange(count, dtype=torch.float64)[:, None] / 10000.0 ** (torch.arange(0, size, 2) / size)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)


def test_products_of_sinusoids_depend_on_the_distance_alone():
    """Sinusoids: PE PE^T is Toeplitz, in fp64 to 1e-12; one vector moved spoils it."""
    pe = waves(64, 32)
    assert toeplitz_gap(pe @ pe.mT) < 1e-12
    assert toeplitz_gap(pe @ pe.mT) == pytest.approx(0, abs=3e-14)
    pe[10] += 0.1
    assert toeplitz_gap(pe @ pe.mT) > 1e-3


def test_three_places_on_is_a_product_with_one_matrix():
    """Sinusoids: PE(p + 3) = PE(p) M for all p with M made of turns; of vectors that are no sinusoids there is none."""
    pe = waves(64, 32)
    matrix, gap = shift(pe, 3)
    assert gap < 1e-13
    torch.testing.assert_close(pe[:61] @ matrix, pe[3:])
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(32, dtype=torch.float64))
    assert shift(torch.randn(64, 32, generator=torch.Generator().manual_seed(1)), 3)[1] > 0.1


@pytest.mark.parametrize(("positions", "pairs", "limit"), [
    ("sinusoidal", "neighbours", 1e-5), ("sinusoidal_halves", "halves", 1e-5), ("sinusoidal_t2t", "halves", 1e-5),
    ("rotary", "halves", 1e-12),
])  # fmt: skip
def test_the_models_own_waves_are_such_sinusoids(positions, pairs, limit):
    """Every scheme of turns, as the model computes it: Toeplitz and with a matrix for any offset, to its precision."""
    found = ground(born(positions=positions), 32)
    assert found.what == "products"
    assert found.unevenness < limit
    for offset in (1, 3, 7):
        assert shift(found.vectors, offset, pairs)[1] < limit
    if positions == "sinusoidal":
        torch.testing.assert_close(found.vectors, waves(32, 16), atol=1e-5, rtol=0)


def test_the_curve_of_rotary_positions_is_the_mean_cosine():
    """A vector of equal pairs and itself, o places on: the mean of cos(o f) over the frequencies f."""
    model = born(positions="rotary")
    curve = ground(model, 8).curve
    wanted = (torch.arange(-7, 8)[:, None] * frequencies_of(8, 10000.0).double()).cos().mean(1)
    torch.testing.assert_close(curve[0], wanted)
    windows = born(2, positions="rotary", windows=(4, 0), window_theta=10.0)
    assert not torch.allclose(ground(windows, 8, window=True).curve, ground(windows, 8).curve)


def test_biases_are_maps_of_each_head():
    """ALiBi: each head falls by its slope a place on both sides; T5: each distance has its bucket's number."""
    alibi = ground(born(positions="alibi"), 6)
    assert alibi.maps.shape == (2, 6, 6)
    torch.testing.assert_close(alibi.curve[0], -(2.0**-4) * torch.arange(-5, 6, dtype=torch.float64).abs())
    model = born(positions="t5", relative_buckets=8, relative_distance=16)
    found = ground(model, 6)
    torch.testing.assert_close(found.maps[:, 3, 2], model.positions.weight[1].detach())
    assert found.unevenness == 0


def test_learned_positions_are_compared_by_their_direction():
    """Cosines, 1 with itself; no distance alone decides; and no more places than were learned."""
    found = ground(born(positions="learned"), 12)
    torch.testing.assert_close(found.maps[0].diagonal(), torch.ones(12, dtype=torch.float64))
    assert found.unevenness > 0.1
    assert ground(born(positions="none"), 5).what == "none"
    with pytest.raises(InputError, match="count=40 places, wanted 1 to 32"):
        ground(born(positions="learned"), 40)


def orders(model, source=False):
    """A sentence of four tokens and its mirror, both with the same end."""
    one, other = [5, 9, 11, 2], [11, 9, 5, 2]
    return order_of(*(read_ids(model, [3], ids) if source else read_ids(model, ids) for ids in (one, other)))


def test_one_causal_layer_without_positions_cannot_tell_order():
    """Order lab: the last state is identical, since its one softmax is over a set."""
    lab = orders(born(1, positions="none"))
    assert lab.reordered
    assert lab.told.apart < 1e-14
    assert lab.untold.apart < 1e-14
    assert lab.untold.same_answer


def test_two_layers_without_positions_can():
    """Order lab: the mask leaks order, for the states below differ in what they have seen."""
    lab = orders(born(2, positions="none"))
    assert lab.untold.apart_at_first < 1e-14
    assert lab.untold.apart > 1e-2


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary", "learned", "alibi", "t5"])
def test_positions_tell_order_in_one_layer(positions):
    """Order lab: with positions one layer tells, of every scheme, and without them no longer."""
    lab = orders(born(1, positions=positions))
    assert lab.told.apart > 1e-2
    assert lab.untold.apart < 1e-14
    assert lab.told.kl > 1e-6
    assert abs(lab.untold.kl) < 1e-12


@pytest.mark.parametrize("shape", [{"causal": False, "heads_of": ("masked",)}, {"encoder_layers": 2, "start": 3}])
def test_without_a_mask_no_depth_tells_order(shape):
    """An encoder, and what a decoder says of a source, know order by positions alone, however deep they are."""
    lab = orders(born(3, positions="sinusoidal", **shape), source="encoder_layers" in shape)
    assert lab.reordered
    assert lab.told.apart > 1e-2
    assert lab.untold.apart < 1e-13


def test_order_is_told_of_texts_too():
    """狗咬人。 and 人咬狗。, by a tokenizer whose tokens are characters; other words are no other order."""
    tokenizer = Tokenizer.train(["狗咬人。人咬狗。"] * 4, 256 + 24)
    model = born(1, vocab_size=tokenizer.vocab_size, positions="sinusoidal", heads_of=("score",))
    lab = order_lab(model, tokenizer, "狗咬人。", "人咬狗。")
    assert lab.told.apart > 1e-3
    assert lab.told.top == ([], [])
    assert math.isnan(lab.told.kl)
    assert not order_lab(model, tokenizer, "狗咬人。", "狗咬狗。").reordered
    assert lab.reordered == (len(lab.one.tokens) == len(lab.other.tokens))


def test_words_are_turned_and_what_is_none_stays():
    """The dog bit a man. -> man a bit dog The. with the control tokens and the full stop in their places."""
    spelt = ["<s>", "The", " d", "og", " bit", " a", " man", ".", "</s>"]
    spans = [(-1, -1), (0, 3), (3, 5), (5, 7), (7, 11), (11, 13), (13, 17), (17, 18), (-1, -1)]
    tokens = tuple(Token(n, piece, b"", *span) for n, (piece, span) in enumerate(zip(spelt, spans)))
    words = [(0, 1), (1, 2), (2, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9)]
    turned = reversed_order(Subject(born(), None, "The dog bit a man.", tokens), words)
    assert turned.pieces == ["<s>", " man", " a", " bit", " d", "og", "The", ".", "</s>"]
    paired = reversed_order(Subject(born(), None, "x", tokens[:1], "The dog bit a man.", tokens), words)
    assert [token.piece for token in paired.source] == turned.pieces
    assert len(paired.tokens) == 1


def test_the_nearest_embeddings_are_found_by_their_direction():
    """A row twice as long is nearest, its opposite the farthest; the token itself is left out."""
    model = born()
    with torch.no_grad():
        model.embed.weight[7] = 2 * model.embed.weight[4]
        model.embed.weight[8] = -model.embed.weight[4]
    found = neighbours(model, 4, 22)
    assert found[0] == (7, pytest.approx(1))
    assert found[-1] == (8, pytest.approx(-1))
    assert len(found) == 22
    with pytest.raises(InputError, match="id=23, wanted 0 to 22"):
        neighbours(model, 23)


def test_a_plane_keeps_distances_of_what_lies_in_it():
    """PCA: points in a plane keep their distances and their variance is explained in full; of scattered ones not."""
    model = born()
    with torch.no_grad():
        model.embed.weight.zero_()
        model.embed.weight[:4, [3, 9]] = torch.tensor([[0.0, 0], [3, 0], [0, 1], [3, 1]], dtype=torch.float64)
    points, shares = plane(model, [0, 1, 2, 3])
    torch.testing.assert_close(torch.cdist(points, points)[0], torch.tensor([0, 3, 1, 10**0.5]).double())
    torch.testing.assert_close(shares, torch.tensor([0.9, 0.1]).double())
    assert plane(born(), list(range(20)))[1].sum() < 0.9
    alone, none = plane(born(), [5])
    assert alone.tolist() == [[0, 0]]
    assert none.tolist() == [0, 0]


def test_values_that_drift_along_a_diagonal_are_uneven():
    """Sinusoids: each neighbour a little more than the one before, and the ends far apart."""
    drift = torch.arange(50.0).expand(50, 50) * 1e-3 + 1
    assert toeplitz_gap(drift) == pytest.approx(0.049 / 1.049, rel=1e-4)
    assert toeplitz_gap(torch.zeros(3, 3)) == 0
