"""Every objective runs on the one loop from files to a folder that loads again, and says what it cannot do."""

import json
from dataclasses import replace

import pytest
import torch

from instar.batch import IGNORE
from instar.config import InputError
from instar.config.options import ClassifyOptions, EvaluateOptions, NoiseOptions, PretrainOptions, TrainOptions
from instar.config.presets import preset
from instar.hub.files import save_model
from instar.hub.folders import load
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer
from instar.train import plan, stages
from instar.train.task import OBJECTIVES

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana")
THINGS = ("ball", "cup", "book", "kite", "drum")
TEXTS = [f"{name} has the {thing}. {name} likes the {thing} very much." for name in NAMES for thing in THINGS]
SMALL = dict(d_model=32, layers=2, heads=2, max_positions=96)
PAIR = preset("transformer-tiny", **SMALL | {"encoder_layers": 2, "d_ff": 64, "dropout": 0.0})
MODELS = {
    "causal": preset("nano", **SMALL),
    "masked": preset("bert-nano", **SMALL | {"dropout": 0.0, "attention_dropout": 0.0}),
    "span": preset("t5-nano", **SMALL | {"encoder_layers": 1}),
    "denoise": PAIR,
    "seq2seq": PAIR,
}
TRAIN = TrainOptions(context=48, batch_tokens=192, steps=4, lr=3e-3)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Texts, pairs, labelled texts and labelled words, and a tokenizer with a mask and sentinels."""
    folder = tmp_path_factory.mktemp("files")
    records = {
        "texts": [{"text": text} for text in TEXTS],
        "pairs": [{"en": text, "up": text.upper()} for text in TEXTS],
        "labelled": [{"text": text, "label": text.split()[3].rstrip(".")} for text in TEXTS],
        "words": [{"tokens": text.split(), "labels": [str(w in NAMES) for w in text.split()]} for text in TEXTS],
    }
    for name, made in records.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, made)) + "\n")
    both = [*TEXTS, *(text.upper() for text in TEXTS)]
    Tokenizer.train(both, 384, masks=True, sentinels=16).save(folder / "tokenizer")
    return folder


def options_of(files, out, objective, **changes):
    pairs = objective == "seq2seq"
    data = files / ("pairs.jsonl" if pairs else "texts.jsonl")
    changes = ({"source": "en", "target": "up"} if pairs else {}) | changes
    plain = PretrainOptions(
        data=(str(data),),
        tokenizer=str(files / "tokenizer"),
        out=str(out),
        objective=objective,
        held_out=0.2,
        dtype="fp32",
        quiet=True,
        model=MODELS[objective],
        train=TRAIN,
        evaluate=EvaluateOptions(samples=1),
    )
    return replace(plain, **changes)


@pytest.fixture(scope="module")
def encoder(files, tmp_path_factory):
    """A masked model after four steps."""
    out = tmp_path_factory.mktemp("encoder") / "run"
    stages.pretrain(options_of(files, out, "masked"))
    return out


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_from_files_to_a_folder(files, tmp_path, objective):
    """Four steps, a held-out loss near that of guessing, and a folder whose model computes the same."""
    report = stages.pretrain(options_of(files, tmp_path / "run", objective))
    assert report["steps"] == 4
    assert 0 < report["held_out_loss"] < 8
    assert (report["bits_per_byte"] is not None) == (objective == "causal")
    model, tokenizer = load(tmp_path / "run")
    assert model.config == replace(
        MODELS[objective], vocab_size=384, start=tokenizer.pad if model.encoder is not None else -1
    )
    samples = (tmp_path / "run" / "samples.jsonl").is_file()
    assert samples == (objective != "masked")


@pytest.mark.parametrize("objective", sorted(OBJECTIVES.keys() - {"seq2seq"}))  # whose rows go one by one
def test_a_run_in_parts_is_the_run_in_one(files, tmp_path, objective):
    """Two rows at a time or all of them: the same loss, since noise belongs to a row's place and not to its batch."""
    wholes = stages.pretrain(options_of(files, tmp_path / "whole", objective))
    train = replace(TRAIN, micro_tokens=TRAIN.context)
    parts = stages.pretrain(options_of(files, tmp_path / "parts", objective, train=train))
    assert parts["training_loss"] == pytest.approx(wholes["training_loss"], rel=1e-4)
    assert parts["teaching_tokens"] == wholes["teaching_tokens"]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_shape_that_cannot_learn_it_is_refused(files, tmp_path, objective):
    """A decoder is no encoder-decoder, an encoder sees what it should predict: both are told by name, before work."""
    wrong = MODELS["masked"] if objective == "causal" else MODELS["causal"]
    with pytest.raises(InputError, match=f"objective={objective} with model.encoder_layers=0, model.causal="):
        stages.pretrain(options_of(files, tmp_path / "run", objective, model=wrong))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("objective", "changes", "message"),
    [
        ("span", {"noise": NoiseOptions(rate=0.4, span_length=1.0)}, "sentinels"),
        ("masked", {"noise": NoiseOptions(rate=1.5)}, "rate"),
        ("seq2seq", {"source": "de"}, 'no "de"'),
        ("seq2seq", {"train": replace(TRAIN, compile=True)}, "train.compile with objective=seq2seq"),
        ("seq2seq", {"model": replace(PAIR, source_vocab_size=9)}, "source_vocab_size=9"),
        ("seq2seq", {"packing": "best-fit"}, "packing=best-fit with objective=seq2seq, which does not look at it"),
        ("causal", {"noise": NoiseOptions(rate=0.1)}, "noise.rate=0.1 with objective=causal"),
        ("span", {"noise": NoiseOptions(static=True)}, "noise.static=True with objective=span"),
        ("masked", {"model": replace(MODELS["masked"], position_start=2)}, "pad_token_id"),
        ("causal", {"train": replace(TRAIN, smoothing=2.0)}, "smoothing=2.0"),
    ],
)
def test_noise_and_keys_that_cannot_be_are_refused(files, tmp_path, objective, changes, message):
    with pytest.raises(InputError, match=message):
        stages.pretrain(options_of(files, tmp_path / "run", objective, **changes))
    assert not (tmp_path / "run").exists()


def test_static_holes_stay(files, tmp_path):
    """Static noise hides the same tokens in every pass, dynamic noise others."""
    for static in (True, False):
        options = options_of(files, tmp_path / "run", "masked", noise=NoiseOptions(static=static))
        stage = stages.stage_of(options, plan.plan_pretrain, say=lambda text: None)
        steps = 2 * stage.loader.steps_per_epoch
        seen = {place for _ in range(steps) for place in _places(next(stage.loader))}
        assert (len(seen) == len({row for row, _ in seen})) == static


def _places(batch):
    """What each row shows where nothing is hidden, and which tokens are hidden there."""
    for tokens, targets in zip(batch.tokens, batch.targets):
        told = torch.where(targets == IGNORE, tokens, targets)
        yield tuple(told.tolist()), tuple((targets != IGNORE).nonzero().flatten().tolist())


@pytest.mark.parametrize("kind", ["texts", "words"])
def test_labels_are_learnt_from_a_pretrained_encoder(files, encoder, tmp_path, kind):
    """The body is the parent's, the head is new, the folder says the labels' names; fresh weights begin elsewhere."""
    data = files / ("labelled.jsonl" if kind == "texts" else "words.jsonl")
    options = ClassifyOptions(
        model=str(encoder), data=(str(data),), out=str(tmp_path / "run"), kind=kind, held_out=0.2, dtype="fp32",
        quiet=True, train=replace(TRAIN, lr=1e-3),
    )  # fmt: skip
    parent, _ = load(encoder)
    begun = plan.plan_classify(options).model()
    assert torch.equal(begun.embed.weight, parent.embed.weight)
    fresh = plan.plan_classify(replace(options, fresh=True)).model()
    assert not torch.equal(fresh.embed.weight, parent.embed.weight)
    report = stages.classify(options)
    assert 0 <= report["held_out_accuracy"] <= 1
    model, _ = load(tmp_path / "run")
    assert model.config.dropout == parent.config.dropout
    assert model.config.heads_of == (("classify",) if kind == "texts" else ("tokens",))
    assert model.config.label_names == (tuple(sorted(THINGS)) if kind == "texts" else ("False", "True"))


def test_a_decoder_learns_labels_at_the_last_token(files, tmp_path):
    """A causal model answers at the end of a text, where it has read all of it."""
    stages.pretrain(options_of(files, tmp_path / "parent", "causal"))
    options = ClassifyOptions(
        model=str(tmp_path / "parent"), data=(str(files / "labelled.jsonl"),), out=str(tmp_path / "run"), held_out=0.2,
        dtype="fp32", quiet=True, train=TRAIN,
    )  # fmt: skip
    stages.classify(options)
    assert load(tmp_path / "run")[0].config.pooling == "last"


def test_labels_overfit(files, encoder, tmp_path):
    """The labels of the training texts are learnt by heart."""
    options = ClassifyOptions(
        model=str(encoder), data=(str(files / "labelled.jsonl"),), out=str(tmp_path / "run"), held_out=0.0,
        dtype="fp32", quiet=True, train=replace(TRAIN, steps=60, lr=3e-3, batch_tokens=960),
    )  # fmt: skip
    assert stages.classify(options)["training_loss"] < 0.5


def test_an_encoder_decoder_learns_no_labels_and_no_dialogues(files, tmp_path):
    stages.pretrain(options_of(files, tmp_path / "pair", "seq2seq"))
    options = ClassifyOptions(
        model=str(tmp_path / "pair"), data=(str(files / "labelled.jsonl"),), out=str(tmp_path / "run"), train=TRAIN
    )
    with pytest.raises(InputError, match="labels are learnt by an encoder or a decoder alone"):
        stages.classify(options)


def test_what_a_router_has_learnt_beside_its_weights_is_kept(files, tmp_path):
    """Story: the bias that balances experts is no parameter, and a new head lost it."""
    shape = preset("nano", **SMALL, vocab_size=384, experts=4, d_expert=16, balance_by="bias")
    model = Transformer(shape)
    model.blocks[0].feed_forward.bias += torch.arange(4)
    save_model(model, tmp_path / "parent")
    Tokenizer.load(files / "tokenizer").save(tmp_path / "parent")
    options = ClassifyOptions(
        model=str(tmp_path / "parent"), data=(str(files / "labelled.jsonl"),), out=str(tmp_path / "run"), train=TRAIN
    )
    born = plan.plan_classify(options).model()
    assert born.blocks[0].feed_forward.bias.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_tokens_of_both_sides_are_counted(files, tmp_path):
    """A translator reads a source for each target, and no padding."""
    options = options_of(files, tmp_path / "run", "seq2seq")
    loader = stages.stage_of(options, plan.plan_pretrain, say=lambda text: None).loader
    batches = [next(loader) for _ in range(4 * loader.micro_batches)]
    sides = [(batch.tokens, batch.view) for batch in batches] + [(b.source, b.source_view) for b in batches]
    read = sum(tokens.numel() if view.keep is None else int(view.keep.sum()) for tokens, view in sides)
    report = stages.pretrain(options)
    assert report["tokens"] == read > 1.5 * report["teaching_tokens"]


@pytest.mark.parametrize("objective", ["span", "denoise"])
def test_documents_begin_as_the_tokenizer_begins_them(files, tmp_path, objective):
    """The begin token stands before each source and is never hidden, and the text ends with its end."""
    stage = stages.stage_of(options_of(files, tmp_path / "run", objective), plan.plan_pretrain, say=lambda text: None)
    tokenizer = stage.plan.tokenizer
    for _ in range(4):
        batch = next(stage.loader)
        starts = batch.source_view.positions == 0 if batch.source_view.positions is not None else None
        if starts is None:  # one document a row
            assert (batch.source[:, 0] == tokenizer.bos).all()
        else:
            real = starts if batch.source_view.keep is None else starts & batch.source_view.keep
            assert (batch.source[real] == tokenizer.bos).all()
            assert real[:, 0].all()
