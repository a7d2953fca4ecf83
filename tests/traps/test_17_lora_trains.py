"""Trap 17: LoRA that silently does not train: with recomputed activations nothing reaches it
(huggingface/transformers#26221, #23170; locuslab/open-unlearning#178), a merge that changes nothing
(microsoft/LoRA#120; huggingface/trl#386), an adapter whose names match nothing (huggingface/peft#1579).

Guard: gradients do not depend on recomputing, every B moves in the first step, merged says what apart and reloaded say,
and a weight that nobody claims is an error.
"""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from instar.adapt import peft
from instar.adapt.lora import attach, counts, freeze, merge, weights_of
from instar.batch import Batch
from instar.config import InputError
from instar.config.options import LoraOptions, TrainOptions
from instar.config.presets import preset
from instar.data.loader import Loader
from instar.hub.files import load_model, save_model
from instar.model.transformer import Transformer
from instar.train.objectives import cross_entropy
from instar.train.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPES = {
    "nano": preset("nano", vocab_size=64, d_model=32, layers=2, heads=4),
    "gpt2": preset("gpt2", vocab_size=64, d_model=32, layers=2, heads=4, max_positions=64),
}
TRAIN = TrainOptions(steps=1, lr=1e-2, warmup=0.0, context=16, weight_decay=0.0)


def rows_of(number):
    return list(torch.randint(0, 64, (number, 17), generator=torch.Generator().manual_seed(2)))


def collate(rows):
    tokens = torch.stack(list(rows))
    return Batch(tokens[:, :-1], tokens[:, 1:])


@pytest.fixture(params=SHAPES)
def adapted(request):
    """A frozen model under a new adapter."""
    model = Transformer(SHAPES[request.param], seed=2)
    attach(model, "sft", LoraOptions(rank=3), seed=1)
    freeze(model, train="sft")
    return model


def trained(model, **changes):
    Trainer(model, cross_entropy, Loader(rows_of(8), collate, batch_rows=8), replace(TRAIN, **changes)).fit()
    return model


def test_recomputing_changes_no_gradient(adapted):
    """Blocks that are given frozen embeddings alone are where gradients were lost: they are the same to 1e-6."""
    found = []
    trained(adapted)  # so that A has a gradient too
    for recompute in (False, True):
        adapted.recompute = recompute
        adapted.zero_grad()
        loss = cross_entropy(adapted.train(), collate(rows_of(4)))
        loss.terms["loss"][0].backward()
        found.append({name: weight.grad for name, weight in weights_of(adapted, "sft").items()})
    for name, gradient in found[0].items():
        assert gradient.abs().max() > 1e-4, name
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-6)


@pytest.mark.parametrize("recompute", [False, True])
def test_every_b_moves_in_the_first_step(adapted, recompute):
    """All of it learns, and nothing else does."""
    before = {name: weight.detach().clone() for name, weight in adapted.named_parameters()}
    own = weights_of(adapted, "sft")
    assert counts(adapted)[0] == sum(weight.numel() for weight in own.values()) > 0
    trained(adapted, recompute=recompute)
    for name, weight in adapted.named_parameters():
        assert torch.equal(weight, before[name]) == (name not in own or name.endswith(".a")), name
    assert all(weight.ne(0).all() for name, weight in own.items() if name.endswith(".b"))


@torch.no_grad()
def test_merged_is_apart_is_reloaded(adapted, tmp_path):
    """What was trained says the same beside the weights, in them, and in a folder; and something else than before."""
    ids = torch.stack(rows_of(2))
    bare = Transformer(adapted.config, seed=2).eval()
    save_model(bare, tmp_path / "base")
    with torch.enable_grad():
        trained(adapted, steps=3)
    said = adapted.eval()(ids)
    assert (said - bare(ids)).abs().max() > 0.01
    peft.write(adapted, "sft", tmp_path / "adapter", peft.Base("base"))
    again = load_model(tmp_path / "base")
    peft.fit(again, "default", peft.read(tmp_path / "adapter"))
    assert torch.equal(again(ids), said)
    merge(adapted)
    torch.testing.assert_close(adapted(ids), said, rtol=0, atol=1e-5)
    save_model(adapted, tmp_path / "merged")
    torch.testing.assert_close(load_model(tmp_path / "merged")(ids), said, rtol=0, atol=1e-5)


def test_names_that_match_nothing_are_an_error(adapted, tmp_path):
    """Story: peft#1579, where the name of the adapter stood twice in each key, and all of it was skipped."""
    peft.write(adapted, "sft", tmp_path, peft.Base("base"))
    path = tmp_path / "adapter_model.safetensors"
    save_file({name.replace(".lora_", ".default.lora_"): t for name, t in load_file(path).items()}, path)
    with pytest.raises(InputError, match=r"unclaimed: .*default\.lora_A\.weight.* and \d+ more"):
        peft.fit(Transformer(adapted.config, seed=2), "default", peft.read(tmp_path))
