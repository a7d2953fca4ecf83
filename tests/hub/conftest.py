"""Tiny models made by transformers, in which every detail of a family shows."""

import pytest
import torch

NO_ENDS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
LIKE_LLAMA = NO_ENDS | dict(
    vocab_size=61, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=48, max_position_embeddings=64, rms_norm_eps=1e-5,
)  # fmt: skip
LIKE_GEMMA = LIKE_LLAMA | dict(head_dim=12, sliding_window=5, query_pre_attn_scalar=20)
SHAPES = {
    "llama": LIKE_LLAMA,
    "mistral": LIKE_LLAMA | dict(sliding_window=5),
    "qwen2": LIKE_LLAMA,
    "qwen3": LIKE_LLAMA | dict(head_dim=12),
    "olmo2": LIKE_LLAMA,
    # caps so low that they show
    "gemma2": LIKE_GEMMA | dict(attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "gemma3_text": LIKE_GEMMA | dict(num_hidden_layers=4, layer_types=["sliding_attention", "full_attention"] * 2),
    "gpt2": dict(
        vocab_size=61, n_embd=32, n_layer=3, n_head=4, n_positions=64, **NO_ENDS,
    ),
}  # fmt: skip


def blend(model, tokens):
    """Weights anew, biases and norms too, so that the stream has unit scale and the logits a standard deviation of 1:
    at the usual initial size logits are so small that a wrong detail hides."""
    generator = torch.Generator().manual_seed(1)
    gemma = model.config.model_type.startswith("gemma")  # norms are stored as what they are more than one
    one = 0.0 if gemma else 1.0
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:
                weight.copy_(0.3 * noise + (one if "norm" in name or "ln_" in name else 0.0) * name.endswith("weight"))
            else:
                embeds = "embed" in name or "wte" in name or "wpe" in name
                size = model.config.hidden_size**0.5
                weight.copy_((noise / size if gemma else noise) if embeds else 1.5 * noise / size)
        body = model.base_model
        last = body.ln_f if hasattr(body, "ln_f") else body.norm
        for _ in range(20):  # a cap makes it a matter of several rounds
            std = model(tokens).logits.std()
            for weight in last.parameters():
                weight.copy_((weight + 1 - one) / std - 1 + one)
    return model


@pytest.fixture(scope="session")
def tokens():
    """Two rows of 24 tokens."""
    return torch.randint(0, 61, (2, 24), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="session")
def foreign(tokens):
    """make(family, **changes) -> a model of transformers."""
    transformers = pytest.importorskip("transformers")

    def make(family, **changes):
        config = transformers.AutoConfig.for_model(family, **SHAPES[family] | changes)
        config._attn_implementation = "eager"
        return blend(transformers.AutoModelForCausalLM.from_config(config).eval(), tokens)

    return make


@pytest.fixture
def written(foreign, tmp_path):
    """make(family, **changes) -> the folder that transformers writes for such a model, and the model."""

    def make(family="llama", **changes):
        model = foreign(family, **changes)
        model.save_pretrained(tmp_path)
        return tmp_path, model

    return make
