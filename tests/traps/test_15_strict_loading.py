"""Trap 15: lenient loading left weights random, and the loss stuck near 7 or the scores at chance
(jingyaogong/minimind-v#75, #88, torchgeo/torchgeo#4036: zero keys matched, NVIDIA-NeMo/Megatron-Bridge#6032).

Guard: a folder loads whole or not at all, and the error lists every name that is wrong.
"""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from instar.config import InputError
from instar.config.presets import preset
from instar.hub.files import load_model, read_json, save_model, write_json
from instar.model.transformer import Transformer

CONFIG = preset("nano", vocab_size=61, d_model=16, layers=2, heads=2)
Q, UP = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def folder(tmp_path):
    save_model(Transformer(CONFIG), tmp_path)
    return tmp_path


def spoil(folder, change):
    """Change the tensors of a folder, then return the message that loading it gives."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError) as caught:
        load_model(folder)
    return str(caught.value)


def test_missing_weights_are_listed(folder):
    """Two weights that are not there are both named."""
    message = spoil(folder, lambda tensors: (tensors.pop(Q), tensors.pop(UP)))
    assert f"missing: {Q}, {UP}" in message


def test_unclaimed_weights_are_listed(folder):
    """A weight of nobody is named, even where all that is wanted is there."""
    message = spoil(folder, lambda tensors: tensors.update({"model.layers.7.extra.weight": torch.zeros(2)}))
    assert "unclaimed: model.layers.7.extra.weight" in message


def test_misshapen_weights_are_listed(folder):
    """Weights of another shape are all named, with both shapes."""
    message = spoil(folder, lambda tensors: tensors.update({Q: torch.zeros(16, 8), UP: torch.zeros(4)}))
    assert f"{Q} [16, 8], wanted [16, 16]" in message
    assert f"{UP} [4], wanted [" in message


def test_weights_of_another_kind_are_listed(folder):
    """Integers are no weights."""
    assert f"{Q} (I64)" in spoil(folder, lambda tensors: tensors.update({Q: tensors[Q].long()}))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model."])
def test_no_key_matches(folder, prefix):
    """Prefixes that compilers and wrappers leave behind match nothing and say so; nothing loads by chance."""
    message = spoil(folder, lambda t: [t.update({prefix + name: t.pop(name)}) for name in list(t)])
    assert "missing: lm_head.weight" in message
    assert f"unclaimed: {prefix}" in message


def test_config_and_weights_of_two_models(folder):
    """One layer more in the config than in the file is missing, one fewer is unclaimed."""
    data = read_json(folder / "config.json", "") | {"layer_types": None}
    for layers, word in ((3, "missing: model.layers.2"), (1, "unclaimed: model.layers.1")):
        write_json(folder / "config.json", data | {"num_hidden_layers": layers})
        with pytest.raises(InputError, match=word):
            load_model(folder)


def test_wrapped_model_saves_plain_names(tmp_path):
    """Compiling the blocks of a model does not change the names it is saved under."""
    model = Transformer(CONFIG)
    names = set(model.state_dict())
    for block in model.blocks:
        block.forward = torch.compile(block.forward, backend="eager")
    assert set(model.state_dict()) == names
    save_model(model, tmp_path)
    assert torch.equal(load_model(tmp_path).embed.weight, model.embed.weight)


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_reloaded_logits_are_bit_equal(tmp_path, tied):
    """Saved and loaded, a model says exactly what it said."""
    model = Transformer(replace(CONFIG, tied=tied), seed=4).eval()
    save_model(model, tmp_path)
    tokens = torch.randint(0, 61, (2, 20), generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_model(tmp_path)(tokens), model(tokens))
