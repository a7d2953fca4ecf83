"""Folders that hold an adapter: found with their base, refused where the base is another, merged or kept apart."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import instar
from instar.adapt import folders, peft
from instar.adapt.growth import add_tokens, put_heads
from instar.adapt.lora import attach, weights_of
from instar.adapt.nf4 import to_nf4
from instar.config import InputError
from instar.config.options import LoraOptions
from instar.config.presets import preset
from instar.hub.folders import folder_digest, save
from instar.hub.folders import load as load_whole
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

SHAPE = preset("nano", vocab_size=320, d_model=32, layers=2, heads=4)
TEXTS = ["Ada has the ball.", "Ben likes the red kite very much."] * 5


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, 320)


@pytest.fixture
def base(tokenizer, tmp_path):
    """The folder of a model."""
    save(Transformer(SHAPE, seed=3), tokenizer, tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(base, stir, tmp_path):
    """The folder of an adapter for it, and what it says about some ids."""
    model, tokenizer = load_whole(base)
    attach(model, "sft", LoraOptions(rank=2))
    stir(weights_of(model, "sft").values())
    folders.save_adapter(model, "sft", tmp_path / "adapter", folders.base_of(base), tokenizer)
    return tmp_path / "adapter"


@pytest.fixture
def ids():
    return torch.randint(0, 290, (2, 9), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_merged_and_apart_say_the_same(base, adapter, ids):
    """`load` gives a model like any other, `load_adapted` the base with the adapter beside it."""
    merged, tokenizer = instar.load(adapter)
    apart, _ = folders.load_adapted(adapter, adapter="policy")
    bare, _ = load_whole(base)
    assert apart.active == ("policy",)
    assert (apart(ids) - bare(ids)).abs().max() > 0.05
    torch.testing.assert_close(merged(ids), apart(ids), rtol=0, atol=1e-5)
    assert torch.equal(instar.load_model(adapter)(ids), merged(ids))
    assert merged.attached == {}
    assert set(merged.state_dict()) == set(bare.state_dict())
    assert all(weight.requires_grad for weight in merged.parameters())
    assert tokenizer.fingerprint == instar.load_tokenizer(base).fingerprint
    half, _ = folders.load(adapter, dtype=torch.bfloat16)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}


@torch.no_grad()
def test_a_folder_with_a_model_is_loaded_as_ever(base, ids):
    """No adapter, nothing active."""
    for model, _ in (folders.load(base), folders.load_adapted(base)):
        assert model.active == ()
        assert torch.equal(model(ids), load_whole(base)[0](ids))


@torch.no_grad()
def test_both_folders_may_move(base, adapter, ids, tmp_path):
    """The base is found beside the adapter where it is no longer where it was; else it is named, with the way out."""
    said = instar.load(adapter)[0](ids)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for folder in (base, adapter):
        shutil.move(folder, moved / folder.name)
    assert torch.equal(instar.load(moved / "adapter")[0](ids), said)
    shutil.move(moved / "base", tmp_path / "far")
    with pytest.raises(InputError, match=rf"was made for {base}, which is not there.*instar merge --base"):
        instar.load(moved / "adapter")
    assert torch.equal(folders.load(moved / "adapter", base=tmp_path / "far")[0](ids), said)


def test_another_base_is_refused_with_both_names(base, adapter, tokenizer):
    """Story: an adapter on a base of the same shape with other weights computes nonsense and says nothing."""
    save(Transformer(SHAPE, seed=4), tokenizer, base)
    with pytest.raises(InputError, match=rf"adapter in {adapter} was made for {base} .*it is another model"):
        instar.load(adapter)
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(adapter)}))
    with pytest.raises(InputError, match="holds an adapter itself"):
        instar.load(adapter)


@torch.no_grad()
def test_an_adapter_beside_a_whole_model_is_not_left_out_silently(base, adapter, ids, tmp_path):
    """Others heed the adapter of such a folder; we load its model, and say so."""
    shutil.copytree(base, tmp_path / "both")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, tmp_path / "both")
    with pytest.warns(UserWarning, match=r"both holds an adapter beside its model, .*move the adapter"):
        model, _ = instar.load(tmp_path / "both")
    assert torch.equal(model(ids), load_whole(base)[0](ids))


@torch.no_grad()
def test_what_else_lies_beside_a_base_is_no_part_of_it(base, adapter, ids):
    """Story: DPO leaves the figures of its reference in its folder; an adapter on that model outlives them."""
    said, before = instar.load(adapter)[0](ids), folder_digest(base)
    save_file({"learnt": torch.zeros(3, 2)}, base / "reference.safetensors")
    assert folder_digest(base) == before
    assert torch.equal(instar.load(adapter)[0](ids), said)


def test_another_shape_is_refused_by_name(base, adapter, tokenizer, tmp_path):
    """A stranger's adapter tells no hash; what does not fit is listed."""
    tensors = dict(peft.read(adapter).tensors)
    save_file(tensors, adapter / "adapter_model.safetensors")  # without our metadata
    save(Transformer(replace(SHAPE, d_model=64, layers=1), seed=4), tokenizer, tmp_path / "other")
    with pytest.raises(InputError, match=r"does not fit .*unclaimed: .*layers\.1.*another shape: .*layers\.0"):
        folders.load(adapter, base=tmp_path / "other")


@torch.no_grad()
def test_a_base_in_four_bits_comes_back_in_four_bits(base, stir, ids, tmp_path):
    """What QLoRA trained said what it did over a base in NF4: so it does merged."""
    model, tokenizer = load_whole(base)
    assert to_nf4(model) == 14
    attach(model, "sft", LoraOptions(rank=2, bits=4))
    stir(weights_of(model, "sft").values())
    folders.save_adapter(model, "sft", tmp_path / "q", folders.base_of(base), tokenizer)
    assert torch.equal(folders.load_adapted(tmp_path / "q")[0](ids), model(ids))
    torch.testing.assert_close(folders.load(tmp_path / "q")[0](ids), model(ids), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_head_travels_with_its_adapter(base, stir, ids, tmp_path):
    """A head for labels is not the base's: it is saved with the adapter, and missing it is an error."""
    model, tokenizer = load_whole(base)
    shape = dict(heads_of=("classify",), labels=3, label_names=("a", "b", "c"), pooling="last")
    assert put_heads(model, replace(model.config, **shape), seed=1) == ["classify"]
    attach(model, "sft", LoraOptions(rank=2))
    stir(weights_of(model, "sft").values())
    stir(model.heads.parameters(), seed=6)
    folders.save_adapter(model, "sft", tmp_path / "c", folders.base_of(base), tokenizer, heads=("classify",))
    said = json.loads((tmp_path / "c" / "adapter_config.json").read_text())
    assert (said["task_type"], said["modules_to_save"]) == ("SEQ_CLS", ["score"])
    again, _ = folders.load_adapted(tmp_path / "c")
    assert torch.equal(again(ids), model(ids))
    assert again.config.label_names == ("a", "b", "c")
    folders.save_adapter(model, "sft", tmp_path / "c", folders.base_of(base), tokenizer)
    with pytest.raises(InputError, match=r"missing: score\.weight"):
        folders.load(tmp_path / "c")


@torch.no_grad()
def test_added_tokens_find_room(base, ids, tmp_path):
    """Spare rows are taken first; then the embedding and the head grow by the mean of what they have."""
    model, tokenizer = load_whole(base)
    had, spare = model(ids), 320 - tokenizer.vocabulary.size
    more, new = add_tokens(model, tokenizer, ["<|a|>", "<|b|>", "<|a|>"])
    assert new == [tokenizer.vocabulary.size, tokenizer.vocabulary.size + 1]
    assert model.config.vocab_size == 320
    assert more.specials["<|b|>"] == new[1]
    assert more.encode("<|a|>") == tokenizer.encode("<|a|>")  # text never becomes one
    many = [f"<|{n}|>" for n in range(spare + 3)]
    more, new = add_tokens(model, tokenizer, many)
    assert model.config.vocab_size == more.vocab_size == more.vocabulary.size == 323
    assert torch.equal(model(ids)[..., :320], had)
    torch.testing.assert_close(model.embed.weight[320], model.embed.weight[:320].mean(0))
    with pytest.raises(InputError, match="is ordinary text to this tokenizer"):
        add_tokens(model, tokenizer, [tokenizer.piece(260)])
    more.save(tmp_path / "t")
    assert Tokenizer.load(tmp_path / "t").fingerprint == more.fingerprint


def test_whole_makes_a_model_for_as_long_as_it_is_wanted(base, adapter):
    """Commands that want files of a whole model get them."""
    with folders.whole(str(base)) as place:
        assert place == str(base)
    with folders.whole(str(adapter)) as place:
        assert load_whole(place)[0].config.vocab_size == 320
    with pytest.raises(InputError, match="no such folder"):
        load_whole(place)
