"""Trap 16: a tied head that is not the embedding any more: re-randomised by a resize (huggingface/transformers#45079),
left out of a loader (vllm-project/vllm#6758), babbling after export (Lightning-AI/litgpt#1762).

Guard: head and embedding are one tensor in memory, one in the file, and one again after loading.
"""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from instar.config.presets import preset
from instar.hub.files import load_model, save_model
from instar.model.transformer import Transformer

SHAPES = {
    "nano": replace(preset("nano", vocab_size=64, d_model=32, layers=2, heads=4), tied=True),
    "llama": replace(preset("nano", vocab_size=64, d_model=32, layers=2, heads=4), tied=True, qk_norm=False),
    "gpt2": preset("gpt2", vocab_size=64, d_model=32, layers=2, heads=4, max_positions=64),
}


@pytest.fixture(params=SHAPES)
def model(request):
    return Transformer(SHAPES[request.param], seed=2).eval()


@pytest.fixture
def tokens():
    return torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(0))


def one(model):
    """Head and embedding are the same parameter in the same memory."""
    head, embedding = model.heads["lm"].weight, model.embed.weight
    return head is embedding and head.data_ptr() == embedding.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_storage_after_building_casting_and_loading(model, tmp_path, dtype):
    """New, cast, saved and loaded: always one."""
    assert one(model)
    assert one(model.to(dtype))
    save_model(model, tmp_path)
    assert one(load_model(tmp_path, dtype=dtype))


def test_saved_once(model, tmp_path):
    """The file holds one of the two, and as many numbers as the model has weights."""
    save_model(model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in stored
    assert sum(tensor.numel() for tensor in stored.values()) == model.size()


def test_step_after_loading_moves_both(model, tmp_path, tokens):
    """An optimizer sees one parameter, and its step moves embedding and head together."""
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert len(list(again.parameters())) == len({weight.data_ptr() for weight in again.parameters()})
    before = again.embed.weight.detach().clone()
    again(tokens).square().mean().backward()
    torch.optim.SGD(again.parameters(), lr=1.0).step()
    assert not torch.equal(again.embed.weight, before)
    assert torch.equal(again.heads["lm"].weight, again.embed.weight)
    assert one(again)


@torch.no_grad()
def test_export_says_the_same(model, tmp_path, tokens):
    """transformers ties the two as well, and its logits are ours to 1e-5."""
    auto = pytest.importorskip("transformers").AutoModelForCausalLM
    model.norm.weight /= model(tokens).std()
    save_model(model, tmp_path)
    theirs = auto.from_pretrained(tmp_path).eval()
    assert theirs.lm_head.weight.data_ptr() == theirs.get_input_embeddings().weight.data_ptr()
    torch.testing.assert_close(model(tokens), theirs(tokens).logits, rtol=0, atol=1e-5)


def test_untied_stays_two(tmp_path):
    """tied=False: two tensors in memory and in the file, which differ."""
    model = Transformer(replace(SHAPES["nano"], tied=False))
    save_model(model, tmp_path)
    stored, again = load_file(tmp_path / "model.safetensors"), load_model(tmp_path)
    assert not one(again)
    assert not torch.equal(stored["lm_head.weight"], stored["model.embed_tokens.weight"])
    assert torch.equal(again.heads["lm"].weight, model.heads["lm"].weight)
