"""Stages that train an adapter: what learns, what is stored, that resuming is exact, and what a plan counts."""

import json
import signal
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from instar.adapt.folders import load as load_merged
from instar.adapt.folders import load_adapted, save_adapter
from instar.adapt.lora import attach, freeze, weights_of
from instar.adapt.quantize import quantize
from instar.config import InputError, ModelConfig
from instar.config.options import (
    CheckpointOptions,
    ClassifyOptions,
    EvaluateOptions,
    LoraOptions,
    SftOptions,
    TrainOptions,
)
from instar.config.presets import preset
from instar.data.loader import Loader
from instar.hub.folders import load, save
from instar.model.grid import Grid
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer
from instar.train import stages
from instar.train.adapting import Adaptation, begin, lighten
from instar.train.forecast import memory
from instar.train.objectives import cross_entropy
from instar.train.trainer import Trainer

NAMES, THINGS = ("Ada", "Ben", "Cleo", "Dan"), ("ball", "cup", "book", "kite")
PAIRS = [(name, thing) for name in NAMES for thing in THINGS]
SHAPE = preset("nano", vocab_size=320, d_model=32, layers=2, heads=2, max_positions=96, tied=True)
TRAIN = TrainOptions(context=48, batch_tokens=192, steps=4, lr=1e-2, warmup=0.0)
LORA = LoraOptions(rank=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model, dialogues and labelled texts."""
    folder = tmp_path_factory.mktemp("files")
    tokenizer = Tokenizer.train([f"{name} has the {thing}." for name, thing in PAIRS], 320)
    save(Transformer(SHAPE, seed=1), tokenizer, folder / "base")
    talks = [
        [{"role": "user", "content": f"What has {name}?"}, {"role": "assistant", "content": f"The {thing}."}]
        for name, thing in PAIRS
    ]
    (folder / "talks.jsonl").write_text("\n".join(json.dumps({"messages": talk}) for talk in talks))
    labelled = [{"text": f"{name} has the {thing}.", "label": thing} for name, thing in PAIRS]
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, labelled)))
    return folder


@pytest.fixture
def options(files, tmp_path):
    return SftOptions(
        model=str(files / "base"), data=(str(files / "talks.jsonl"),), out=str(tmp_path / "run"), dtype="fp32",
        quiet=True, train=TRAIN, lora=LORA, evaluate=EvaluateOptions(samples=0), checkpoint=CheckpointOptions(every=2),
    )  # fmt: skip


def test_only_the_adapter_learns_and_is_stored(options, files, tmp_path):
    """The run says how many weights learn, stores those and no others, and leaves a folder that peft reads."""
    said = []
    report = stages.sft(options, say=said.append)
    run = tmp_path / "run"
    model, _ = load_adapted(run)
    own = weights_of(model, "default")
    assert report["trained"] == sum(weight.numel() for weight in own.values())
    assert report["trained"] + report["frozen"] == report["parameters"]
    assert report["frozen"] == Transformer(SHAPE, seed=None).size()
    assert any(f"of which {report['trained']:,} learn" in line for line in said)
    state = run / "checkpoints" / "step-000000004" / "state"
    assert load_file(state / "weights.safetensors").keys() == own.keys()
    assert {name.rpartition(":")[0] for name in load_file(state / "optimizer.safetensors")} == own.keys()
    assert not (run / "model.safetensors").exists()
    assert Tokenizer.load(run).fingerprint == Tokenizer.load(files / "base").fingerprint
    before, _ = load(files / "base")
    assert all(torch.equal(weight, model.get_parameter(name)) for name, weight in before.named_parameters())
    exported, _ = load_adapted(run / "checkpoints" / "step-000000004" / "model")
    assert all(torch.equal(weight, own[name]) for name, weight in weights_of(exported, "default").items())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_going_on_is_exact(options, tmp_path, asynchronous):
    """A run that was stopped and goes on ends with the same bits as one that was not, in NF4 and with dropout too."""
    options = replace(
        options, lora=replace(LORA, bits=4, dropout=0.25, tokens=("<|think|>",)),
        checkpoint=CheckpointOptions(every=2, asynchronous=asynchronous),
    )  # fmt: skip
    stages.sft(replace(options, out=str(tmp_path / "whole")))

    def stop(text):
        if text.startswith("sft: step 2"):
            signal.raise_signal(signal.SIGTERM)

    with suppress(stages.Interrupted):
        stages.sft(options, say=stop)
    stages.sft(replace(options, resume=True))
    found = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "run")]
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_another_base_is_not_gone_on_with(options, files, tmp_path):
    """Frozen weights come from the parent: where it was changed in between, the run says so."""
    home = tmp_path / "base"
    model, tokenizer = load(files / "base")
    save(model, tokenizer, home)
    options = replace(options, model=str(home), train=replace(TRAIN, steps=2))
    stages.sft(options)
    (tmp_path / "run" / "report.json").unlink()
    save(Transformer(SHAPE, seed=7), tokenizer, home)
    with pytest.raises(InputError, match="parent was"):
        stages.sft(replace(options, resume=True))


@pytest.mark.parametrize("bits", [8, 4])
def test_on_top_of_a_quantised_model(options, files, tmp_path, bits):
    """A model of whole numbers takes an adapter, and without one is refused with that remedy."""
    model, tokenizer = load(files / "base")
    quantize(model, Grid(bits, 0 if bits == 8 else 32, True))
    save(model, tokenizer, tmp_path / "few")
    options = replace(options, model=str(tmp_path / "few"))
    report = stages.sft(options)
    assert report["frozen"] == Transformer(SHAPE, seed=None).size()
    merged, _ = load_merged(tmp_path / "run")
    apart, _ = load_adapted(tmp_path / "run")
    ids = torch.arange(9)[None]
    torch.testing.assert_close(merged(ids), apart(ids), rtol=0.02, atol=0.05)
    with pytest.raises(InputError, match=r"--lora\.rank"):
        begin(str(tmp_path / "few"), LoraOptions())
    with pytest.raises(InputError, match=rf"lora.bits=4, and .*few is quantised to {bits} bits .*leave lora.bits out"):
        begin(str(tmp_path / "few"), LoraOptions(rank=2, bits=4))


def test_labels_with_an_adapter(files, tmp_path):
    """A new head learns whole beside the adapter, and travels with it."""
    options = ClassifyOptions(
        model=str(files / "base"), data=(str(files / "labels.jsonl"),), out=str(tmp_path / "c"), dtype="fp32",
        quiet=True, train=replace(TRAIN, epochs=1.0), lora=LORA, evaluate=EvaluateOptions(samples=0),
    )  # fmt: skip
    report = stages.classify(options)
    model, _ = load_adapted(tmp_path / "c")
    assert report["trained"] == sum(w.numel() for w in weights_of(model, "default").values()) + 4 * 32
    assert model.config.label_names == tuple(sorted(THINGS))
    with pytest.raises(InputError, match="fresh=true with an adapter"):
        stages.classify(replace(options, out=str(tmp_path / "d"), fresh=True))


CHANGES = {
    "rank": (dict(rank=3), "lora.rank=3, and .* rank=2"),
    "alpha": (dict(rank=2, alpha=3.0), "lora.alpha=3, and .* alpha=4"),
    "targets": (dict(targets=("q",)), "lora.targets=q, and .* targets=all-linear"),
    "bits": (dict(bits=4), "lora.bits=4, and .* bits=0"),
    "tokens": (dict(tokens=("<|x|>",)), r"lora.tokens=<\|x\|>, and .* tokens=none"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_chain_keeps_the_shape_of_its_adapter(options, tmp_path, case):
    """What differs from the adapter that a stage goes on with is refused with both remedies."""
    stages.sft(replace(options, train=replace(TRAIN, steps=1)))
    with pytest.raises(InputError, match=CHANGES[case][1] + r", .*leave lora\..* out, or .*instar merge"):
        begin(str(tmp_path / "run"), LoraOptions(**CHANGES[case][0]))
    assert begin(str(tmp_path / "run"), LORA).adaptation.chained
    assert begin(str(tmp_path / "run"), LoraOptions(dropout=0.1)).model.blocks[0].attention.q.adapters["default"].drop.p


def test_options_without_a_rank(options):
    """An option of adapters without an adapter is no silent full fine-tuning."""
    with pytest.raises(InputError, match=r"lora.rank=0 and lora.alpha is set"):
        begin(options.model, LoraOptions(alpha=8.0))


def stir(weights):
    """Random values in the place of an adapter's, so that it says something."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in weights:
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))


def test_frozen_matrices_in_the_dtype_of_the_products():
    """They are half as large, and what is said and learnt has the same bits."""
    found = []
    for light in (False, True):
        model = Transformer(SHAPE, seed=1)
        model.compute = torch.bfloat16
        attach(model, "sft", LORA)
        stir(weights_of(model, "sft").values())
        freeze(model, train="sft")
        if light:
            lighten(model, torch.bfloat16)
        logits = model(torch.arange(20)[None])
        logits.square().mean().backward()
        found.append([logits, *(weight.grad for weight in weights_of(model, "sft").values())])
    assert model.embed.weight.dtype == model.blocks[0].attention.q.weight.dtype == torch.bfloat16
    assert model.heads["lm"].weight is model.embed.weight
    wide = [model.norm.weight, *weights_of(model, "sft").values()]
    assert {weight.dtype for weight in wide} == {torch.float32}
    assert all(torch.equal(one, other) for one, other in zip(*found))


def test_a_frozen_router_keeps_its_bias(rows, collate):
    """Experts that are balanced by a bias are balanced in training the model, not its adapter."""
    shape = ModelConfig(
        vocab_size=61, d_model=16, layers=1, heads=2, max_positions=32, experts=4, experts_used=1, d_expert=8,
        balance_by="bias", balance=0.1,
    )  # fmt: skip
    model = Transformer(shape, seed=1)
    attach(model, "sft", LORA)
    freeze(model, train="sft")
    trainer = Trainer(model, cross_entropy, Loader(rows, collate, batch_rows=8), replace(TRAIN, steps=2))
    trainer.fit()
    assert not model.blocks[0].feed_forward.bias.any()
    assert model.blocks[0].feed_forward.load is None


def test_a_plan_counts_what_learns():
    """Gradients and moments are those of the adapter; in 4 bits the model itself is smaller too."""
    shape = preset("nano", vocab_size=512, d_model=128, layers=2, heads=2)
    train, fp32 = TrainOptions(steps=1, context=64, batch_tokens=256), torch.float32
    whole = memory(shape, train, fp32, rows=4)
    lora = memory(shape, train, fp32, rows=4, adaptation=Adaptation(None, LoraOptions(rank=4, alpha=8.0)))
    four = memory(shape, train, fp32, rows=4, adaptation=Adaptation(None, LoraOptions(rank=4, alpha=8.0, bits=4)))
    model = Transformer(shape, seed=None)
    attach(model, "x", LoraOptions(rank=4))
    own = 4 * sum(weight.numel() for weight in weights_of(model, "x").values())
    assert (lora["gradients"], lora["moments"]) == (own, 2 * own)
    assert lora["weights"] == whole["weights"] + own
    assert lora["activations"] < whole["activations"]
    assert lora["needed"] < whole["needed"]
    dense = sum(weight.nbytes for name, weight in model.named_parameters() if weight.ndim == 2 and name.count(".") == 4)
    assert four["weights"] < lora["weights"] - 0.8 * dense


def test_an_adapter_that_moved_with_its_base_goes_on(options, files, tmp_path):
    """The next stage writes where the base lies now."""
    home = tmp_path / "was" / "base"
    model, tokenizer = load(files / "base")
    save(model, tokenizer, home)
    stages.sft(replace(options, model=str(home), out=str(tmp_path / "was" / "run"), train=replace(TRAIN, steps=1)))
    (tmp_path / "was").rename(tmp_path / "now")
    begun = begin(str(tmp_path / "now" / "run"), LoraOptions())
    assert begun.adaptation.base.name == str(tmp_path / "now" / "base")
    save_adapter(begun.model, "default", tmp_path / "again", begun.adaptation.base, tokenizer)
    load_adapted(tmp_path / "again")
