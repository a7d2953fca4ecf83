"""Every family computes what transformers computes, and what we write transformers reads."""

import json
from dataclasses import replace

import pytest
import torch

from instar.config import InputError, ModelConfig, RopeScaling
from instar.config.presets import preset
from instar.hub.families import FAMILIES, config_from_hf, config_to_hf, family_of
from instar.hub.files import load_model, save_model
from instar.model.transformer import Transformer

LLAMA3 = dict(
    rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=16,
)  # fmt: skip
LINEAR = dict(rope_type="linear", rope_theta=500.0, factor=2.5)
GEMMA3 = {
    "sliding_attention": dict(rope_type="default", rope_theta=50.0),
    "full_attention": dict(rope_type="default", rope_theta=900.0),
}
CASES = {
    "llama2": ("llama", {}),
    "llama2 tied": ("llama", dict(tie_word_embeddings=True)),
    "llama with biases": ("llama", dict(attention_bias=True, mlp_bias=True)),
    "llama with wide heads and gelu": ("llama", dict(head_dim=12, hidden_act="gelu", num_key_value_heads=1)),
    "llama3": ("llama", dict(rope_parameters=LLAMA3)),
    "llama linear": ("llama", dict(rope_parameters=LINEAR)),
    "qwen3": ("qwen3", dict(rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "qwen3 tied": ("qwen3", dict(tie_word_embeddings=True)),
    "smollm": ("llama", dict(num_attention_heads=3, num_key_value_heads=1, hidden_size=36, tie_word_embeddings=True)),
    "mistral": ("mistral", {}),
    "mistral without windows": ("mistral", dict(sliding_window=None)),
    "qwen2": ("qwen2", {}),
    "qwen2 with windows": ("qwen2", dict(use_sliding_window=True, sliding_window=5, max_window_layers=1)),
    "qwen3 with windows": ("qwen3", dict(use_sliding_window=True, sliding_window=5, max_window_layers=2)),
    "olmo2": ("olmo2", {}),
    "gemma2": ("gemma2", {}),
    "gemma2 untied": ("gemma2", dict(tie_word_embeddings=False, attn_logit_softcapping=None)),
    "gemma3": ("gemma3_text", dict(rope_parameters=GEMMA3)),
    "gemma3 stretched": ("gemma3_text", dict(rope_parameters=GEMMA3 | {"full_attention": LINEAR})),
    "gpt2": ("gpt2", {}),
    "gpt2 untied": ("gpt2", dict(tie_word_embeddings=False, n_inner=40, activation_function="gelu")),
}


@torch.no_grad()
def same(ours, theirs, tokens):
    """The one check: every logit within 1e-5."""
    return bool(((ours(tokens) - theirs(tokens).logits).abs() <= 1e-5).all())


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_those_of_transformers(written, tokens, case):
    """A folder that transformers wrote gives the same logits, to 1e-5."""
    family, changes = CASES[case]
    folder, theirs = written(family, **changes)
    assert theirs(tokens).logits.std().item() == pytest.approx(1, rel=0.01)
    assert same(load_model(folder), theirs, tokens)


BROKEN = {
    "rope_theta": ("llama2", dict(rope_theta=9000.0)),
    "norm_eps": ("llama2", dict(norm_eps=1e-3)),
    "act": ("llama2", dict(act="gelu")),
    "head count": ("llama2", dict(heads=2, kv_heads=1, head_size=16)),
    "rope scaling off": ("llama3", dict(rope_scaling=RopeScaling())),
    "rope scaling of another kind": ("llama3", dict(rope_scaling=RopeScaling("linear", 4.0))),
    "llama3 bounds": (
        "llama3",
        dict(rope_scaling=RopeScaling("llama3", 4.0, low_factor=1.0, high_factor=3.0, original_positions=16)),
    ),
    "linear factor": ("llama linear", dict(rope_scaling=RopeScaling("linear", 2.0))),
    "qk_norm off": ("qwen3", dict(qk_norm=False)),
    "biases off": ("llama with biases", dict(bias=False, qkv_bias=False)),
    "mistral's window": ("mistral", dict(windows=(6, 6, 6))),
    "mistral's windows off": ("mistral", dict(windows=())),
    "windows of other layers": ("qwen2 with windows", dict(windows=(5, 5, 0))),
    "qwen2's biases off": ("qwen2", dict(qkv_bias=False)),
    "olmo2's norms before": ("olmo2", dict(residual="pre")),
    "olmo2's qk_norm off": ("olmo2", dict(qk_norm_whole=False)),
    "gemma2's norms plain": ("gemma2", dict(norm="rms")),
    "gemma2's score_size": ("gemma2", dict(score_size=12.0)),
    "gemma2's score_cap off": ("gemma2", dict(score_cap=0.0)),
    "gemma2's logit_cap off": ("gemma2", dict(logit_cap=0.0)),
    "gemma2's embeddings as they are": ("gemma2", dict(scaled_embed=False)),
    "gemma2's windows off": ("gemma2", dict(windows=())),
    "gemma3's near layers turn as the far": ("gemma3", dict(window_theta=0.0)),
    "gemma3's qk_norm off": ("gemma3", dict(qk_norm=False)),
    "gemma3's far layers unstretched": ("gemma3 stretched", dict(rope_scaling=RopeScaling())),
    "gelu for its approximation": ("gpt2", dict(act="gelu")),
    "gpt2 norm_eps": ("gpt2", dict(norm_eps=1e-3)),
    "positions off": ("gpt2", dict(positions="none")),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_the_check_can_fail(written, tokens, fault):
    """The same weights under a config with one detail changed are caught by the very same check."""
    case, changes = BROKEN[fault]
    folder, theirs = written(CASES[case][0], **CASES[case][1])
    right = load_model(folder)
    wrong = Transformer(replace(right.config, **changes), seed=None)
    wrong.load_state_dict(right.state_dict(), strict=False)
    assert not same(wrong, theirs, tokens)


GEMMA = dict(norm="rms_one", residual="both", act="gelu_tanh", scaled_embed=True)
OWN = {
    "nano": preset("nano", vocab_size=64, d_model=32, layers=2, heads=4),
    "nano with shared keys": preset("nano", vocab_size=64, d_model=32, layers=2, heads=4, kv_heads=2, head_size=6),
    "llama": ModelConfig(64, 32, 2, 4, tied=True, rope_scaling=RopeScaling("llama3", 4.0, 1.0, 4.0, 16)),
    "llama with biases": ModelConfig(64, 32, 2, 4, tied=False, bias=True, qkv_bias=True, act="relu"),
    "gpt2": preset("gpt2", vocab_size=64, d_model=32, layers=2, heads=4, max_positions=64),
    "mistral": ModelConfig(64, 32, 2, 4, windows=(5, 5)),
    "qwen2": ModelConfig(64, 32, 3, 4, kv_heads=2, qkv_bias=True, windows=(0, 0, 5)),
    "qwen2 without windows": ModelConfig(64, 32, 2, 4, qkv_bias=True),
    "qwen3 with windows": ModelConfig(64, 32, 3, 4, qk_norm=True, windows=(0, 5, 5)),
    "olmo2": ModelConfig(64, 32, 2, 4, tied=False, residual="inside", qk_norm_whole=True),
    "gemma2": ModelConfig(64, 32, 3, 4, windows=(5, 0, 5), score_size=20.0, score_cap=2.0, logit_cap=3.0, **GEMMA),
    "gemma3": ModelConfig(64, 32, 3, 4, windows=(5, 0, 5), score_size=8.0, qk_norm=True, window_theta=50.0, **GEMMA),
}


@torch.no_grad()
def greedy(model, tokens, count):
    """Our model's likeliest continuation, without a cache."""
    for _ in range(count):
        tokens = torch.cat((tokens, model(tokens)[:, -1:].argmax(-1)), dim=1)
    return tokens


@pytest.mark.parametrize("name", OWN)
def test_transformers_reads_what_we_write(tmp_path, tokens, name):
    """AutoModelForCausalLM finds every weight, has the same logits and says the same words."""
    auto = pytest.importorskip("transformers").AutoModelForCausalLM
    ours = Transformer(OWN[name], seed=3).eval()
    with torch.no_grad():
        for weight in ours.parameters():  # biases and norms are 0 and 1 in a new model
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    save_model(ours, tmp_path)
    theirs, told = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert same(ours, theirs, tokens)
    said = theirs.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=12, do_sample=False)
    assert said.tolist() == greedy(ours, tokens, 12).tolist()


@pytest.mark.parametrize("name", OWN)
def test_config_survives_the_way_there_and_back(name):
    """ModelConfig -> config.json -> ModelConfig."""
    data = json.loads(json.dumps(config_to_hf(OWN[name])))
    assert config_from_hf(data) == OWN[name]


@pytest.mark.parametrize("case", CASES)
def test_save_gives_back_every_tensor(written, tmp_path_factory, case):
    """A folder of transformers, loaded and saved, holds bit for bit the weights that it held."""
    from safetensors.torch import load_file

    family, changes = CASES[case]
    folder, _ = written(family, **changes)
    out = tmp_path_factory.mktemp("saved")
    save_model(load_model(folder), out)
    wanted, found = (load_file(path / "model.safetensors") for path in (folder, out))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_old_spellings_of_rotary_frequencies():
    """rope_theta and rope_scaling with `type`, as written before transformers 5, mean the same."""
    new = config_to_hf(OWN["llama"])
    scaling = dict(new["rope_parameters"])
    old = {key: value for key, value in new.items() if key != "rope_parameters"}
    old |= {"rope_theta": scaling.pop("rope_theta")}
    old["rope_scaling"] = {"type": scaling.pop("rope_type"), **scaling}
    assert config_from_hf(old) == OWN["llama"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(architectures=["LlamaForCausalML"]), "did you mean LlamaForCausalLM"),
        (dict(architectures=["MixtralForCausalLM"]), "unknown architecture MixtralForCausalLM"),
        (dict(architectures=None), "unknown architecture llama"),
        (dict(logit_scale=0.5), "logit_scale=0.5, which we do not know"),
        (dict(pretraining_tp=2), "pretraining_tp=2"),
        (dict(hidden_act="swish"), "unknown hidden_act swish"),
        (dict(rope_parameters=dict(rope_type="yarn", factor=4.0)), "unknown rope_type yarn"),
        (dict(rope_parameters=dict(rope_type="default", partial_rotary_factor=0.5)), "partial_rotary_factor"),
        (dict(mlp_bias=True), "mlp_bias"),
        (dict(hidden_size="32"), "d_model: found '32'"),
        (dict(rope_theta="ten", rope_parameters=None), "rope_theta: found 'ten'"),
    ],
)
def test_refuses_what_it_does_not_compute(changes, message):
    """A family, key or value that would be computed wrongly is an error that names it."""
    with pytest.raises(InputError, match=message):
        config_from_hf(config_to_hf(OWN["llama"]) | changes)


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings"])
def test_names_a_missing_key(key):
    """A config.json that lacks a size says which."""
    data = config_to_hf(OWN["llama"])
    del data[key]
    with pytest.raises(InputError, match=f"lacks the key '{key}'"):
        config_from_hf(data)


@pytest.mark.parametrize(
    "changes",
    [
        dict(norm="layer"), dict(residual="post"), dict(positions="learned"), dict(mlp="plain"), dict(causal=False),
        dict(qk_norm=True, bias=True, qkv_bias=True), dict(bias=True), dict(windows=(3, 5, 5, 5)), dict(score_cap=5.0),
        dict(windows=(3, 0, 3, 0)), dict(norm="rms_one"), dict(scaled_embed=True),
    ],
)  # fmt: skip
def test_shapes_of_no_family_are_not_written(changes):
    """What transformers could not compute is refused and told, not written wrongly."""
    with pytest.raises(InputError, match="no known family has"):
        family_of(ModelConfig(vocab_size=64, d_model=32, **changes))


@pytest.mark.parametrize("architecture", FAMILIES)
def test_each_family_claims_one_kind_of_shape(architecture):
    """No config of ours is of two families."""
    held = [[family.architecture for family in FAMILIES.values() if family.holds(shape)] for shape in OWN.values()]
    assert all(len(names) == 1 for names in held)
    assert architecture in {name for names in held for name in names}


BASE = dict(
    vocab_size=61, hidden_size=32, num_hidden_layers=7, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    intermediate_size=48, max_position_embeddings=64, rms_norm_eps=1e-5,
)  # fmt: skip
# The config.json files that the hub holds of these families, whose keys transformers has since renamed or derived.
OLD = {
    "gemma2": dict(
        architectures=["Gemma2ForCausalLM"], model_type="gemma2", hidden_act="gelu_pytorch_tanh", sliding_window=5,
        hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=224, attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0, rope_theta=10000.0, cache_implementation="hybrid", attention_bias=False,
    ),
    "gemma2 that leaves all to the defaults": dict(architectures=["Gemma2ForCausalLM"], model_type="gemma2"),
    "gemma3": dict(
        architectures=["Gemma3ForCausalLM"], model_type="gemma3_text", hidden_activation="gelu_pytorch_tanh",
        rope_theta=1000000, rope_local_base_freq=10000, sliding_window=5, sliding_window_pattern=6, rope_scaling=None,
        query_pre_attn_scalar=256, attn_logit_softcapping=None, final_logit_softcapping=None,
    ),
    "mistral": dict(architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=5, rope_theta=10000.0),
    "qwen2": dict(
        architectures=["Qwen2ForCausalLM"], model_type="qwen2", use_sliding_window=False, sliding_window=32768,
        max_window_layers=24, rope_theta=1000000.0, tie_word_embeddings=True,
    ),
    "olmo2": dict(architectures=["Olmo2ForCausalLM"], model_type="olmo2", rope_theta=500000, attention_bias=False),
    "smollm2": dict(
        architectures=["LlamaForCausalLM"], model_type="llama", is_llama_config=True, rope_interleaved=False,
        pretraining_tp=1, rope_theta=100000, tie_word_embeddings=True, attention_bias=False, mlp_bias=False,
        **{"transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_files_of_the_hub_mean_what_transformers_makes_of_them(name):
    """An old config.json, read by us and as transformers 5 writes it out again, is the same shape."""
    transformers = pytest.importorskip("transformers")
    data = BASE | OLD[name]
    again = transformers.AutoConfig.for_model(**data).to_dict() | {"architectures": data["architectures"]}
    left_out = ("id2label", "label2id", "_sliding_window_pattern")
    kept = {key: value for key, value in again.items() if key not in left_out}
    assert config_from_hf(data) == config_from_hf(kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(layer_types=["full_attention"]), "layer_types=.* for each of 2 layers"),
        (dict(layer_types=["chunked_attention"] * 2), "wanted full_attention or sliding_attention"),
        (dict(layer_types=["sliding_attention"] * 2, sliding_window=None), "sliding_window=None; wanted a number"),
        (dict(use_bidirectional_attention=True), "use_bidirectional_attention=True"),
        (dict(rope_parameters={"sliding_attention": dict(rope_type="linear", factor=2.0)}), "stretches the layers"),
    ],
)
def test_windows_that_say_nothing_whole_are_refused(changes, message):
    data = config_to_hf(replace(OWN["gemma3"], layers=2, windows=(5, 0)))
    with pytest.raises(InputError, match=message):
        config_from_hf(data | changes)
