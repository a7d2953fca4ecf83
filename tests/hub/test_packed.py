"""Quantised folders: the bits of the layout, there and back again, and what is refused."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from instar.adapt.quantize import quantize
from instar.config import InputError, ModelConfig
from instar.hub.files import Weights, load_model, save_model
from instar.hub.packed import octets, pack, unpack, words
from instar.model.grid import Grid, halved
from instar.model.quantized import quantized
from instar.model.transformer import Transformer

ROWS = Grid(8, 0, True), Grid(4, 0, True)
GROUPS = Grid(4, 32, True), Grid(4, 32, False), Grid(8, 32, False)
WIDE = dict(hidden_size=64, intermediate_size=96, num_attention_heads=4)


def test_the_bits_of_a_word():
    """Eight weights of 4 bits, or four of 8, in a word from its lowest bits up, moved so that the least is 0; a word
    that is not full ends in zeros."""
    four = torch.tensor([[-8, -7, -6, -5, -4, -3, -2, -1], [7, 7, 7, 7, 7, 7, 7, 7]], dtype=torch.int8)
    assert pack(four, 4).tolist() == [[0x76543210], [-1]]
    eight = torch.tensor([[-128, 0, 127, -1, 1, 2]], dtype=torch.int8)
    assert [word & 0xFFFFFFFF for word in pack(eight, 8)[0].tolist()] == [0x7FFF8000, 0x8281]


def test_zero_points_lie_down_the_rows():
    """The zero points of eight rows in one word, and of a ninth in the next."""
    zero = torch.tensor([[-8], [-7], [-6], [-5], [-4], [-3], [-2], [-1], [7]], dtype=torch.int8)
    assert pack(zero, 4, axis=0).tolist() == [[0x76543210], [15]]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("axis", [0, 1])
def test_packed_and_unpacked(bits, axis):
    """Every number at every place comes back, where the last word is not full too."""
    q = torch.randint(-(1 << bits - 1), 1 << bits - 1, (13, 27), generator=torch.Generator().manual_seed(3))
    q = q.to(torch.int8)
    assert torch.equal(unpack(pack(q, bits, axis), bits, q.shape[axis], axis), q)


@pytest.mark.parametrize("bits", [4, 8])
def test_from_memory_to_words(bits):
    """What lies in memory gives the words that its numbers are packed to, and comes back from them."""
    q = torch.randint(-(1 << bits - 1), 1 << bits - 1, (13, 32), generator=torch.Generator().manual_seed(3))
    q = q.to(torch.int8)
    held = halved(q) if bits == 4 else q
    assert torch.equal(words(held, bits), pack(q, bits))
    assert torch.equal(octets(words(held, bits), bits), held)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_library_packs_alike(bits, axis):
    """compressed-tensors gives the same words, and unpacks ours."""
    library = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    q = torch.randint(-(1 << bits - 1), 1 << bits - 1, (24, 40), generator=torch.Generator().manual_seed(3))
    q = q.to(torch.int8)
    assert torch.equal(pack(q, bits, axis), library.pack_to_int32(q, bits, packed_dim=axis))
    assert torch.equal(library.unpack_from_int32(pack(q, bits, axis), bits, q.shape, packed_dim=axis), q)


def said(model, tokens):
    """Logits of a model, an encoder-decoder reading the same as its source."""
    with torch.inference_mode():
        return model(tokens, source=None if model.encoder is None else tokens)


@pytest.mark.parametrize("grid", ROWS + GROUPS, ids=str)
def test_there_and_back(grid, written, tokens, tmp_path):
    """Saved and loaded, a model has the same numbers, bit for bit, and says the same; saved again, the same file."""
    model = load_model(written("llama", **WIDE)[0])
    quantize(model, grid)
    save_model(model, tmp_path / "a")
    again = load_model(tmp_path / "a")
    for (name, one), (other, two) in zip(quantized(model), quantized(again), strict=True):
        assert name == other
        assert one.grid == two.grid
        assert all(x is y is None or torch.equal(x, y) for x, y in zip(one.parts(), two.parts()))
    assert torch.equal(said(model, tokens), said(again, tokens))
    save_model(again, tmp_path / "b")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert (tmp_path / "a/config.json").read_bytes() == (tmp_path / "b/config.json").read_bytes()


@pytest.mark.parametrize("family", ["phi3", "gpt_neox", "mixtral", "ernie4_5_moe", "gemma2"])
def test_every_way_that_weights_are_joined(family, written, tokens, tmp_path):
    """Rows that families join, weave or pair in their files come back to their layers, zero points with them."""
    changes = WIDE | (dict(moe_intermediate_size=32) if family == "ernie4_5_moe" else {})
    model = load_model(written(family, **changes)[0])
    quantize(model, Grid(4, 32, False))
    save_model(model, tmp_path / "q")
    assert torch.equal(said(model, tokens), said(load_model(tmp_path / "q"), tokens))


def test_layers_in_columns_get_a_layout_of_ours(written, tokens, tmp_path):
    """transformers would take packed rows of GPT-2 for missing weights: it does not get to see them as GPT-2's."""
    model = load_model(written("gpt2", n_embd=64)[0])
    quantize(model, Grid(4, 32, True))
    save_model(model, tmp_path / "q")
    assert json.loads((tmp_path / "q/config.json").read_text())["architectures"] == ["InstarTransformer"]
    assert torch.equal(said(model, tokens), said(load_model(tmp_path / "q"), tokens))


@pytest.fixture
def folder(written, tmp_path):
    """A folder with layers of 4 bits."""
    model = load_model(written("llama", **WIDE)[0])
    quantize(model, Grid(4, 32, False))
    save_model(model, tmp_path / "q")
    return tmp_path / "q"


def test_what_the_folder_says(folder):
    """The names and kinds that compressed-tensors reads, and the layers it is to leave alone."""
    held = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    kinds = {part: (held[name + part].dtype, list(held[name + part].shape)) for part in (
        "_packed", "_scale", "_zero_point", "_shape",
    )}  # fmt: skip
    assert kinds == {
        "_packed": (torch.int32, [96, 8]), "_scale": (torch.float32, [96, 2]), "_zero_point": (torch.int32, [12, 2]),
        "_shape": (torch.int64, [2]),
    }  # fmt: skip
    assert name not in held
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "compressed-tensors"
    assert config["format"] == "pack-quantized"
    assert config["ignore"] == ["lm_head"]
    weights = config["config_groups"]["group_0"]["weights"]
    assert (weights["num_bits"], weights["group_size"], weights["symmetric"]) == (4, 32, False)


def test_the_formula_of_the_library(folder):
    """The weight that the file spells by the documented formula is the one that is computed with."""
    held = load_file(folder / "model.safetensors")
    for part, layer in (("q", "self_attn.q_proj"), ("down", None)):
        name = f"model.layers.1.{layer or 'mlp.down_proj'}.weight"
        ours = f"blocks.1.{'attention.q' if part == 'q' else 'feed_forward.down'}"
        dense = load_model(folder).get_submodule(ours).dense()
        rows, columns = held[f"{name}_shape"].tolist()
        for row, column in ((0, 0), (1, columns - 1), (rows - 1, 33)):
            q = (int(held[f"{name}_packed"][row, column // 8]) >> 4 * (column % 8) & 15) - 8
            z = (int(held[f"{name}_zero_point"][row // 8, column // 32]) >> 4 * (row % 8) & 15) - 8
            assert float(dense[row, column]) == (q - z) * float(held[f"{name}_scale"][row, column // 32])


def refused(folder, change, match):
    """What load_model says of a folder whose quantization_config was changed."""
    path = folder / "config.json"
    data = json.loads(path.read_text())
    change(data["quantization_config"])
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=match):
        load_model(folder)


CHANGES = {
    "method": (lambda said: said.update(quant_method="gptq"), "quant_method='gptq'"),
    "format": (lambda said: said.update(format="float-quantized"), "format='float-quantized'"),
    "two groups": (lambda said: said["config_groups"].update(other={}), "config_groups"),
    "activations": (
        lambda said: said["config_groups"]["group_0"].update(input_activations={"num_bits": 8}), "input_activations",
    ),
    "floats": (lambda said: said["config_groups"]["group_0"]["weights"].update(type="float"), "type='float'"),
    "order": (lambda said: said["config_groups"]["group_0"]["weights"].update(actorder="group"), "actorder='group'"),
    "bits": (lambda said: said["config_groups"]["group_0"]["weights"].update(num_bits=3), "num_bits=3"),
    "strategy": (lambda said: said["config_groups"]["group_0"]["weights"].update(strategy="block"), "strategy=block"),
    "group": (lambda said: said["config_groups"]["group_0"]["weights"].update(group_size=48), "group=48"),
    "words": (lambda said: said["config_groups"]["group_0"]["weights"].update(group_size="big"), "group_size=big"),
    "zero points": (lambda said: said["config_groups"]["group_0"]["weights"].update(symmetric=True), "zero_point"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_other_ways_to_quantise_are_refused(change, folder):
    """What we do not compute is named, never computed in another way."""
    refused(folder, *CHANGES[change])


@pytest.mark.parametrize("part", ["_packed", "_scale", "_zero_point", "_shape"])
def test_layers_that_are_not_whole(part, folder):
    """A part that is missing or misshapen is named; a shape that the weights have not, too."""
    path = folder / "model.safetensors"
    held = load_file(path)
    name = f"model.layers.0.mlp.up_proj.weight{part}"
    save_file(
        {**held, name: held[name].clone() + 1} if part == "_shape" else {**held, name: held[name][:-1].clone()}, path
    )
    with pytest.raises(InputError, match=r"up_proj\.weight"):
        load_model(folder)
    save_file({key: tensor for key, tensor in held.items() if key != name}, path)
    with pytest.raises(InputError, match=r"up_proj\.weight"):
        load_model(folder)


def test_packed_weights_that_nothing_is_said_of(folder):
    """Without its word in config.json a packed weight is an unclaimed one; with the word alone, one is wanted."""
    path = folder / "config.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in data.items() if key != "quantization_config"}))
    with pytest.raises(InputError, match=r"unclaimed: .*weight_shape"):
        load_model(folder)
    path.write_text(json.dumps(data))
    plain = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if "weight_" not in name}
    save_file(plain, folder / "model.safetensors")
    with pytest.raises(InputError, match="none is"):
        load_model(folder)


def test_weights_for_others_are_not_quantised(folder):
    """Whoever writes weights out in another format is told to take the original."""
    with pytest.raises(InputError, match="quantised"):
        Weights(folder)


def test_bf16_has_scales_that_lose_nothing(folder):
    """Scales are numbers that bf16 can hold, so that a model loaded in it has the same weights."""
    wide, short = load_model(folder), load_model(folder, dtype=torch.bfloat16)
    for (_, one), (_, two) in zip(quantized(wide), quantized(short), strict=True):
        (q, scale, zero), (p, other, shift) = one.parts(), two.parts()
        assert other.dtype == torch.bfloat16
        assert torch.equal(q, p)
        assert torch.equal(scale, other.float())
        assert torch.equal(zero, shift)


PEAK = """
import resource, sys, torch
from instar.adapt.quantize import bytes_of
from instar.hub.files import load_model
most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
torch.randn(64, 64) @ torch.randn(64, 64)
before = most()
model = load_model(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
print((most() - before - (40 << 20)) / bytes_of(model))
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("grid", [Grid(8, 0, True), Grid(4, 32, True)], ids=str)
def test_loading_takes_little_more_than_the_weights(grid, dtype, tmp_path, monkeypatch):
    """The dense weights never exist: at its peak loading takes at most 1.15 times what stays, and 40 MB besides."""
    monkeypatch.setattr("instar.adapt.rounding.SHARES", [1.0])
    model = Transformer(ModelConfig(vocab_size=1000, d_model=1024, layers=16, heads=16, kv_heads=16, d_ff=2816))
    quantize(model, grid)
    save_model(model, tmp_path)
    del model
    done = subprocess.run([sys.executable, "-c", PEAK, tmp_path, dtype], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.15
