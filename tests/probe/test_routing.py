"""Where attention moves things: without the sink, by what is moved, through layers, by words, and in small."""

import pytest
import torch

from instar.adapt.lora import attach
from instar.config import InputError, ModelConfig
from instar.config.options import LoraOptions
from instar.model.transformer import Transformer
from instar.probe import routing
from instar.probe.capture import attention_of, capture
from instar.probe.subject import Token

SHAPE = dict(vocab_size=31, d_model=24, heads=4, kv_heads=2, head_size=6, max_positions=64, norm="layer", bias=True,
             qkv_bias=True)  # fmt: skip
TOKENS = torch.randint(0, 31, (2, 11), generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module", params=["decoder", "encoder"])
def trace(request):
    model = Transformer(ModelConfig(**SHAPE, layers=3, causal=request.param == "decoder")).double().eval()
    with torch.no_grad():
        for weight in model.parameters():  # biases too, so that what they do shows
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())).double()
    return capture(model, TOKENS)


def text(*pieces):
    """Tokens whose pieces are a text; None is a control token."""
    tokens, at = [], 0
    for piece in pieces:
        if piece is None:
            tokens.append(Token(0, "<s>", b"", -1, -1))
        else:
            tokens.append(Token(1, piece, piece.encode(), at, at + len(piece)))
            at += len(piece)
    return tokens, "".join(piece for piece in pieces if piece)


def test_a_head_that_leaves_nine_tenths_to_the_sink():
    """Sink correction: a head with 0.9 on the sink and 0.1 on the previous token is 0.10 raw and 1.00 corrected; and
    it is idle only above 0.9."""
    weights = torch.zeros(2, 6, 6)
    for head, share in enumerate((0.9, 0.95)):
        weights[head, :, 0] = share
        for row in range(2, 6):
            weights[head, row, row - 1] = 1 - share
        weights[head, :2, 0] = 1.0  # nothing else before them
    assert weights[0, 2:].diagonal(offset=1).tolist() == pytest.approx([0.1] * 4)
    without = routing.sinkless(weights)
    assert without[0, 2:].diagonal(offset=1).tolist() == [1.0] * 4
    assert without[0].sum(-1).tolist() == [0, 0, 1, 1, 1, 1]
    assert routing.sunk(weights).tolist() == pytest.approx([(1 + 4 * 0.9) / 5, (1 + 4 * 0.95) / 5])
    assert routing.idle(weights).tolist() == [True, True]
    assert routing.idle(torch.eye(6)).tolist() is False


def test_shares_that_nearly_all_go_to_the_sink_keep_their_ratio():
    """1 - A_i0 would have lost its digits: 3 to 1 stays 3 to 1; and what is below any precision is nothing."""
    row = torch.tensor([[1 - 4e-6, 3e-6, 1e-6], [1.0, 1e-9, 1e-9]])
    without = routing.sinkless(row)
    assert without[0].tolist() == pytest.approx([0, 0.75, 0.25], rel=1e-5)
    assert without[1].tolist() == [0, 0, 0]


def test_several_sinks():
    """[CLS] and [SEP] of an encoder: both are left out, both count as sink."""
    weights = torch.tensor([[0.5, 0.1, 0.1, 0.3], [0.4, 0.2, 0.0, 0.4]])
    sinks = torch.tensor([True, False, False, True])
    assert routing.sinkless(weights, sinks).tolist() == [[0, 0.5, 0.5, 0], [0, 1, 0, 0]]
    assert routing.sunk(weights, sinks).item() == pytest.approx(0.8)
    with pytest.raises(InputError, match=r"sinks of shape \(3,\), and the weights have 4 keys"):
        routing.sinkless(weights, sinks[:3])


def test_which_keys_are_sinks():
    """The first of a decoder; elsewhere control tokens, or of ids without a text the first."""
    framed, _ = text(None, "a", "b", None)
    plain, _ = text("a", "b")
    unknown, _ = text(None, None)
    assert routing.sinks_among(framed, causal=True).tolist() == [True, False, False, False]
    assert routing.sinks_among(framed, causal=False).tolist() == [True, False, False, True]
    assert routing.sinks_among(plain, causal=False).tolist() == [True, False]
    assert routing.sinks_among(unknown, causal=False).tolist() == [True, False]


def test_some_heads_at_a_time_are_all_heads(trace):
    """However few exist at once, the weights are the same: of heads that share a key too, or one key
    for all would bring all weights at once."""
    seam = trace.own.attended[1]
    whole = seam.weights()
    for most in (1, 2 * 3 * 11 * 11, 1 << 24):
        parts = list(routing.pieces(seam, most))
        torch.testing.assert_close(torch.cat([part for _, part in parts], dim=1), whole, rtol=0, atol=1e-14)
    assert [part.shape[1] for _, part in routing.pieces(seam, 1)] == [1] * whole.shape[1]


@torch.no_grad()
def brute_norms(seam, attention, heads=4, size=6):
    """The length of A_ij x_j W_V W_O, vector by vector, by the matrices themselves."""
    weights, matrix = seam.weights(), attention.out.weight.unflatten(1, (heads, size))
    found = torch.zeros_like(weights)
    for row, head, query, key in torch.cartesian_prod(*(torch.arange(n) for n in weights.shape)).tolist():
        value = seam.v[row, head // 2, key]
        found[row, head, query, key] = (weights[row, head, query, key] * matrix[:, head] @ value).norm()
    return found


def test_norm_weighted_is_the_length_of_what_is_moved(trace):
    """Against vectors made one by one from the matrices; the bias of the output layer is no part of it."""
    seam, attention = trace.own.attended[0], attention_of(trace.own, 0)
    assert attention.out.bias.abs().min() > 0
    torch.testing.assert_close(
        routing.norm_weighted(seam, attention), brute_norms(seam, attention), rtol=0, atol=1e-12
    )  # fmt: skip


def test_norm_weighted_heeds_an_adapter():
    """What LoRA adds to the output layer is moved too: the lengths are those of the merged matrix."""
    model = Transformer(ModelConfig(**SHAPE, layers=1)).double().eval()
    attach(model, "a", LoraOptions(rank=2, targets=("out",), dropout=0.5))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".b"):
                weight.normal_(generator=torch.Generator().manual_seed(1))
    trace = capture(model, TOKENS[:1])
    seam, attention = trace.own.attended[0], attention_of(trace.own, 0)
    before = brute_norms(seam, attention)
    found = routing.norm_weighted(seam, attention.train())  # dropout of the adapter rests meanwhile
    assert attention.training
    attention.eval()
    (delta,) = attention.out.deltas
    with torch.no_grad():
        attention.out.weight += delta.whole(attention.out.weight)
    assert (found - before).abs().max() > 0.01
    torch.testing.assert_close(found, brute_norms(seam, attention), rtol=0, atol=1e-6)


def test_rollout(trace):
    """Rollout: R_l = (A_l + I) / 2 R_{l-1} with the mean of heads, multiplied out by hand; rows 1 +- 2e-16."""
    rolled = routing.rollout(trace.own)
    assert len(rolled) == 3
    wanted = torch.eye(11).double().expand(2, 11, 11)
    for layer, found in enumerate(rolled):
        mean = trace.own.attended[layer].weights().mean(1)
        wanted = 0.5 * (mean + torch.eye(11).double()) @ wanted
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)
        assert (found.sum(-1) - 1).abs().max() < 1e-14


def test_an_atlas_shows_the_largest_of_what_it_covers(trace):
    """Each point is a maximum; a text shorter than the picture is shown as it is; the sinks can be left out."""
    whole = routing.atlas(trace, px=32)
    assert whole.shape == (3, 4, 11, 11)
    for layer, seam in enumerate(trace.own.attended):
        assert torch.equal(whole[layer], seam.weights()[0])
    tiny = routing.atlas(trace, trace.own, 3)
    assert tiny.shape == (3, 4, 3, 3)
    assert tiny[2, 1, 1, 0].item() == whole[2, 1, 3:8, 0:4].max().item()
    sinks = torch.arange(11) == 0
    assert torch.equal(routing.atlas(trace, px=32, sinks=sinks)[1], routing.sinkless(whole[1], sinks))
    with pytest.raises(InputError, match="px=0"):
        routing.atlas(trace, px=0)
    with pytest.raises(InputError, match="no attention to a source"):
        routing.atlas(trace, which="cross")


def test_a_uniform_row_survives_a_byte():
    """u8 codec: of a row of 512 equal shares the root keeps 0.00186 each, where a linear byte keeps exactly 0."""
    row = torch.full((512,), 1 / 512)
    assert (row * 255).round().max() == 0
    assert routing.decode_shares(routing.encode_shares(row)).tolist() == pytest.approx([0.00186] * 512, abs=5e-6)
    shares = torch.linspace(0, 1, 1001)
    read = routing.decode_shares(routing.encode_shares(shares))
    assert (read - shares).abs().max() < 0.004
    assert read[[0, -1]].tolist() == [0, 1]


def test_by_words():
    """To a word the sum, from a word the mean (Clark et al. 2019), and rows still add up to 1."""
    weights = torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.5, 0.25, 0.25]])
    found = routing.by_words(weights, [(0, 2), (2, 3)], [(0, 1), (1, 3)])
    torch.testing.assert_close(found, torch.tensor([[0.2, 0.8], [0.5, 0.5]]))
    assert found.sum(-1).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("pieces", "wanted"),
    [
        (("The", " do", "g", " bit", "es", "."), ["The", " dog", " bites", "."]),
        ((None, "a", "b", None), ["", "ab", ""]),
        (("小", "狗", "咬", "人", "。"), ["小", "狗", "咬", "人", "。"]),
        (("小狗", "咬", "GP", "T", "4"), ["小狗", "咬", "GPT4"]),
        (("don", "'", "t", " well", "-", "known", "-"), ["don't", " well-known", "-"]),
        ((" ", "w", "ord", "\n", "x"), [" word", "\n", "x"]),
        (("'", "a", "'"), ["'", "a", "'"]),
        (("at", "ten", "tion is", " on", "e"), ["attention is", " one"]),
    ],
)
def test_words(pieces, wanted):
    """Tokens of one word stand together, those of a control token, a mark or a Chinese character alone."""
    tokens, whole = text(*pieces)
    groups = routing.words(tokens, whole)
    assert [whole[max(0, tokens[a].start) : max(0, tokens[b - 1].end)] for a, b in groups] == wanted
    assert [place for a, b in groups for place in range(a, b)] == list(range(len(tokens)))


def test_the_bytes_of_a_character_stand_together():
    """A character that its tokenizer made three tokens is one word."""
    tokens = [Token(1, f"<{n}>", b"x", 0, 1) for n in range(3)] + [Token(1, "人", "人".encode(), 1, 2)]
    assert routing.words(tokens, "咬人") == [(0, 3), (3, 4)]
    assert routing.words([], "") == []
