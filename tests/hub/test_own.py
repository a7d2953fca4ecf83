"""Our own layout holds the shapes that no family of transformers has."""

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.config.presets import preset
from instar.hub.families import config_from_hf, config_to_hf, layout_of
from instar.hub.files import load_model, save_model
from instar.model.transformer import Transformer

SHAPES = {
    "encoder-decoder": dict(encoder_layers=1, positions="sinusoidal", qk_norm=True, tied=False, start=3),
    "encoder": dict(causal=False, heads_of=("masked",), qk_norm=True, tied=False),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_written_is_read(tmp_path, shape):
    """Story: an encoder-decoder of a recipe was trained and saved, and its measurement then refused the folder, whose
    config.json says twice what decoding begins with."""
    config = ModelConfig(vocab_size=64, d_model=16, layers=1, heads=2, **SHAPES[shape])
    assert layout_of(config).architecture == "InstarTransformer"
    model = Transformer(config, seed=1)
    save_model(model, tmp_path, tokens={"eos_token_id": 1, "pad_token_id": 2})
    loaded = load_model(tmp_path)
    assert loaded.config == config
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name]), name


@pytest.mark.parametrize(
    "changes",
    [
        dict(dropout=0.2),
        dict(dropout=0.2, attention_dropout=0.1),
        dict(preset="bert-nano", pooling="mean"),
    ],
)
def test_what_training_goes_on_with_survives(changes):
    """Dropout and pooling, for which a family may have no key, are read back, and stand in config.json only then."""
    changes = dict(changes)
    config = preset(changes.pop("preset", "nano"), vocab_size=64, d_model=32, layers=1, heads=2, **changes)
    plain = preset("nano", vocab_size=64, d_model=32, layers=1, heads=2)
    assert config_from_hf(config_to_hf(config)) == config
    assert "instar" in config_to_hf(config)
    assert "instar" not in config_to_hf(plain)


@pytest.mark.parametrize("said", [{"norm": "layer"}, ["dropout"], {"dropout": 2.0}])
def test_a_config_says_nothing_else_beside_its_family(said):
    """What a family computes cannot be changed from beside it."""
    plain = preset("nano", vocab_size=64, d_model=32, layers=1, heads=2)
    with pytest.raises(InputError, match=r"config.json says instar=|dropout=2.0"):
        config_from_hf(config_to_hf(plain) | {"instar": said})
