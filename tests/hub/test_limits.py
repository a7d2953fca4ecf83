"""What a config.json asks for and we do not compute, or could not build, is told."""

import json

import pytest

from instar.config import InputError, ModelConfig
from instar.hub.families import config_from_hf, config_to_hf
from instar.hub.files import load_model, save_model
from instar.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=64, d_model=32, layers=2, heads=4, qk_norm=True)


@pytest.mark.parametrize("kinds", [["full_attention", "sliding_attention"], 5])
def test_windowed_layers_are_refused(kinds):
    """layer_types asks for windows even where use_sliding_window is false; only full attention is computed."""
    with pytest.raises(InputError, match="layer_types="):
        config_from_hf(config_to_hf(CONFIG) | {"layer_types": kinds})
    assert config_from_hf(config_to_hf(CONFIG) | {"layer_types": ["full_attention"] * 2}) == CONFIG


def test_more_layers_than_weights_are_not_built(tmp_path):
    """A config of a billion layers beside a small file is an error at once, not a machine out of memory."""
    save_model(Transformer(CONFIG), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 10**9}))
    with pytest.raises(InputError, match="too few for the 1000000000 layers"):
        load_model(tmp_path)
