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
YARN = dict(
    rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=16, beta_fast=8.0, beta_slow=0.5,
)  # fmt: skip
# texts of 24 tokens are longer than what it is stretched from
DYNAMIC = dict(max_position_embeddings=16, rope_parameters=dict(rope_type="dynamic", rope_theta=500.0, factor=3.0))
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
    "llama yarn": ("llama", dict(rope_parameters=YARN)),
    "llama yarn with a factor": ("llama", dict(rope_parameters=YARN | dict(attention_factor=1.7))),
    "llama yarn as deepseek": ("llama", dict(rope_parameters=YARN | dict(mscale=1.0, mscale_all_dim=0.5))),
    "llama dynamic": ("llama", DYNAMIC),
    "qwen3 yarn": ("qwen3", dict(rope_parameters=YARN)),
    "qwen2 dynamic": ("qwen2", DYNAMIC),
    "mixtral": ("mixtral", {}),
    "mixtral with windows": ("mixtral", dict(sliding_window=5, num_experts_per_tok=3)),
    "qwen3 moe": ("qwen3_moe", {}),
    "qwen3 moe with some layers plain": ("qwen3_moe", dict(mlp_only_layers=[1], norm_topk_prob=True)),
    "qwen3 moe in every second layer": ("qwen3_moe", dict(decoder_sparse_step=2, num_experts_per_tok=1)),
    "qwen3 moe with windows": ("qwen3_moe", dict(use_sliding_window=True, sliding_window=5)),
    "ernie": ("ernie4_5_moe", {}),
    "ernie in every second layer": ("ernie4_5_moe", dict(num_hidden_layers=4, moe_layer_interval=2, head_dim=12)),
    "phi3": ("phi3", dict(rope_parameters=dict(rope_type="default", rope_theta=500.0, partial_rotary_factor=0.5))),
    "phi3 with windows": (
        "phi3",
        dict(sliding_window=5, rope_parameters=dict(rope_type="default", partial_rotary_factor=0.75)),
    ),
    "neox": ("gpt_neox", {}),
    "neox one after the other": ("gpt_neox", dict(use_parallel_residual=False, hidden_act="gelu_new")),
    "neox turned whole": ("gpt_neox", dict(rope_parameters=dict(rope_type="default", partial_rotary_factor=1.0))),
    "neox yarn": ("gpt_neox", dict(rope_parameters=YARN | dict(partial_rotary_factor=0.5))),
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
    "yarn's bounds": ("llama yarn", dict(rope_scaling=RopeScaling("yarn", 4.0, original_positions=16))),
    "yarn's temper": (
        "llama yarn with a factor",
        dict(rope_scaling=RopeScaling("yarn", 4.0, original_positions=16, fast=8.0, slow=0.5)),
    ),
    "dynamic off": ("llama dynamic", dict(rope_scaling=RopeScaling())),
    "dynamic factor": ("qwen2 dynamic", dict(rope_scaling=RopeScaling("dynamic", 2.5, original_positions=16))),
    "mixtral's shares as they are": ("mixtral", dict(expert_norm=False)),
    "fewer experts a token": ("mixtral", dict(experts_used=1)),
    "mixtral's windows": ("mixtral with windows", dict(windows=())),
    "qwen3 moe's shares adding up to one": ("qwen3 moe", dict(expert_norm=True)),
    "ernie without its bias": ("ernie", dict(balance_by="loss")),
    "phi3 turned whole": ("phi3", dict(rotary_share=1.0)),
    "phi3's windows": ("phi3 with windows", dict(windows=(6, 6, 6))),
    "neox one after the other": ("neox", dict(residual="pre")),
    "neox at once": ("neox one after the other", dict(residual="parallel")),
    "neox turned whole": ("neox", dict(rotary_share=1.0)),
    "neox's gelu": ("neox", dict(act="gelu_tanh")),
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


MANY = dict(experts=4, d_expert=24)
NEOX = dict(norm="layer", norm_eps=1e-5, mlp="plain", act="gelu", bias=True, qkv_bias=True, tied=False)
OWN |= {
    "llama yarn": ModelConfig(64, 32, 2, 4, rope_scaling=RopeScaling("yarn", 4.0, original_positions=16, temper=1.5)),
    "llama dynamic": ModelConfig(
        64, 32, 2, 4, max_positions=64, rope_scaling=RopeScaling("dynamic", 4.0, original_positions=16)
    ),
    "qwen3 yarn": ModelConfig(
        64, 32, 2, 4, qk_norm=True, rope_scaling=RopeScaling("yarn", 4.0, original_positions=16, fast=8.0, slow=0.5)
    ),
    "mixtral": ModelConfig(64, 32, 2, 4, d_ff=24, balance=0.02, **MANY),
    "mixtral with windows": ModelConfig(64, 32, 2, 4, kv_heads=2, d_ff=24, experts_used=3, windows=(5, 5), **MANY),
    "qwen3 moe": ModelConfig(64, 32, 3, 4, qk_norm=True, expert_norm=False, dense_layers=(0,), **MANY),
    "qwen3 moe with windows": ModelConfig(64, 32, 2, 4, qk_norm=True, windows=(5, 5), **MANY),
    "ernie": ModelConfig(64, 32, 4, 4, head_size=6, balance_by="bias", dense_layers=(0, 2), **MANY),
    "phi3": ModelConfig(64, 32, 2, 4, kv_heads=2, rotary_share=0.5),
    "phi3 with windows": ModelConfig(64, 32, 2, 4, rotary_share=0.75, windows=(5, 5), tied=False),
    "neox": ModelConfig(64, 32, 2, 4, residual="parallel", rotary_share=0.25, rope_theta=500.0, **NEOX),
    "neox one after the other": ModelConfig(64, 32, 2, 4, rotary_share=0.5, **NEOX),
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
        for weight in [*ours.parameters(), *ours.buffers()]:  # biases and norms are 0 and 1 in a new model
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    save_model(ours, tmp_path)
    theirs, told = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert same(ours, theirs, tokens)
    # keys that transformers keeps were turned by the angles of a shorter text
    kept = OWN[name].rope_scaling.kind != "dynamic"
    asked = dict(attention_mask=torch.ones_like(tokens), max_new_tokens=12, do_sample=False, use_cache=kept)
    said = theirs.generate(tokens, **asked)
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
        (dict(architectures=["FalconForCausalLM"]), "unknown architecture FalconForCausalLM"),
        (dict(architectures=None), "unknown architecture llama"),
        (dict(logit_scale=0.5), "logit_scale=0.5, which we do not know"),
        (dict(pretraining_tp=2), "pretraining_tp=2"),
        (dict(hidden_act="mish"), "unknown hidden_act mish"),
        (dict(rope_parameters=dict(rope_type="longrope", factor=4.0)), "unknown rope_type longrope"),
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
        dict(windows=(3, 0, 3, 0)), dict(norm="rms_one"), dict(scaled_embed=True), dict(rotary_share=0.5, qk_norm=True),
        dict(experts=4, balance_by="bias", qk_norm=True), dict(experts=4, expert_norm=False), dict(residual="parallel"),
        dict(experts=4, balance_by="bias", dense_layers=(1,)), dict(experts=4, windows=(3, 0, 3, 0)),
    ],
)  # fmt: skip
def test_shapes_of_no_family_are_not_written(changes):
    """What transformers could not compute is refused and told, not written wrongly."""
    with pytest.raises(InputError, match="no known family has"):
        family_of(ModelConfig(vocab_size=64, d_model=32, **changes))


@pytest.mark.parametrize("architecture", [name for name in FAMILIES if name.endswith(("ForCausalLM", "LMHeadModel"))])
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
    "mixtral": dict(
        architectures=["MixtralForCausalLM"], model_type="mixtral", num_local_experts=8, num_experts_per_tok=2,
        output_router_logits=False, router_aux_loss_coef=0.02, rope_theta=1000000.0, sliding_window=None, head_dim=None,
    ),
    "mixtral that leaves all to the defaults": dict(architectures=["MixtralForCausalLM"], model_type="mixtral"),
    "qwen3 moe": dict(
        architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", num_experts=128, num_experts_per_tok=8,
        moe_intermediate_size=768, mlp_only_layers=[], decoder_sparse_step=1, norm_topk_prob=True, max_window_layers=48,
        rope_scaling=None, rope_theta=1000000.0, router_aux_loss_coef=0.001, use_sliding_window=False,
    ),
    "qwen3 moe that leaves all to the defaults": dict(architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe"),
    "phi3": dict(
        architectures=["Phi3ForCausalLM"], model_type="phi3", sliding_window=5, original_max_position_embeddings=64,
        rope_scaling=None, rope_theta=10000.0, embd_pdrop=0.0, resid_pdrop=0.0, attention_bias=False, head_dim=None,
        auto_map={"AutoConfig": "configuration_phi3.Phi3Config"},
    ),
    "pythia": dict(
        architectures=["GPTNeoXForCausalLM"], model_type="gpt_neox", rotary_pct=0.25, rotary_emb_base=10000,
        use_parallel_residual=True, layer_norm_eps=1e-5, num_key_value_heads=None, head_dim=None, rms_norm_eps=None,
    ),
    "gpt-neox-20b": dict(
        architectures=["GPTNeoXForCausalLM"], model_type="gpt_neox", rotary_pct=0.25, rotary_emb_base=10000,
        hidden_act="gelu_fast", attention_probs_dropout_prob=0, hidden_dropout_prob=0, num_key_value_heads=None,
        head_dim=None, rms_norm_eps=None,
    ),
    "qwen2 yarn": dict(
        architectures=["Qwen2ForCausalLM"], model_type="qwen2", rope_theta=1000000.0,
        rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=32),
    ),
    "llama dynamic": dict(
        architectures=["LlamaForCausalLM"], model_type="llama", rope_scaling=dict(type="dynamic", factor=2.0),
    ),
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


@pytest.mark.parametrize("changes", [{}, dict(sliding_window=5)], ids=["llama", "mistral"])
def test_a_phi3_that_turns_heads_whole_is_saved_as_what_it_is(written, tokens, tmp_path_factory, changes):
    """It computes what Llama (with windows: Mistral) computes, and no weight of it is lost in that layout."""
    folder, theirs = written("phi3", **changes)
    ours = load_model(folder)
    assert same(ours, theirs, tokens)
    out = tmp_path_factory.mktemp("saved")
    save_model(ours, out)
    assert same(load_model(out), theirs, tokens)
    again = load_model(out).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in ours.state_dict().items())


@pytest.mark.parametrize("name", ["llama yarn", "llama dynamic"])
def test_yarn_and_dynamic_in_the_old_spelling(name):
    """rope_scaling beside rope_theta, as written before transformers 5, means the same."""
    new = config_to_hf(OWN[name])
    old = {key: value for key, value in new.items() if key != "rope_parameters"}
    old["rope_scaling"] = {"type": old["rope_scaling"].pop("rope_type"), **old["rope_scaling"]}
    assert config_from_hf(old) == OWN[name]


def test_neox_in_the_old_spelling():
    """rotary_pct and rotary_emb_base, as Pythia's files have them."""
    new = config_to_hf(OWN["neox"])
    old = {key: value for key, value in new.items() if key not in ("rope_parameters", "rope_scaling", "rope_theta")}
    assert (old["rotary_pct"], old["rotary_emb_base"]) == (0.25, 500.0)
    assert config_from_hf(old) == OWN["neox"]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("phi3", dict(rope_parameters=dict(rope_type="longrope")), "unknown rope_type longrope"),
        ("phi3", dict(rope_parameters=dict(rope_type="yarn", factor=2.0)), "rope_type=yarn; Phi-3 has default"),
        ("llama yarn", dict(rope_parameters=dict(rope_type="yarn", factor=2.0, truncate=False)), "truncate=False"),
        ("ernie", dict(moe_num_shared_experts=2), "moe_num_shared_experts=2"),
        ("ernie", dict(moe_num_shared_experts=1), "moe_num_shared_experts=1"),
        ("neox", dict(attention_bias=False), "attention_bias=False"),
        ("mixtral", dict(router_jitter_noise=0.1), "router_jitter_noise=0.1"),
        ("qwen3 moe", dict(num_experts_per_tok=9), "experts_used=9, wanted 1 to experts=4"),
    ],
)
def test_what_these_families_have_and_we_do_not(name, changes, message):
    """A value that would be computed wrongly is an error that names it."""
    with pytest.raises(InputError, match=message):
        config_from_hf(config_to_hf(OWN[name]) | changes)


def test_ernie_whose_config_says_nothing_of_shared_experts_has_two():
    """Silence means what transformers takes it to mean."""
    data = config_to_hf(OWN["ernie"])
    del data["moe_num_shared_experts"]
    with pytest.raises(InputError, match="moe_num_shared_experts=2"):
        config_from_hf(data)


def test_dynamic_of_another_length_is_not_written():
    """A config.json has room for one length; the error names both and comes before any training."""
    shape = replace(OWN["llama dynamic"], max_positions=100)
    with pytest.raises(InputError, match=r"max_positions=100 .*reach to 64; set it to that"):
        family_of(shape)
