"""A box with tiny models made by hand, whose operations are called as the worker calls them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instar.config import ModelConfig
from instar.config.options import GlassOptions
from instar.model.transformer import Transformer
from instar.serve.glass.box import Binary, Box
from instar.serve.glass.index import Listed
from instar.serve.glass.ops import OPS
from instar.serve.glass.stock import Held, stacks
from instar.serve.glass.traces import Traces
from instar.serve.glass.trouble import no_such_model
from instar.text.tokenizer import Tokenizer

TEXTS = ["Anna had a red ball. She gave the ball to Tom.\n" * 4, "王明有一个红色的球。球在花园里。\n" * 2]
KINDS = {
    "decoder": dict(kv_heads=2, max_positions=400),
    "other": dict(kv_heads=2),
    "encoder": dict(causal=False, heads_of=("masked",)),
    "pair": dict(encoder_layers=1, kv_heads=2, start=1),
    "ids": dict(),
}


class Models:
    """As Stock, of models that are here already."""

    def __init__(self, held):
        self.held = held

    def get(self, model, adapter=""):
        if (model, adapter) not in self.held:
            raise no_such_model(", ".join(name for name, _ in self.held))
        return self.held[model, adapter]


def tiny(tokenizer, seed, sharp=20, **changes):
    """A model whose logits have a standard deviation above 1."""
    shape = dict(vocab_size=tokenizer.vocab_size, d_model=16, layers=2, heads=4, max_positions=64, tied=False)
    model = Transformer(ModelConfig(**shape | changes), seed=seed).double()
    with torch.no_grad():
        (head,) = (model.heads[name] for name in model.config.heads_of)
        (head if hasattr(head, "weight") else head.out).weight *= sharp
    return model


@pytest.fixture(scope="session")
def splitting():
    """Barely merged, with a mask: a Chinese character is several tokens."""
    return Tokenizer.train(TEXTS, 330, masks=True)


@pytest.fixture
def tiny_of(splitting):
    """tiny_of(kind, seed) -> a model of a kind, with weights of its own."""
    return lambda kind, seed: tiny(splitting, seed, **KINDS[kind])


BOXES = []  # that of the test that runs


def watched(model):
    """With the box's hook on every block, as it is in the worker."""
    for stack in stacks(model):
        for block in stack.blocks:
            block.register_forward_pre_hook(lambda *_: BOXES[-1].check())
    return model


@pytest.fixture(scope="session")
def models(splitting):
    return {name: watched(tiny(splitting, seed, **changes)) for seed, (name, changes) in enumerate(KINDS.items(), 3)}


@pytest.fixture
def box(splitting, models):
    """decoder, other (of other weights), encoder, pair (an encoder-decoder) and ids (without a tokenizer). Whoever
    changes a model changes a copy."""
    held = {
        (name, ""): Held(name, "", model, None if name == "ids" else splitting, Path(name), Listed(name, Path(name)), 0)
        for name, model in models.items()
    }  # fmt: skip
    BOXES[:] = [Box(Models(held), Traces(1 << 26, 900), GlassOptions())]
    return BOXES[0]


@pytest.fixture
def ask(box):
    """ask(operation, name=value) -> what it gives, events as a list."""

    def asked(op, **args):
        reply = OPS[op](box, args)
        return reply if isinstance(reply, dict | Binary) else list(reply)

    return asked


@pytest.fixture
def adapted(box):
    """The decoder with an adapter on, as `Stock` keeps it."""
    from instar.adapt.lora import activate, attach
    from instar.config.options import LoraOptions

    held = box.stock.held["decoder", ""]
    model = tiny(held.tokenizer, 3, **KINDS["decoder"])
    attach(model, "lora", LoraOptions(rank=2), seed=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "adapters" in name:
                weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(len(name)))
    activate(model, "lora")
    watched(model)
    listed = replace(held.listed, adapters={"tuned": Path("tuned")})
    held = replace(held, listed=listed)
    box.stock.held["decoder", ""] = held
    box.stock.held["decoder", "tuned"] = replace(held, adapter="tuned", model=model, more={})
    return model
