"""Models of transformers in many families, ours read from the same folder, and adapters that are no longer zero."""

import pytest
import torch

SMALL = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
LIKE_LLAMA = SMALL | dict(
    vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=48, max_position_embeddings=64,
)  # fmt: skip
# the family of transformers and what its config says besides
SHAPES = {
    "llama": LIKE_LLAMA,
    "qwen2": LIKE_LLAMA | dict(tie_word_embeddings=True),
    "qwen3": LIKE_LLAMA | dict(head_dim=12),
    "gpt2": SMALL | dict(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "phi3": LIKE_LLAMA | dict(rope_parameters=dict(rope_type="default", partial_rotary_factor=0.5)),
    "gpt_neox": SMALL | dict(
        vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=64,
    ),
    "mixtral": LIKE_LLAMA | dict(num_local_experts=4),
    "qwen3_moe": LIKE_LLAMA | dict(head_dim=12, num_experts=5, num_experts_per_tok=3, moe_intermediate_size=20),
}  # fmt: skip


@pytest.fixture(scope="session")
def tokens():
    """Two rows of 20 tokens."""
    return torch.randint(0, 61, (2, 20), generator=torch.Generator().manual_seed(5))


@pytest.fixture
def theirs(tmp_path):
    """make(family, auto, **changes) -> a model of transformers with weights that are not small, and its folder."""
    transformers = pytest.importorskip("transformers")

    def make(family, auto="AutoModelForCausalLM", **changes):
        config = transformers.AutoConfig.for_model(family, **SHAPES[family] | changes)
        config._attn_implementation = "eager"
        model = getattr(transformers, auto).from_config(config).eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.copy_(torch.randn(weight.shape, generator=generator) * 1.2 / weight.shape[-1] ** 0.5)
        folder = tmp_path / f"base-{family}"
        model.save_pretrained(folder)
        return model, folder

    return make


@torch.no_grad()
def stir(weights, seed=3):
    """Random values in the place of an adapter's, so that it says something."""
    generator = torch.Generator().manual_seed(seed)
    for weight in weights:
        weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))


@pytest.fixture(name="stir")
def _stir():
    return stir
