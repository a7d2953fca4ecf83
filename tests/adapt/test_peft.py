"""peft's folder, both ways: the same adapter says the same in peft and here, in one piece, merged, and read back."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from instar.adapt import peft as ours
from instar.adapt.folders import base_of, save_adapter
from instar.adapt.growth import put_heads
from instar.adapt.lora import attach, merge, weights_of
from instar.config import InputError
from instar.config.options import LoraOptions
from instar.hub.files import load_model

OPTIONS = {
    "all": LoraOptions(rank=3),
    "rslora": LoraOptions(rank=3, alpha=5, rslora=True),
    "some of what lies in one": LoraOptions(rank=2, targets=("q", "down")),
}
FAMILIES = ["llama", "qwen2", "qwen3", "gpt2", "phi3", "gpt_neox"]
FUSED = {"gpt2": "c_attn", "phi3": "qkv_proj", "gpt_neox": "query_key_value"}


def near(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * max(1.0, float(wanted.std())))


@pytest.fixture
def made(theirs, stir, tmp_path):
    """make(family, options) -> their model, ours with an adapter, the folder of the base, that of the adapter."""

    def make(family, options, tokens=(), **changes):
        model, base = theirs(family, **changes)
        own = load_model(base)
        attach(own, "sft", options, tokens=tokens)
        stir(weights_of(own, "sft").values())
        out = tmp_path / "adapter"
        ours.write(own, "sft", out, ours.Base(str(base)))
        return model, own, base, out

    return make


@torch.no_grad()
def by_hand(model, out, tokens):
    """What a model of transformers says with an adapter, computed from the files alone: W + scale B A for every layer
    that the config names, with a turn where it lies in columns."""
    said, tensors = json.loads((out / "adapter_config.json").read_text()), load_file(out / "adapter_model.safetensors")
    for full in [name for name in tensors if name.endswith(".lora_A.weight")]:
        module = full.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        a, b = tensors[full], tensors[full.replace("lora_A", "lora_B")]
        end = module.rpartition(".")[2]
        rank, alpha = said["rank_pattern"].get(end, said["r"]), said["alpha_pattern"].get(end, said["lora_alpha"])
        assert len(a) == rank
        added = b @ a * (alpha / (rank**0.5 if said["use_rslora"] else rank))
        weight = model.get_submodule(module).weight
        weight += added.t() if said["fan_in_fan_out"] else added
    return model(tokens).logits


@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_what_we_write_by_the_formula(made, tokens, family, case):
    """transformers' model with B A added by hand to its own weights says what ours says with the adapter."""
    model, own, _, out = made(family, OPTIONS[case])
    bare, said = model(tokens).logits, own(tokens)
    assert (said - bare).abs().max() > 0.3
    near(by_hand(model, out, tokens), said)


@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_what_we_write_is_read_back(made, tokens, family, case):
    """Every bit, and merged the same; each of our layers has its own rank again."""
    _, own, base, out = made(family, OPTIONS[case])
    again = load_model(base)
    attached = ours.fit(again, "back", ours.read(out))
    assert torch.equal(again(tokens), own(tokens))
    assert (attached.options, attached.layers) == (own.attached["sft"].options, own.attached["sft"].layers)
    assert {len(w) for n, w in weights_of(again, "back").items() if n.endswith(".a")} == {OPTIONS[case].rank}
    merge(again)
    near(again(tokens), own(tokens))


@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_peft_says_what_we_say(made, tokens, family, case):
    """Story: microsoft/LoRA#120, huggingface/trl#386. peft reads our folder, and says the same apart and merged."""
    peft = pytest.importorskip("peft")
    words = (3, 59) if case != "some of what lies in one" and family != "gpt_neox" else ()
    model, own, _, out = made(family, OPTIONS[case], tokens=words)
    found = peft.PeftModel.from_pretrained(model, out).eval()
    near(found(tokens).logits, own(tokens))
    near(found.merge_and_unload()(tokens).logits, own(tokens))
    merge(own)
    near(own(tokens), model(tokens).logits)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_we_say_what_peft_says(theirs, tokens, stir, tmp_path, family):
    """An adapter that peft made, of whatever lies in one layer together, and with patterns of its own."""
    peft = pytest.importorskip("peft")
    model, base = theirs(family)
    first = FUSED.get(family, "q_proj")
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM", use_rslora=family == "qwen2",
        rank_pattern={first: 5}, alpha_pattern={first: 3},
    )  # fmt: skip
    found = peft.get_peft_model(model, config).eval()
    stir([weight for name, weight in found.named_parameters() if "lora_" in name])
    found.save_pretrained(tmp_path / "peft")
    own = load_model(base)
    attached = ours.fit(own, "peft", ours.read(tmp_path / "peft"))
    near(own(tokens), found(tokens).logits)
    assert attached.options.targets == ("all-linear",)
    ours.write(own, "peft", tmp_path / "ours", ours.Base(str(base)))
    again = load_model(base)
    ours.fit(again, "peft", ours.read(tmp_path / "ours"))
    near(again(tokens), own(tokens))
    merge(own)
    near(own(tokens), found.merge_and_unload()(tokens).logits)


@torch.no_grad()
def test_rows_of_tokens_by_the_formula(made, tokens, tmp_path):
    """Rows replace those of the embedding and, where it is another, of the head."""
    model, own, base, out = made("llama", LoraOptions(rank=2), tokens=(3, 59))
    said, tensors = json.loads((out / "adapter_config.json").read_text()), load_file(out / "adapter_model.safetensors")
    assert said["trainable_token_indices"] == {"embed_tokens": [3, 59], "lm_head": [3, 59]}
    key = "base_model.model.{}.token_adapter.trainable_tokens_delta"
    model.model.embed_tokens.weight[[3, 59]] = tensors[key.format("model.embed_tokens")]
    model.lm_head.weight[[3, 59]] = tensors[key.format("lm_head")]
    tokens = tokens.clone()
    tokens[0, 2], tokens[1, 5] = 3, 59
    near(by_hand(model, out, tokens), own(tokens))
    again = load_model(base)
    assert ours.fit(again, "back", ours.read(out)).tokens == (3, 59)
    assert torch.equal(again(tokens), own(tokens))


def test_the_config_is_as_peft_has_it(made):
    """Ends of names where they suffice, whole names where a head ends alike, patterns for what lies in one."""
    said = {}
    for family in ("llama", "gpt2", "phi3"):
        _, _, base, out = made(family, LoraOptions(rank=3))
        said[family] = json.loads((out / "adapter_config.json").read_text())
        assert said[family]["base_model_name_or_path"] == str(base)
    assert said["llama"]["target_modules"] == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    ]  # fmt: skip
    assert said["llama"]["rank_pattern"] == {}
    assert said["gpt2"]["fan_in_fan_out"] is True
    assert said["gpt2"]["target_modules"] == ["c_attn", "c_fc", "c_proj"]
    assert (said["gpt2"]["rank_pattern"], said["gpt2"]["alpha_pattern"]) == ({"c_attn": 9}, {"c_attn": 18})
    assert said["phi3"]["rank_pattern"] == {"qkv_proj": 9, "gate_up_proj": 6}


@torch.no_grad()
def test_others_have_trained_what_we_put_into_one(made, tokens, stir):
    """What peft trained further is no longer along a diagonal, and is read as what it is."""
    model, _, base, out = made("gpt2", LoraOptions(rank=2))
    path = out / "adapter_model.safetensors"
    tensors = load_file(path)
    stir(tensors.values(), seed=12)
    metadata = {"instar": json.dumps(ours.read(out).ours)}
    save_file(tensors, path, metadata=metadata)
    again = load_model(base)
    ours.fit(again, "back", ours.read(out))
    near(again(tokens), by_hand(model, out, tokens))
    assert again.blocks[0].attention.k.adapters["back"].rank == 6


BROKEN = {
    "another method": (dict(peft_type="LOHA"), r"says peft_type='LOHA'; we compute plain LoRA"),
    "dora": (dict(use_dora=True), "says use_dora='True'"),
    "biases": (dict(bias="all"), "says bias='all'"),
    "changes the base": (dict(init_lora_weights="pissa"), "says init_lora_weights='pissa'"),
    "not a number": (dict(r="8"), "says r='8'; wanted a number"),
    "another rank": (dict(r=7), "has an adapter of rank 3, and adapter_config.json says 7"),
    "a pattern that may take for ever": (dict(rank_pattern={"(a+)+$": 3}), r"rank_pattern of '\(a\+\)\+\$'"),
    "patterns of another kind": (dict(alpha_pattern=[1]), "says alpha_pattern="),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_config_that_we_do_not_compute(made, case):
    """Story: huggingface/peft#1579. Named with what was found, before anything is put on the model."""
    _, _, base, out = made("llama", LoraOptions(rank=3))
    path = out / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | BROKEN[case][0]))
    model = load_model(base)
    with pytest.raises(InputError, match=BROKEN[case][1]):
        ours.fit(model, "x", ours.read(out))
    assert model.attached == {}


def spoilt(**changes):
    def spoil(tensors):
        tensors |= changes
        return tensors

    return spoil


def without(name):
    return lambda tensors: {key: value for key, value in tensors.items() if name not in key}


Q = "base_model.model.model.layers.0.self_attn.q_proj"
WEIGHTS = {
    "unknown layer": (spoilt(**{"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": torch.ones(3, 32)}),
                      "unclaimed: .*layers.9.self_attn.q_proj.lora_A"),
    "a name twice over": (spoilt(**{f"{Q}.default.lora_A.weight": torch.ones(3, 32)}), "unclaimed: .*default.lora_A"),
    "half of a pair": (without("layers.1.mlp.up_proj.lora_B"), "of another shape: model.layers.1.mlp.up_proj.weight"),
    "another width": (spoilt(**{f"{Q}.lora_A.weight": torch.ones(3, 31)}), "another shape: model.layers.0.self_attn"),
    "nothing": (lambda tensors: {}, "does not fit"),
    "an embedding": (spoilt(**{"base_model.model.model.embed_tokens.weight": torch.ones(61, 32)}),
                     "unclaimed: base_model.model.model.embed_tokens.weight"),
}  # fmt: skip


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_do_not_fit_are_listed(made, case):
    """Nothing of an adapter is left out silently, and no half of it is put on."""
    _, _, base, out = made("llama", LoraOptions(rank=3))
    path = out / "adapter_model.safetensors"
    save_file(WEIGHTS[case][0](load_file(path)), path)
    model = load_model(base)
    with pytest.raises(InputError, match=WEIGHTS[case][1]):
        ours.fit(model, "x", ours.read(out))
    assert model.attached == {}


def test_a_pickle_is_not_read(made):
    """adapter_model.bin is refused by name, with the way out."""
    _, _, _, out = made("llama", LoraOptions(rank=3))
    (out / "adapter_model.safetensors").rename(out / "adapter_model.bin")
    with pytest.raises(InputError, match=r"adapter_model\.bin, a pickle"):
        ours.read(out)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
@torch.no_grad()
def test_experts_one_by_one(theirs, tokens, stir, tmp_path, family):
    """Each expert has adapters of its own, by the names of transformers' files, and they come back."""
    pytest.importorskip("transformers")
    _, base = theirs(family)
    own = load_model(base)
    attach(own, "sft", LoraOptions(rank=2))
    stir(weights_of(own, "sft").values())
    ours.write(own, "sft", tmp_path / "a", ours.Base(str(base)))
    said = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert not {"gate", "lm_head"} & set(said["target_modules"])
    again = load_model(base)
    ours.fit(again, "back", ours.read(tmp_path / "a"))
    assert torch.equal(again(tokens), own(tokens))


def test_scales_of_a_strangers_adapter_may_differ(made, tokens):
    """What lies in one with two scales is written with one."""
    _, own, base, out = made("phi3", LoraOptions(rank=3))
    own.blocks[0].attention.k.adapters["sft"].scale = 0.7
    ours.write(own, "sft", out, ours.Base(str(base)))
    again = load_model(base)
    ours.fit(again, "back", ours.read(out))
    with torch.no_grad():
        near(again(tokens), own(tokens))
        layer, x = again.blocks[0].attention.k, torch.randn(3, 32)
        delta = own.blocks[0].attention.k.adapters["sft"]
        near(layer.adapters["back"](x), F.linear(F.linear(x, delta.a), delta.b) * 0.7)
    assert replace(again.attached["back"].options, targets=()) == replace(own.attached["sft"].options, targets=())


@torch.no_grad()
def test_a_head_travels_as_peft_saves_modules(theirs, stir, tokens, tmp_path):
    """A head for labels is one of peft's modules_to_save: theirs, with a head of their own drawn anew, says what ours
    says."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    _, base = theirs("llama")
    own = load_model(base)
    put_heads(own, replace(own.config, heads_of=("classify",), labels=3, pooling="last"))
    attach(own, "sft", LoraOptions(rank=3))
    stir([*weights_of(own, "sft").values(), *own.heads.parameters()])
    ours.write(own, "sft", tmp_path / "a", ours.Base(str(base)), heads=("classify",))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    model.config.pad_token_id = 60
    found = peft.PeftModel.from_pretrained(model, tmp_path / "a").eval()
    near(found(tokens).logits, own(tokens))


@torch.no_grad()
def test_experts_in_peft(theirs, stir, tokens, tmp_path):
    """transformers keeps all experts of a layer in one weight, and peft makes one adapter of those of each."""
    peft = pytest.importorskip("peft")
    model, base = theirs("mixtral")
    own = load_model(base)
    attach(own, "sft", LoraOptions(rank=2))
    stir(weights_of(own, "sft").values())
    ours.write(own, "sft", tmp_path / "a", ours.Base(str(base)))
    found = peft.PeftModel.from_pretrained(model, tmp_path / "a").eval()
    near(found(tokens).logits, own(tokens))


@torch.no_grad()
def test_the_folder_names_its_base(theirs, stir, tokens, tmp_path):
    """transformers alone finds the base from our folder, whose config.json does not stand in the way."""
    pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    _, base = theirs("llama")
    own = load_model(base)
    attach(own, "sft", LoraOptions(rank=3))
    stir(weights_of(own, "sft").values())
    save_adapter(own, "sft", tmp_path / "a", base_of(base))
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "a").eval()
    near(found(tokens).logits, own(tokens))
