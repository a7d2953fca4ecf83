"""Tiny models made by transformers, in which every detail of a family shows."""

import pytest
import torch

NO_ENDS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
LIKE_LLAMA = NO_ENDS | dict(
    vocab_size=61, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=48, max_position_embeddings=64, rms_norm_eps=1e-5,
)  # fmt: skip
LIKE_BART = dict(
    vocab_size=61, d_model=32, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=4,
    encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64, pad_token_id=0, bos_token_id=None,
    eos_token_id=None, decoder_start_token_id=2, forced_eos_token_id=None, activation_function="relu",
)  # fmt: skip
LIKE_BERT = dict(
    vocab_size=61, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=64, pad_token_id=1,
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
    "mixtral": LIKE_LLAMA | dict(num_local_experts=4),
    "qwen3_moe": LIKE_LLAMA | dict(head_dim=12, num_experts=5, num_experts_per_tok=3, moe_intermediate_size=20),
    "ernie4_5_moe": LIKE_LLAMA | dict(
        moe_num_experts=5, moe_k=2, moe_intermediate_size=20, moe_num_shared_experts=0, tie_word_embeddings=False,
    ),
    "phi3": LIKE_LLAMA,
    "gpt_neox": NO_ENDS | dict(
        vocab_size=61, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=64,
    ),
    "gpt2": dict(
        vocab_size=61, n_embd=32, n_layer=3, n_head=4, n_positions=64, **NO_ENDS,
    ),
    "bert": LIKE_BERT,
    "roberta": LIKE_BERT | dict(type_vocab_size=1),
    "modernbert": LIKE_BERT | dict(local_attention=8, bos_token_id=None, eos_token_id=None),
    "marian": LIKE_BART | dict(scale_embedding=True),
    "bart": LIKE_BART | dict(activation_function="gelu"),
    "t5": dict(
        vocab_size=61, d_model=32, num_layers=2, num_decoder_layers=3, num_heads=4, d_kv=6, d_ff=48, pad_token_id=0,
        relative_attention_num_buckets=8, relative_attention_max_distance=12, decoder_start_token_id=2,
        eos_token_id=None,
    ),
}  # fmt: skip


def blend(model, tokens, **besides):
    """Weights anew, biases and norms too, so that the stream has unit scale and the logits a standard deviation of 1:
    at the usual initial size logits are so small that a wrong detail hides. besides: what the model reads too."""
    generator = torch.Generator().manual_seed(1)
    gemma = model.config.model_type.startswith("gemma")  # norms are stored as what they are more than one
    one = 0.0 if gemma else 1.0
    scaled = gemma or getattr(model.config, "scale_embedding", False)
    with torch.no_grad():
        for name, bias in model.named_buffers():
            if name == "final_logits_bias":
                bias.copy_(0.3 * torch.randn(bias.shape, generator=generator))
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if not weight.requires_grad and "correction" not in name:  # sines
                continue
            if weight.ndim == 1:
                scales = ("norm" in name.lower() or "ln_" in name) and name.endswith("weight")
                weight.copy_(0.3 * noise + (one if scales else 0.0))
            else:
                embeds = any(word in name for word in ("embed", "wte", "wpe", "shared", "relative"))
                size = model.config.hidden_size**0.5
                weight.copy_((noise / size if scaled else noise) if embeds else 1.5 * noise / size)
            if name.endswith("Attention.q.weight"):  # a T5 has this root in its queries
                weight /= model.config.d_kv**0.5
        if heads := [module for name, module in model.named_modules() if name in ENDS]:
            return _with_unit_outputs(model, tokens, heads[0], **besides)
        body = model.base_model
        if model.config.is_encoder_decoder:
            body = model.get_decoder()
            body = body.layers[-1] if hasattr(body, "layers") else body
        last = next(getattr(body, name) for name in ("ln_f", "final_layer_norm", "norm") if hasattr(body, name))
        for _ in range(20):  # a cap makes it a matter of several rounds
            std = model(tokens, **besides).logits.std()
            for weight in last.parameters():
                weight.copy_((weight + 1 - one) / std - 1 + one)
    return model


# what the outputs of encoders are linear in, bias and all
ENDS = (
    "cls.predictions.transform.LayerNorm", "lm_head.layer_norm", "head.norm", "classifier", "classifier.out_proj",
    "classification_head.out_proj",
    "encoder.layer.2.output.LayerNorm", "final_norm",
)  # fmt: skip


def output(said):
    """What a model of transformers answers: logits, or without a head its states."""
    return said.logits if "logits" in said else said.last_hidden_state


def _with_unit_outputs(model, tokens, last, **besides):
    for _ in range(20):
        std = output(model(tokens, **besides)).std()
        for weight in last.parameters():
            weight /= std
    return model


@pytest.fixture(scope="session")
def tokens():
    """Two rows of 24 tokens."""
    return torch.randint(0, 61, (2, 24), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="session")
def foreign_shapes():
    """family -> what its config is made with."""
    return SHAPES


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


LENGTHS = (11, 4, 8)


@pytest.fixture(scope="session")
def pair():
    """Three sources (B, S) that end in 52, which of their tokens are real, and what is said of them so far (B, T)."""
    generator = torch.Generator().manual_seed(5)
    keep = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    source = torch.randint(3, 52, keep.shape, generator=generator).masked_fill(~keep, 0)
    source[range(len(keep)), keep.sum(1) - 1] = 52
    tokens = torch.randint(3, 61, (len(keep), 9), generator=generator)
    tokens[:, 0] = 2
    return source, keep, tokens


@pytest.fixture
def written_pair(pair, tmp_path):
    """make(architecture, **changes) -> the folder that transformers writes for an encoder-decoder, and the model."""
    transformers = pytest.importorskip("transformers")
    source, keep, tokens = pair

    def make(architecture, **changes):
        family = next(family for family in ("marian", "bart", "t5") if architecture.lower().startswith(family))
        config = transformers.AutoConfig.for_model(family, **SHAPES[family] | changes)
        config._attn_implementation = "eager"
        model = getattr(transformers, architecture)(config).eval()
        if changes.get("tie_word_embeddings") is False:  # transformers 5 ties a T5's head in every case
            model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
        more = {} if "Classification" in architecture else {"decoder_input_ids": tokens}
        blend(model, source, attention_mask=keep.long(), **more)
        model.save_pretrained(tmp_path)
        return tmp_path, model

    return make


@pytest.fixture(scope="session")
def text():
    """Three texts, padded on the right: their tokens, which of them are real, and of which part of the text (B, T)."""
    generator = torch.Generator().manual_seed(5)
    keep = torch.arange(24) < torch.tensor([24, 9, 17])[:, None]
    tokens = torch.randint(3, 61, keep.shape, generator=generator).masked_fill(~keep, 1)
    types = torch.randint(0, 2, keep.shape, generator=generator).masked_fill(~keep, 0)
    return tokens, keep, types


def _asked(model, text):
    tokens, keep, types = text
    asked = dict(input_ids=tokens, attention_mask=keep.long())
    return asked | (dict(token_type_ids=types) if getattr(model.config, "type_vocab_size", 0) > 1 else {})


@pytest.fixture(scope="session")
def said(text):
    """said(model) -> what an encoder of transformers says of the three texts."""
    return torch.no_grad()(lambda model: output(model(**_asked(model, text))))


@pytest.fixture
def written_encoder(text, tmp_path):
    """make(architecture, **changes) -> the folder that transformers writes for an encoder, and the model."""
    transformers = pytest.importorskip("transformers")

    def make(architecture, **changes):
        family = architecture.partition("For")[0].removesuffix("Model").lower()
        config = transformers.AutoConfig.for_model(family, **SHAPES[family] | changes)
        config._attn_implementation = "eager"
        model = getattr(transformers, architecture)(config).eval()
        asked = _asked(model, text)
        blend(model, asked.pop("input_ids"), **asked)
        model.save_pretrained(tmp_path)
        return tmp_path, model

    return make
