"""Tiny models in fp64 that say anything, of each shape, and a tokenizer that splits characters."""

import pytest
import torch

from instar.config import ModelConfig
from instar.model.transformer import Transformer
from instar.probe.subject import read, read_ids
from instar.text.tokenizer import Tokenizer

TEXTS = ["Anna had a red ball. She gave the ball to Tom.\n" * 4, "王明有一个红色的球。球在花园里。\n" * 2]
SAYINGS = {
    "decoder": dict(kv_heads=2),
    "windows": dict(windows=(3, 0), positions="alibi"),
    "encoder": dict(causal=False, heads_of=("masked",)),
    "encoder-decoder": dict(encoder_layers=1, kv_heads=2),
}


@pytest.fixture(scope="session")
def splitting():
    """Barely merged, with a mask: a Chinese character or an emoji is several tokens."""
    return Tokenizer.train(TEXTS, 330, masks=True)


@pytest.fixture
def subject_of(splitting):
    """subject_of(shape, text) -> a model with logits of a standard deviation above 1, and a text, for an
    encoder-decoder a target too; or `ids`, with rows for them alone."""

    def make(shape="decoder", text="Anna had a 球", *, ids=None, vocab_size=None, **changes):
        rows = vocab_size or splitting.vocab_size
        more = SAYINGS[shape] | (dict(start=1) if shape == "encoder-decoder" else {}) | changes
        shaped = dict(d_model=16, layers=2, heads=4, max_positions=64, tied=False) | more
        model = Transformer(ModelConfig(vocab_size=rows, **shaped), seed=3).double()
        with torch.no_grad():
            (head,) = (model.heads[name] for name in model.config.heads_of)
            (head if hasattr(head, "weight") else head.out).weight *= 20
        if ids is not None:
            return read_ids(model, ids)
        target = "Anna had a red" if model.encoder is not None else ""
        return read(model, splitting, text, target=target)

    return make


@pytest.fixture
def induction():
    """Two layers in channels of their own, token | position | the token before | what is said: the first writes what
    stood before, the second finds where that was the token of now, and says what stands there."""
    words, places = 24, 32
    config = ModelConfig(
        vocab_size=words, d_model=3 * words + places, layers=2, heads=1, head_size=places, positions="learned",
        max_positions=places, norm="none", tied=False,
    )  # fmt: skip
    model = Transformer(config)
    token, place, before, said = 0, words, words + places, 2 * words + places
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.embed.weight[:, token : token + words] = torch.eye(words)
        model.positions.weight[:, place : place + places] = torch.eye(places)
        one, two = (block.attention for block in model.blocks)
        one.q.weight[:, place : place + places] = 1000 * torch.diag(torch.ones(places - 1), 1)
        one.k.weight[:, place : place + places] = torch.eye(places)
        two.q.weight[:words, token : token + words] = 1000 * torch.eye(words)
        two.k.weight[:words, before : before + words] = torch.eye(words)
        for attention, target in ((one, before), (two, said)):
            attention.v.weight[:words, token : token + words] = torch.eye(words)
            attention.out.weight[target : target + words, :words] = torch.eye(words)
        model.heads["lm"].weight[:, said : said + words] = torch.eye(words)
    return model
