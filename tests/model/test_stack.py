"""Blocks in every order, and two stacks of which one reads what the other says."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from instar.batch import View
from instar.config import InputError, ModelConfig
from instar.model.attention import Seen
from instar.model.cache import KVCache
from instar.model.transformer import Transformer

ONE = ModelConfig(vocab_size=41, d_model=16, layers=2, heads=4, max_positions=40, norm="layer", tied=False)
TWO = replace(ONE, encoder_layers=2, start=1, qkv_bias=True, bias=True, mlp="plain")
SCHEMES = ["none", "sinusoidal", "learned", "rotary", "t5", "alibi"]
SOURCES = [[5, 16, 3, 7, 7, 9, 11], [12, 4], [3, 4, 5, 6]]
TARGETS = [[1, 8, 9], [1, 30, 31, 32, 33], [1, 2]]


def make(config, seed=4):
    """fp64; biases, norms and distances too are drawn, so that one left out shows."""
    model = Transformer(config, seed=seed).double().eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return model


def padded(rows, filler):
    """(B, S) and a view of which are real."""
    width = max(map(len, rows))
    keep = torch.tensor([[place < len(row) for place in range(width)] for row in rows])
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows]), View(keep=keep)


def packed(rows):
    """All in one row (1, S), and a view of where each stands and which it is."""
    positions = torch.cat([torch.arange(len(row)) for row in rows])[None]
    segments = torch.cat([torch.full((len(row),), number) for number, row in enumerate(rows)])[None]
    return torch.tensor([[token for row in rows for token in row]]), View(positions=positions, segments=segments)


def near(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


# --- blocks ---------------------------------------------------------------------------------------------------------

# What each order does with attention a, cross-attention c and feed-forward layer f, whose norms are n(.) and m(.).
BY_HAND = {
    "pre": lambda x, parts: [x := x + f(n(x)) for n, m, f in parts][-1],
    "post": lambda x, parts: [x := n(x + f(x)) for n, m, f in parts][-1],
    "inside": lambda x, parts: [x := x + n(f(x)) for n, m, f in parts][-1],
    "both": lambda x, parts: [x := x + m(f(n(x))) for n, m, f in parts][-1],
    "none": lambda x, parts: [x := f(n(x)) for n, m, f in parts][-1],
    "parallel": lambda x, parts: x + sum(f(n(x)) for n, m, f in parts),
}


@pytest.mark.parametrize("crossed", [False, True], ids=["one stack", "with a source"])
@pytest.mark.parametrize("order", BY_HAND)
@torch.no_grad()
def test_blocks_are_joined_as_their_order_says(order, crossed):
    """Attention, attention to the source, feed-forward layer, each with its norms: against the formula."""
    if crossed and order == "parallel":
        with pytest.raises(InputError, match="no place for attention to a source"):
            replace(TWO, residual=order)
        return
    block = make(replace(TWO if crossed else ONE, residual=order)).blocks[1]
    x, memory = torch.randn(2, 2, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    parts = [(block.attention_norm, block.attention_after, lambda y: block.attention(y, y, Seen(), None))]
    if crossed:
        parts.append((block.cross_norm, block.cross_after, lambda y: block.cross(y, memory, Seen(), None)))
    parts.append((block.feed_forward_norm, block.feed_forward_after, block.feed_forward))
    near(block(x, Seen(), None, memory if crossed else None), BY_HAND[order](x, parts))


@pytest.mark.parametrize("order", BY_HAND)
def test_norms_stand_only_where_the_order_uses_them(order):
    """Norms behind are of `both` alone, and after the last block there is one unless each sum was normed."""
    model = Transformer(replace(ONE, residual=order))
    assert isinstance(model.blocks[0].attention_after, nn.Identity) == (order != "both")
    assert isinstance(model.norm, nn.Identity) == (order == "post")
    assert not isinstance(model.blocks[0].feed_forward_norm, nn.Identity)


def test_the_first_norm_can_be_left_out():
    """first_norm=False: of the first block's attention alone."""
    blocks = Transformer(replace(ONE, first_norm=False)).blocks
    assert isinstance(blocks[0].attention_norm, nn.Identity)
    assert not isinstance(blocks[0].feed_forward_norm, nn.Identity)
    assert not isinstance(blocks[1].attention_norm, nn.Identity)


@torch.no_grad()
def test_what_is_added_to_the_embeddings():
    """Token types, then the norm of the embeddings; without types in the view all are of the first."""
    model = make(replace(ONE, token_types=3, embed_norm=True, positions="learned"))
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tokens, types = torch.tensor([[5, 9, 3]]), torch.tensor([[0, 2, 1]])
    for view, said in ((View(types=types), types), (None, torch.zeros_like(types))):
        model(tokens, view=view)
        plain = model.embed.weight[tokens] + model.positions.weight[:3] + model.types.weight[said]
        near(seen.pop(), model.embed_norm(plain))


# --- an encoder and a decoder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", SCHEMES)
@torch.no_grad()
def test_padding_of_the_source_changes_nothing(positions):
    """Ragged sources side by side give what each gives alone, and what stands in their padding reaches nobody."""
    model = make(replace(TWO, positions=positions))
    tokens = torch.tensor([[1, 8, 9]] * 3)
    alone = torch.cat([model(tokens[:1], source=torch.tensor([source])) for source in SOURCES])
    (source, view), (other, _) = padded(SOURCES, 13), padded(SOURCES, 40)
    found = model(tokens, source=source, source_view=view)
    near(found, alone)
    assert torch.equal(found, model(tokens, source=other, source_view=view))
    near(model.encode(source, view)[1, :2], model.encode(torch.tensor(SOURCES[1:2]))[0])
    assert (found - model(tokens, source=source)).abs().max() > 1e-3  # without a view padding is read


@torch.no_grad()
def test_shared_keys_of_a_padded_source_by_either_way():
    """Fewer keys than queries, with scores in memory (as a cap needs them) and without: one mask for all queries."""
    fused, plain = make(replace(TWO, kv_heads=2)), make(replace(TWO, kv_heads=2, score_cap=1e9))
    tokens, (source, view) = torch.tensor([[1, 8, 9]] * 3), padded(SOURCES, 13)
    near(plain(tokens, source=source, source_view=view), fused(tokens, source=source, source_view=view))


@pytest.mark.parametrize("positions", SCHEMES)
@torch.no_grad()
def test_packed_pairs_are_single_pairs(positions):
    """Three pairs in one row of sources and one of targets: each target sees its own source alone."""
    model = make(replace(TWO, positions=positions))
    (source, source_view), (tokens, view) = packed(SOURCES), packed(TARGETS)
    found = model(tokens, view=view, source=source, source_view=source_view)
    alone = [model(torch.tensor([t]), source=torch.tensor([s])) for s, t in zip(SOURCES, TARGETS)]
    near(found, torch.cat(alone, dim=1))
    blind = View(positions=source_view.positions)
    assert (found - model(tokens, view=view, source=source, source_view=blind)).abs().max() > 1e-3


@torch.no_grad()
def test_packed_pairs_beside_padding():
    """Segments and padding of a source are both kept."""
    model = make(TWO)
    (source, source_view), (tokens, view) = packed(SOURCES), packed(TARGETS)
    found = model(tokens, view=view, source=source, source_view=source_view)
    longer = torch.cat((source, torch.tensor([[13, 13]])), dim=1)
    padded_view = View(
        positions=torch.cat((source_view.positions, torch.tensor([[0, 1]])), dim=1),
        segments=torch.cat((source_view.segments, torch.tensor([[2, 2]])), dim=1),
        keep=torch.arange(15)[None] < 13,
    )
    near(model(tokens, view=view, source=longer, source_view=padded_view), found)


@pytest.mark.parametrize("positions", SCHEMES)
@torch.no_grad()
def test_cross_keys_are_made_once_and_are_those_made_anew(positions):
    """Token by token with a cache: every logit as in one pass, and the source's keys are products of the first step."""
    model = make(replace(TWO, positions=positions))
    tokens = torch.randint(0, 41, (3, 8), generator=torch.Generator().manual_seed(3))
    source, view = padded(SOURCES, 13)
    wanted = model(tokens, source=source, source_view=view)
    made = []
    for block in model.blocks:
        for part in (block.cross.k, block.cross.v):
            part.register_forward_hook(lambda *_: made.append(1))
    cache = KVCache(model.config, 3, 8, source_capacity=7, dtype=torch.float64)
    found = [model(tokens[:, :1], source=source, source_view=view, cache=cache)]
    found += [model(tokens[:, place : place + 1], cache=cache) for place in range(1, 8)]
    near(torch.cat(found, dim=1), wanted)
    assert len(made) == 2 * model.config.layers


@torch.no_grad()
def test_the_encoder_looks_both_ways_and_the_decoder_back():
    """The first state of a source depends on its last token, the first of a target does not; it does on the source."""
    model = make(TWO)
    source, tokens = torch.tensor([SOURCES[0]]), torch.tensor([TARGETS[1]])
    other, changed = source.clone(), tokens.clone()
    other[0, -1], changed[0, -1] = 20, 20
    assert not torch.allclose(model.encode(source)[0, 0], model.encode(other)[0, 0])
    before = model(tokens, source=source)
    assert torch.equal(model(changed, source=source)[0, :-1], before[0, :-1])
    assert not torch.allclose(model(tokens, source=other)[0, 0], before[0, 0])


def test_one_embedding_or_two():
    """A source shares the embedding unless it has a vocabulary of its own."""
    shared, own = Transformer(TWO), Transformer(replace(TWO, source_vocab_size=17))
    assert not hasattr(shared.encoder, "embed")
    assert own.encoder.embed.weight.shape == (17, 16)
    shared(torch.tensor([[1, 2]]), source=torch.tensor([[40]]))
    with pytest.raises(IndexError):
        own(torch.tensor([[1, 2]]), source=torch.tensor([[40]]))


def test_a_memory_is_as_good_as_its_source():
    """What encode gives may be handed to every target about it."""
    model = make(TWO)
    source, view = padded(SOURCES, 13)
    tokens = torch.tensor([[1, 8, 9]] * 3)
    with torch.no_grad():
        memory = model.encode(source, view)
        near(
            model.hidden(tokens, memory=memory, source_view=view),
            model.hidden(tokens, source=source, source_view=view),
        )


@torch.no_grad()
def test_a_source_padded_on_the_left_is_refused_by_a_cache():
    """A cache counts the real tokens from the left; padding elsewhere would hide the wrong ones."""
    model = make(TWO)
    cache = KVCache(TWO, 1, 8, source_capacity=4, dtype=torch.float64)
    view = View(keep=torch.tensor([[False, True, True, True]]))
    with pytest.raises(InputError, match="padded on the left or inside"):
        model(torch.tensor([[1]]), source=torch.tensor([[13, 4, 5, 6]]), source_view=view, cache=cache)


@pytest.mark.parametrize("lengths", [(4, 4, 4), (4, 2, 3)])
@torch.no_grad()
def test_a_source_wider_than_its_longest_is_read_to_its_end_by_a_cache(lengths):
    """Story: the cache was given keys of padding beyond the longest source, which even rows then looked at and uneven
    ones broke over."""
    model = make(TWO)
    source = torch.randint(2, 41, (3, 9), generator=torch.Generator().manual_seed(1))
    view = View(keep=torch.arange(9)[None] < torch.tensor(lengths)[:, None])
    tokens = torch.randint(2, 41, (3, 5), generator=torch.Generator().manual_seed(2))
    cache = KVCache(TWO, 3, 5, source_capacity=9, dtype=torch.float64)
    found = [model(tokens[:, :3], source=source, source_view=view, cache=cache)]
    found += [model(tokens[:, place : place + 1], cache=cache) for place in (3, 4)]
    near(torch.cat(found, 1), model(tokens, source=source, source_view=view))


def test_scaled_embeddings_begin_at_the_scale_of_the_stream():
    """Embeddings that are multiplied by the root of D begin smaller by it; what is added to them does not."""
    config = replace(ONE, d_model=64, scaled_embed=True, positions="learned", tied=True)
    model = Transformer(config, seed=1)
    assert model.embed.weight.std().item() == pytest.approx(64**-0.5, rel=0.1)
    assert model.positions.weight.std().item() == pytest.approx(1.0, rel=0.1)
