"""What stands in a GGUF file: read by the format's own library and compared by hand."""

import sys
import weakref

import pytest
import torch

from instar.config import InputError, ModelConfig, RopeScaling
from instar.config.presets import preset
from instar.hub.files import Weights, save_model
from instar.hub.gguf import ARCHS, Unwritable, export
from instar.hub.gguf import file as module
from instar.hub.gguf.families import arch_of
from instar.model.transformer import Transformer

gguf = pytest.importorskip("gguf")


def read(path):
    """Keys -> values, and tensors by name in the order in which numpy sees them, bf16 as fp32."""
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    tensors = {}
    for tensor in reader.tensors:
        data = torch.from_numpy(tensor.data.copy())
        if tensor.tensor_type.name == "BF16":
            data = data.view(torch.bfloat16).float()
        tensors[tensor.name] = data.reshape([int(size) for size in tensor.shape[::-1]])
    return keys, tensors


def kinds(path):
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


@pytest.fixture
def exported(written, tmp_path):
    """make(shape, **changes) -> keys, tensors and model."""

    def make(shape, dtype=None, **changes):
        folder, model = written(shape, **changes)
        export(folder, tmp_path / "model.gguf", dtype=dtype)
        return *read(tmp_path / "model.gguf"), model

    return make


def test_keys_of_a_llama(exported):
    """Every size, by llama.cpp's names."""
    keys, tensors, model = exported("llama with wide heads")
    assert {name: keys[name] for name in keys if not name.startswith("tokenizer.")} == {
        "general.architecture": "llama",
        "general.name": "model",
        "general.file_type": 0,
        "llama.vocab_size": 384,
        "llama.context_length": 128,
        "llama.embedding_length": 32,
        "llama.block_count": 3,
        "llama.feed_forward_length": 48,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "llama.attention.key_length": 12,
        "llama.attention.value_length": 12,
        "llama.rope.dimension_count": 12,
        "llama.rope.freq_base": 500.0,
    }
    assert {name: tuple(value.shape) for name, value in tensors.items() if "blk.0" in name or "blk" not in name} == {
        "token_embd.weight": (384, 32),
        "blk.0.attn_q.weight": (48, 32),
        "blk.0.attn_k.weight": (24, 32),
        "blk.0.attn_v.weight": (24, 32),
        "blk.0.attn_output.weight": (32, 48),
        "blk.0.ffn_gate.weight": (48, 32),
        "blk.0.ffn_up.weight": (48, 32),
        "blk.0.ffn_down.weight": (32, 48),
        "blk.0.attn_norm.weight": (32,),
        "blk.0.ffn_norm.weight": (32,),
        "output_norm.weight": (32,),
        "output.weight": (384, 32),
    }
    assert torch.equal(tensors["token_embd.weight"], model.embed.weight)
    assert torch.equal(tensors["blk.2.ffn_up.weight"], model.blocks[2].feed_forward.up.weight)


@pytest.mark.parametrize("shape", ["llama with biases", "ernie"])
def test_what_is_turned_together_lies_side_by_side(exported, shape):
    """Channels 0 and 4 of a head of 8 become rows 0 and 1, in queries and keys, biases too; values stay."""
    _, tensors, model = exported(shape)
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    attention = model.blocks[1].attention
    for ours, heads in (("q", 4), ("k", 2)):
        rows = [8 * head + channel for head in range(heads) for channel in order]
        layer = getattr(attention, ours)
        assert torch.equal(tensors[f"blk.1.attn_{ours}.weight"], layer.weight[rows])
        assert not torch.equal(tensors[f"blk.1.attn_{ours}.weight"], layer.weight)
        if layer.bias is not None:
            assert torch.equal(tensors[f"blk.1.attn_{ours}.bias"], layer.bias[rows])
    assert torch.equal(tensors["blk.1.attn_v.weight"], attention.v.weight)


@pytest.mark.parametrize("shape", ["qwen2", "qwen3", "qwen3 moe", "olmo2", "gemma3"])
def test_where_it_is_turned_by_halves_nothing_moves(exported, shape):
    """llama.cpp turns these families as we do."""
    _, tensors, model = exported(shape)
    assert torch.equal(tensors["blk.1.attn_q.weight"], model.blocks[1].attention.q.weight)


def test_experts_lie_one_behind_the_other(exported):
    """(experts, out, in), the router in fp32, the bias of the choice beside it; the dense layer has none."""
    keys, tensors, model = exported("ernie", dtype=torch.bfloat16)
    layer = model.blocks[1].feed_forward
    for part in ("gate", "up", "down"):
        wanted = torch.stack([getattr(expert, part).weight for expert in layer.experts])
        assert torch.equal(tensors[f"blk.1.ffn_{part}_exps.weight"], wanted.bfloat16().float())
    assert torch.equal(tensors["blk.1.ffn_gate_inp.weight"], layer.router.weight)
    assert torch.equal(tensors["blk.1.exp_probs_b.bias"], layer.bias)
    assert "blk.0.ffn_up.weight" in tensors
    assert "blk.0.ffn_up_exps.weight" not in tensors
    assert keys["ernie4_5-moe.leading_dense_block_count"] == 1
    assert (keys["ernie4_5-moe.expert_count"], keys["ernie4_5-moe.expert_used_count"]) == (4, 2)


def test_what_lies_in_one(exported):
    """Phi-3: queries, keys, values; and gate before up."""
    keys, tensors, model = exported("phi3")
    attention, layer = model.blocks[0].attention, model.blocks[0].feed_forward
    assert torch.equal(
        tensors["blk.0.attn_qkv.weight"], torch.cat([attention.q.weight, attention.k.weight, attention.v.weight])
    )
    assert torch.equal(tensors["blk.0.ffn_up.weight"], torch.cat([layer.gate.weight, layer.up.weight]))
    assert keys["phi3.rope.dimension_count"] == 4


def test_gemma_bears_what_llama_cpp_cannot_be_told(exported):
    """Norms are what they are and not what they are more than one; queries, or their norms, bear score_size."""
    keys, tensors, model = exported("gemma2")
    block, scale = model.blocks[0], (12 / 20) ** 0.5
    assert torch.equal(tensors["blk.0.post_attention_norm.weight"], block.attention_after.weight + 1)
    assert torch.allclose(tensors["blk.0.attn_q.weight"], block.attention.q.weight * scale)
    assert keys["gemma2.attention.sliding_window"] == 5
    assert keys["gemma2.attention.sliding_window_pattern"] == [True, False, True]
    assert (keys["gemma2.attn_logit_softcapping"], keys["gemma2.final_logit_softcapping"]) == (2.0, 3.0)
    keys, tensors, model = exported("gemma3", place="other")
    attention = model.blocks[0].attention
    assert torch.allclose(tensors["blk.0.attn_q_norm.weight"], (attention.q_norm.weight + 1) * scale)
    assert torch.equal(tensors["blk.0.attn_k_norm.weight"], attention.k_norm.weight + 1)
    assert (keys["gemma3.rope.freq_base"], keys["gemma3.rope.freq_base_swa"]) == (900.0, 50.0)


def test_a_tied_head_stands_once_or_twice(exported):
    """Once where llama.cpp takes the embedding for it, twice where it wants a head."""
    _, tensors, _ = exported("llama tied")
    assert "output.weight" not in tensors
    _, tensors, model = exported("olmo2 tied", place="other")
    assert torch.equal(tensors["output.weight"], model.embed.weight)


def test_stretched_waves(exported):
    """llama3's factors by hand: 1 for short waves, the factor for long ones, between them by the formula; yarn's and
    linear's keys."""
    keys, tensors, _ = exported("llama3")
    waves = [10000 ** (-2 * i / 8) for i in range(4)]
    turns = [16 * wave / (2 * torch.pi) for wave in waves]
    share = [min(max((turn - 1) / (4 - 1), 0), 1) for turn in turns]
    wanted = torch.tensor([1 / ((1 - s) / 4 + s) for s in share])
    assert torch.allclose(tensors["rope_freqs.weight"], wanted)
    assert 1 < float(wanted[0]) < 4 == float(wanted[-1])
    assert not [key for key in keys if "rope.scaling" in key]
    keys, _, _ = exported("llama linear", place="linear")
    assert (keys["llama.rope.scaling.type"], keys["llama.rope.scaling.factor"]) == ("linear", 2.5)
    keys, _, _ = exported("llama yarn with a temper", place="yarn")
    usual = 0.1 * torch.log(torch.tensor(4.0)) + 1
    assert keys["llama.rope.scaling.attn_factor"] == pytest.approx(1.7 / float(usual))
    assert keys["llama.rope.scaling.original_context_length"] == 32


def test_windows_that_llama_cpp_does_not_know_shorten_the_context(written, tmp_path):
    """The file says up to where it is the same model, and the report says why."""
    folder, _ = written("mistral")
    report = export(folder, tmp_path / "x.gguf")
    assert report["context"] == read(tmp_path / "x.gguf")[0]["llama.context_length"] == 40
    assert "up to 40 tokens" in report["notes"][0]
    folder, _ = written("mistral", windows=(200,) * 3, place="wide")
    report = export(folder, tmp_path / "y.gguf")
    assert (report["context"], report["notes"]) == (128, [])


@pytest.mark.parametrize(("dtype", "kind"), [(torch.float16, "F16"), (torch.bfloat16, "BF16"), (torch.float32, "F32")])
def test_matrices_are_narrow_and_vectors_wide(written, tmp_path, dtype, kind):
    """Norms and biases stay fp32; a folder's own dtype is kept where none is asked for."""
    folder, model = written("llama with biases")
    export(folder, tmp_path / "x.gguf", dtype=dtype)
    found = kinds(tmp_path / "x.gguf")
    assert {name for name, value in found.items() if value == "F32"} >= {"blk.0.attn_norm.weight", "blk.0.attn_q.bias"}
    assert found["blk.0.attn_q.weight"] == found["token_embd.weight"] == kind
    assert torch.equal(read(tmp_path / "x.gguf")[1]["token_embd.weight"].float(), model.embed.weight.to(dtype).float())
    save_model(model, folder, dtype=dtype)
    export(folder, tmp_path / "kept.gguf")
    assert kinds(tmp_path / "kept.gguf") == found


def test_a_value_too_large_for_fp16_is_refused(written, tmp_path):
    """An infinity would be written for it; nothing is left behind."""
    folder, model = written("llama")
    with torch.no_grad():
        model.blocks[1].feed_forward.up.weight[0, 0] = 1e5
    save_model(model, folder)
    with pytest.raises(InputError, match=r"blk.1.ffn_up.weight holds 1e\+05, and fp16 at most 65504.*bf16"):
        export(folder, tmp_path / "x.gguf", dtype=torch.float16)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_older_file_stays_until_the_new_one_is_whole(written, tmp_path, monkeypatch):
    """A disk that fills up in the middle of a tensor takes nothing away."""
    folder, _ = written("llama")
    path = tmp_path / "x.gguf"
    path.write_bytes(b"older")
    plain = module._array

    def full(entry):
        if "blk.2" in entry.name:
            raise OSError(28, "No space left on device")
        return plain(entry)

    monkeypatch.setattr(module, "_array", full)
    with pytest.raises(OSError, match="No space"):
        export(folder, path)
    assert path.read_bytes() == b"older"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model", "x.gguf"]


def test_one_tensor_is_in_memory_at_a_time(written, tmp_path, monkeypatch):
    """When one is read, those before it are gone."""
    folder, _ = written("llama")
    held, most, plain = [], [], Weights.read

    def counted(self, name):
        most.append(sum(reference() is not None for reference in held))
        tensor = plain(self, name)
        held.append(weakref.ref(tensor.untyped_storage()))
        return tensor

    monkeypatch.setattr(Weights, "read", counted)
    export(folder, tmp_path / "x.gguf")
    assert len(most) == 30
    assert max(most) == 0


def test_progress_counts_every_weight(written, tmp_path):
    """What is told adds up to the model."""
    folder, model = written("llama")
    told = []
    export(folder, tmp_path / "x.gguf", done=told.append)
    assert sum(told) == model.size()


def test_a_missing_library_is_named_with_its_remedy(written, tmp_path, monkeypatch):
    """The core does without it."""
    folder, _ = written("llama")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r'pip install "instar\[gguf\]"'):
        export(folder, tmp_path / "x.gguf")


@pytest.mark.parametrize("shape", ["bert-nano", "modernbert-nano", "transformer-tiny", "nano"])
def test_families_that_are_not_written_are_refused_by_name(tokenizers, tmp_path, shape):
    """Encoders with a head, Marian, and what no family of transformers has."""
    tokenizer = tokenizers["qwen2"]
    more = {"transformer-tiny": dict(start=5), "nano": dict(positions="alibi")}.get(shape, {})
    config = preset(shape, vocab_size=tokenizer.vocab_size, d_model=32, heads=4, **more)
    save_model(Transformer(config, seed=1), tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    with pytest.raises(Unwritable, match=r"no architecture for \w+ that we write; known: LlamaForCausalLM"):
        export(tmp_path / "model", tmp_path / "x.gguf")


REFUSED = {
    "act": ("Llama", dict(act="gelu"), "act='gelu'; llama.cpp computes llama with 'silu' alone"),
    "narrow heads": ("Qwen2", dict(head_size=4), "heads times head_size is 16 and d_model 32"),
    "yarn's bounds": (
        "Llama",
        dict(rope_scaling=RopeScaling("yarn", 2.0, fast=8.0)),
        r"rope_scaling.fast=8.0 and slow=1.0; llama.cpp computes yarn with 32.0 and 1.0",
    ),
    "llama3 elsewhere": ("Qwen3", dict(rope_scaling=RopeScaling("llama3", 2.0)), "kind=llama3; .* qwen3 with none"),
    "dense layers": (
        "Ernie4_5_Moe",
        dict(experts=2, dense_layers=(1,)),
        r"dense_layers=\(1,\); wanted the first ones",
    ),
    "a plain layer": ("Qwen3Moe", dict(experts=2, dense_layers=(1,)), r"dense_layers=\(1,\)"),
    "shares as they are": ("Qwen3Moe", dict(experts=2, expert_norm=False), "expert_norm=False"),
    "an untied head": ("Gemma2", dict(act="gelu_tanh", tied=False), "tied=False"),
    "distances": ("T5", dict(encoder_layers=1, relative_distance=64), "relative_distance=64; llama.cpp .* 128 alone"),
    "t5's act": ("T5", dict(encoder_layers=1, act="relu"), "act=relu with mlp=gated; wanted gelu_tanh"),
    "more decoder": (
        "T5",
        dict(encoder_layers=1, act="gelu_tanh"),
        "layers=2 and encoder_layers=1; wanted no more of the first",
    ),
    "no cap": ("Gemma2", dict(act="gelu_tanh", windows=(5, 0)), "logit_cap=0.0; wanted a window"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_llama_cpp_would_compute_otherwise_is_refused(case):
    """Each by the field, what it says and what is computed."""
    family, fields, message = REFUSED[case]
    config = ModelConfig(d_model=32, heads=4, layers=2, vocab_size=64, **fields)
    with pytest.raises(Unwritable, match=message):
        arch_of(next(name for name in ARCHS if name.startswith(family)), config)
