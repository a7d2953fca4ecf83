"""Trap 21: DPO whose first loss is not ln 2, or stays there. pytorch/torchtune#2275 (it depended on the number of
GPUs), huggingface/trl#701, #1311, #1627 (beta was 0).

Before the first step the model is its own reference, so every pair's loss is -log sigmoid(0) = ln 2; anything else
means that the two are not computed alike (dropout, another mask, another share of a rank). Afterwards the margin has to
grow.
"""

import math
from dataclasses import replace

import pytest
import torch

from instar.adapt.lora import attach, copied, freeze, using, weights_of
from instar.config import InputError, ModelConfig
from instar.config.options import DpoOptions, LoraOptions, TrainOptions
from instar.data.branches import PreferenceCollate, PreferenceRows
from instar.data.loader import Loader
from instar.model.transformer import Transformer
from instar.train.alignment import plan_dpo
from instar.train.dist import Alone
from instar.train.preferences import KINDS, direct_preference
from instar.train.reference import Reference, precompute, unfilled
from instar.train.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = ModelConfig(vocab_size=31, d_model=16, layers=2, heads=2, max_positions=32, qk_norm=True)
STEPS = 12


def born(how):
    """A model as a stage takes it up: for `previous` with an adapter that says something, for `base` with a new one."""
    model = Transformer(CONFIG, seed=3)
    if how == "previous":
        attach(model, "previous", LoraOptions(rank=2), seed=1)
        with torch.no_grad():
            for weight in weights_of(model, "previous").values():
                weight += 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
        copied(model, "previous", "policy")
        freeze(model, train="policy")
    elif how == "base":
        attach(model, "policy", LoraOptions(rank=2), seed=1)
        freeze(model, train="policy")
    return model


class Stage:
    """As much of a stage as a reference and a trainer look at."""

    def __init__(self, pairs, how, ranks=None, compute=None, **changes):
        self.model, self.ranks, self.device = born(how), ranks or Alone(), torch.device("cpu")
        self.model.compute = compute
        store = unfilled(pairs.store()) if how == "precomputed" else pairs.store()
        rows = PreferenceRows(store, 12, True)
        collate = PreferenceCollate(store, rows.width, 0, True)
        if how == "precomputed":
            store.references[:] = precompute(
                self.model, rows, collate, len(store), micro_rows=2, ranks=self.ranks
            ).numpy()  # fmt: skip
            reference = Reference(how, _said=lambda model, batch: pytest.fail("it was asked"))
        else:
            reference = Reference(how)
            reference.begin(self)
        self.reference = reference
        self.loader = Loader(
            rows, collate, batch_rows=2 * (len(rows) // 2), micro_rows=1, rank=self.ranks.rank, world=self.ranks.world
        )
        options = TrainOptions(steps=STEPS, lr=0.02, warmup=0.0, schedule="constant", weight_decay=0.0)
        objective = direct_preference(reference, **{"beta": 0.1} | changes)
        self.trainer = Trainer(self.model, objective, self.loader, options, ranks=self.ranks)

    def run(self):
        """What is told of each step, with the policy's adapter active where there is one."""
        names = ("policy",) if "policy" in self.model.attached else ()
        with using(self.model, *names):
            self.trainer.prepare()
            return [self.trainer.advance() for _ in range(STEPS)]


@pytest.mark.parametrize("how", ["copy", "precomputed", "base", "previous"])
def test_the_first_loss_is_ln_2_and_the_margin_grows(pairs, how):
    """With every kind of reference, to 1e-6; then the loss falls and chosen answers get ahead."""
    records = Stage(pairs, how).run()
    assert records[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert records[0]["margin"] == pytest.approx(0.0, abs=1e-5)
    assert records[-1]["loss"] < math.log(2) - 0.01
    assert records[-1]["margin"] > 0.02
    assert records[-1]["accuracy"] == 1.0


@pytest.mark.parametrize("how", ["copy", "precomputed", "base", "previous"])
def test_bf16_too(pairs, how):
    """The reference goes through the kernels that the policy goes through, of which half precision has others where no
    gradient is wanted."""
    record = Stage(pairs, how, compute=torch.bfloat16).run()[0]
    assert record["loss"] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("how", ["copy", "precomputed"])
def test_it_is_the_same_on_two_ranks(pairs, on_ranks, how):
    """Two ranks begin at ln 2 as one does, and take the same steps."""
    alone = Stage(pairs, how).run()
    both = on_ranks(2, lambda ranks: Stage(pairs, how, ranks).run())
    for records in both:
        assert records[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert [record["loss"] for record in records] == pytest.approx([r["loss"] for r in alone], abs=1e-4)


@pytest.mark.parametrize(("kind", "begins"), [("conservative", 0.693147), ("ipo", 25.0), ("normalised", 0.693147)])
def test_the_others_begin_where_their_formulas_do(pairs, kind, begins):
    """At a margin of 0: ln 2, and (1 / 2 beta)^2 of IPO."""
    assert kind in KINDS
    first = Stage(pairs, "copy", loss=kind).run()[0]
    assert first["loss"] == pytest.approx(begins, abs=1e-5)


def test_without_its_adapter_the_model_is_the_frozen_copy(pairs):
    """After training, log-probabilities of the bare base are bit for bit those of a copy from before."""
    stage = Stage(pairs, "base")
    copy = Reference("copy", model=born("copy"))
    copy.begin(stage)
    stage.run()
    batch, _ = pairs.packed(True)
    assert torch.equal(stage.reference(stage.model, batch), copy(stage.model, batch))


@pytest.mark.parametrize("beta", [0.0, -0.1])
def test_a_beta_that_teaches_nothing_is_refused(beta, tmp_path):
    """Before any work: the plan names it, where a loss of ln 2 for ever would be the only sign."""
    options = replace(DpoOptions(), model=str(tmp_path), data=("nothing.jsonl",), out=str(tmp_path / "out"), beta=beta)
    with pytest.raises(InputError, match=f"beta={beta}"):
        plan_dpo(options)
