"""Whichever way a reference is got, it says the same, and nothing of it moves while the model learns."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from instar.adapt.lora import attach, copied, using, weights_of
from instar.config import InputError
from instar.config.options import LoraOptions
from instar.data.branches import PreferenceCollate, PreferenceRows
from instar.train.dist import Alone
from instar.train.logprobs import answer_logprobs
from instar.train.preferences import direct_preference
from instar.train.reference import Reference, pick, precompute, unfilled


@pytest.fixture
def adapted(make_model):
    """A model with dropout and an adapter, `previous`, that says something, and `policy`, a copy of it, that is
    active."""
    model = make_model(dropout=0.3)
    attach(model, "previous", LoraOptions(rank=2), seed=1)
    with torch.no_grad():
        for weight in weights_of(model, "previous").values():
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    copied(model, "previous", "policy")
    return model.eval()


@pytest.fixture
def stage_of(pairs):
    """stage_of(model, folder): as much of a stage as a reference looks at."""
    return lambda model, folder: _stage(pairs.store(), model, folder)


def _stage(store, model, folder):
    store, empty = unfilled(store), unfilled(store.only(np.zeros(4, bool)))
    said = []

    def rows(part):
        return PreferenceRows(part, 16, True)

    def collate(part, whole):
        return PreferenceCollate(part, rows(part).width, 0, True, whole)

    return SimpleNamespace(
        model=model, learnt=store, kept=empty, folder=folder, device=torch.device("cpu"), ranks=Alone(),
        task=SimpleNamespace(rows=rows, collate=collate), loader=SimpleNamespace(rows=rows(store), micro_rows=2),
        options=SimpleNamespace(quiet=True, held_out=0.0), train=SimpleNamespace(context=16), say=said.append,
        said=said, inputs=lambda: {"data": "d", "parent": "p"},
    )  # fmt: skip


def begun(how, stage):
    reference = Reference(how)
    reference.begin(stage)
    return reference


def moved(model):
    """The policy after a large step."""
    with torch.no_grad():
        for weight in weights_of(model, "policy").values():
            weight += 0.5


def losses(model, reference, stage):
    """Of all pairs, in training, without dropout of its own."""
    rows = stage.loader.rows
    figures = stage.learnt.references
    if figures is not None and np.isnan(figures).any():  # nothing was computed beforehand
        stage.learnt = replace(stage.learnt, references=None)
    batch = stage.task.collate(stage.learnt, False)([rows[n] for n in range(len(rows))])
    torch.manual_seed(3)
    total, pairs = direct_preference(reference, beta=0.3)(model, batch).terms["loss"]
    return total.item() / pairs


def test_all_ways_give_equal_losses(adapted, stage_of, pairs, tmp_path):
    """precomputed, a copy and the untouched adapter agree before and after the policy moved, in training and out."""
    with using(adapted, "policy"):
        stages = {how: stage_of(adapted, tmp_path / how) for how in ("precomputed", "copy", "previous")}
        found = {how: begun(how, stage) for how, stage in stages.items()}
        for training in (False, True):
            before = {how: losses(adapted.train(training), found[how], stages[how]) for how in found}
            assert before["copy"] == pytest.approx(before["previous"], abs=1e-6)
            assert before["precomputed"] == pytest.approx(before["previous"], abs=1e-6)
        moved(adapted)
        after = {how: losses(adapted.eval(), found[how], stages[how]) for how in found}
        assert after["copy"] == pytest.approx(after["previous"], abs=1e-6)
        assert after["precomputed"] == pytest.approx(after["previous"], abs=1e-6)
        assert abs(after["copy"] - before["copy"]) > 1e-3


def test_base_is_the_model_without_adapters(adapted, stage_of, pairs, tmp_path):
    """The bare base is another reference than the previous adapter, and equals a copy that never had one."""
    batch = pairs.packed(True)[0]
    with using(adapted):
        bare, _ = answer_logprobs(adapted, batch)
    with using(adapted, "policy"):
        base = begun("base", stage_of(adapted, tmp_path))(adapted.train(), batch)
        own, _ = answer_logprobs(adapted.eval(), batch)
    assert torch.equal(base, bare)
    assert (base - own).abs().max() > 1e-2
    assert not base.requires_grad


def test_a_reference_leaves_the_model_as_it_was(adapted, stage_of, pairs, tmp_path):
    """Training goes on with the same adapter and with dropout after the reference was asked."""
    with using(adapted, "policy"):
        adapted.train()
        begun("previous", stage_of(adapted, tmp_path))(adapted, pairs.packed(True)[0])
        assert adapted.training
        assert adapted.active == ("policy",)


def test_ranks_share_the_work(make_model, pairs, on_ranks):
    """Two ranks compute what one does, each half of the rows."""
    model, store = make_model().eval(), pairs.store()
    rows = PreferenceRows(store, 12, True)
    collate = PreferenceCollate(store, rows.width, 0, True)
    assert len(rows) > 2

    def work(ranks, counted):
        return precompute(model, rows, collate, len(store), micro_rows=1, ranks=ranks, each=counted.append)

    counted, mine = [], []
    alone = work(Alone(), counted)
    shared = on_ranks(2, lambda ranks: work(ranks, mine))
    assert all(torch.equal(found, alone) for found in shared)
    assert sum(counted) == sum(mine) == len(rows)
    assert (alone < 0).all()


def test_a_run_that_goes_on_reads_what_it_computed(make_model, stage_of, tmp_path):
    """The second start takes the same bits from the folder although its model says something else by then; other data
    or a damaged file are computed anew."""
    model, other = make_model().eval(), make_model(norm_eps=0.5).eval()
    first = stage_of(model, tmp_path)
    begun("precomputed", first)
    wanted = first.learnt.references.copy()
    assert any("4 pairs" in text for text in first.said)
    second = stage_of(other, tmp_path)
    begun("precomputed", second)
    assert (second.learnt.references == wanted).all()
    assert second.said == []
    third = stage_of(other, tmp_path)
    third.inputs = lambda: {"data": "another", "parent": "p"}
    begun("precomputed", third)
    assert (third.learnt.references != wanted).any()
    begun("precomputed", stage_of(model, tmp_path))
    model.compute = torch.bfloat16  # those of another dtype are other figures
    begun("precomputed", short := stage_of(model, tmp_path))
    assert short.said
    model.compute = None
    begun("precomputed", stage_of(model, tmp_path))
    path = tmp_path / "reference.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    begun("precomputed", fourth := stage_of(model, tmp_path))
    assert (fourth.learnt.references == wanted).all()
    assert fourth.said


def test_a_trial_needs_no_figures(make_model, stage_of, tmp_path):
    """A forecast fills the places with something finite, computes nothing and writes nothing."""
    stage = stage_of(make_model(), tmp_path)
    Reference("precomputed").begin(stage, trial=True)
    assert (stage.learnt.references == 0).all()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("adapted", "previous", "name", "wanted"),
    [
        (False, False, "auto", "precomputed"), (True, False, "auto", "base"), (True, True, "auto", "previous"),
        (True, True, "base", "base"), (False, False, "copy", "copy"), (True, True, "precomputed", "precomputed"),
        (True, False, "sft", "sft"),
    ],
)  # fmt: skip
def test_auto_takes_what_there_is(adapted, previous, name, wanted):
    """Full fine-tuning computes its reference once; an adapter is held against the one before it, or the bare base."""
    assert pick(name, adapted=adapted, previous=previous, names=("sft",)) == wanted


@pytest.mark.parametrize(
    ("adapted", "name", "words"),
    [
        (False, "base", "reference=base with full fine-tuning"),
        (False, "previous", "reference=previous with full fine-tuning"),
        (True, "previous", "came without an adapter"),
        (True, "stf", "reference=stf: neither a folder nor one of auto, precomputed, copy, base, previous, sft"),
    ],
)
def test_a_reference_that_is_not_there_is_refused(adapted, name, words):
    """What this stage has not is named, with the remedy."""
    with pytest.raises(InputError, match=words):
        pick(name, adapted=adapted, previous=False, names=("sft",) if adapted else ())
