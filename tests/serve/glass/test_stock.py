"""Models that are loaded when they are asked for, and let go when others need the room."""

import os

import pytest
import torch

from instar.adapt import lora
from instar.adapt.folders import base_of, save_adapter
from instar.config.options import GlassOptions, LoraOptions, ServeOptions
from instar.hub.folders import load
from instar.serve.glass.index import Index
from instar.serve.glass.stock import Stock, stacks
from instar.serve.glass.trouble import Trouble


@pytest.fixture(scope="module")
def root(build, tokenizer, tmp_path_factory):
    root = tmp_path_factory.mktemp("stock")
    for seed, name in enumerate(("one", "two", "three")):
        build(tokenizer, root / name, seed=seed)
    return root


def stock_of(root, budget=2**30, served="one", **more):
    index = Index(ServeOptions(model=str(root / served), glass=GlassOptions(roots=(str(root),))))
    index.refresh()
    settings = {"dtype": torch.float32, "device": torch.device("cpu"), "ward": lambda *_: None, **more}
    return Stock(index, budget=budget, **settings)


def test_a_model_is_loaded_once(root):
    """With its tokenizer, and known by its id."""
    stock = stock_of(root)
    assert stock.loaded == []
    held = stock.get("one")
    assert stock.get("one") is held
    assert stock.loaded == ["one"]
    assert held.tokenizer.encode("a")
    assert held.bytes == sum(x.nbytes for x in held.model.parameters())
    with pytest.raises(Trouble):
        stock.get("four")


def test_the_least_recently_used_gives_way(root):
    """Where the weights of two fit, a third lets one go, of which is told; more than there is room for is 507, and
    lets none go."""
    left = []
    size = stock_of(root).get("one").bytes
    stock = stock_of(root, 2 * size + size // 2, left=left.append)
    one, two = stock.get("one"), stock.get("two")
    stock.get("one")
    stock.get("three")
    assert left == [two]
    assert stock.loaded == ["one", "three"]
    assert stock.get("one") is one
    stock.budget = size // 2
    with pytest.raises(Trouble) as caught:
        stock.get("two")
    assert caught.value.body["error"].items() >= {"code": "memory", "need": size, "budget": size // 2}.items()
    assert stock.loaded == ["one", "three"]


def test_every_block_asks_before_it_computes(root, build, tokenizer):
    """Of the encoder too: its ward is called once for each block of a pass."""
    build(tokenizer, root / "pair", encoder_layers=2, positions="sinusoidal_halves", start=0)
    asked = []
    stock = stock_of(root, ward=lambda block, given: asked.append(block))
    model = stock.get("pair").model
    model.hidden(torch.tensor([[0, 3]]), source=torch.tensor([[1, 2]]))
    assert asked == [block for stack in stacks(model) for block in stack.blocks]
    assert len(asked) == 4


def test_a_model_that_was_trained_meanwhile_is_loaded_anew(root, build, tokenizer):
    """Its files changed, so what was loaded is another model, of which is told."""
    left = []
    build(tokenizer, root / "again", seed=5)
    stock = stock_of(root, left=left.append)
    before = stock.get("again")
    path = build(tokenizer, root / "again", seed=6) / "model.safetensors"
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 10))
    after = stock.get("again")
    assert left == [before]
    assert after is not before
    assert not torch.equal(next(before.model.parameters()), next(after.model.parameters()))


def test_an_adapter_is_on_and_can_be_off(root, tokenizer):
    """With it the model computes something else, within `bare` the same as its base; both are held apart."""
    model, _ = load(root / "one")
    lora.attach(model, "a", LoraOptions(rank=2), seed=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "adapters" in name:
                weight.normal_()
    save_adapter(model, "a", root / "lora", base_of(root / "one"), tokenizer)
    stock, tokens = stock_of(root), torch.tensor([[1, 2, 3]])
    base, held = stock.get("one"), stock.get("one", "lora")
    assert held is not base
    assert stock.get("one", "lora") is held
    assert stock.loaded == ["lora", "one"]
    with torch.no_grad():
        plain, adapted = base.model.hidden(tokens), held.model.hidden(tokens)
        with held.bare():
            assert torch.allclose(held.model.hidden(tokens), plain, atol=1e-6)
    assert not torch.allclose(plain, adapted, atol=1e-2)
    with base.bare():
        assert torch.equal(base.model.hidden(tokens), plain)
    with pytest.raises(Trouble):
        stock.get("two", "lora")


def test_a_folder_without_a_tokenizer_is_a_model_all_the_same(root, build, tokenizer):
    """It reads ids."""
    folder = build(tokenizer, root / "bare")
    (folder / "tokenizer.json").unlink()
    assert stock_of(root).get("bare").tokenizer is None
