"""Our own layout holds the shapes that no family of transformers has."""

import pytest
import torch

from instar.config import ModelConfig
from instar.hub.families import layout_of
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
