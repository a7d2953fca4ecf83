"""What is forecast against what a run takes."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from instar.config import InputError
from instar.config.options import PretrainOptions, TrainOptions
from instar.config.presets import preset
from instar.text.tokenizer import Tokenizer
from instar.train import stages
from instar.train.forecast import forecast, memory
from instar.train.plan import plan_pretrain

INSTAR = str(Path(sys.executable).with_name("instar"))
SHAPE = dict(vocab_size=2048, d_model=256, layers=6, heads=4)
TRAIN = TrainOptions(steps=2, context=256, batch_tokens=4096)
# the sixth is in bf16, which a CPU without such products computes at a crawl
CASES = {
    "plain": (preset("nano", **SHAPE), TRAIN, torch.float32),
    "muon": (
        preset("nano", **SHAPE | dict(layers=3)), replace(TRAIN, optimizer="muon", batch_tokens=1024), torch.float32,
    ),
    "recomputed": (preset("nano", **SHAPE | dict(layers=12)), replace(TRAIN, recompute=True), torch.float32),
    "two micro-batches": (preset("nano", **SHAPE), replace(TRAIN, micro_tokens=2048), torch.float32),
    "gpt2, large vocabulary": (
        preset("gpt2", **SHAPE | dict(vocab_size=20000, max_positions=512)), replace(TRAIN, loss_chunk=512),
        torch.float32,
    ),
    "bf16": (preset("nano", **SHAPE), replace(TRAIN, batch_tokens=2048), torch.bfloat16),
}  # fmt: skip

# Two steps of the real loop on random tokens in packed rows, after two of a small model that warm the process up;
# prints what the process held before and at its peak.
PROGRAM = r"""
import json, os, re, sys, torch
from functools import partial
from instar.batch import Batch, View
from instar.config import ModelConfig, from_dict
from instar.config.options import TrainOptions
from instar.config.presets import preset
from instar.model.transformer import Transformer
from instar.train.objectives import cross_entropy
from instar.train.trainer import Trainer
class Source:
    epoch = 0
    def __init__(self, config, train):
        self.size, self.rows = config.vocab_size, (train.micro_tokens or train.batch_tokens) // train.context
        self.micro_batches, self.context = train.batch_tokens // train.context // self.rows, train.context
    def __next__(self):
        tokens = torch.randint(0, self.size, (self.rows, self.context))
        places = torch.arange(self.context).expand(self.rows, -1).contiguous()
        return Batch(tokens, tokens.roll(-1, 1), View(places, torch.zeros_like(tokens)))
    def state_dict(self): return {}
    def load_state_dict(self, state): pass
def train_it(config, train, dtype):
    model = Transformer(config, seed=1)
    model.compute = dtype
    objective = partial(cross_entropy, chunk=train.loss_chunk)
    Trainer(model, objective, Source(config, train), train, steps=2).fit()
asked = json.load(sys.stdin)
config, train = from_dict(ModelConfig, asked["config"]), from_dict(TrainOptions, asked["train"])
dtype = getattr(torch, asked["dtype"])
torch.set_num_threads(1)
train_it(preset("nano", vocab_size=64, d_model=16, layers=1, heads=2), TrainOptions(context=32, batch_tokens=64), dtype)
before = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
train_it(config, train, dtype)
# not ru_maxrss: a child inherits that of the process that started it
peak = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) * 1024
print(json.dumps([before, peak]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of memory")
@pytest.mark.parametrize(
    "case", ["muon", *(pytest.param(name, marks=pytest.mark.slow) for name in CASES if name != "muon")]
)
def test_bytes_needed_are_within_a_fifth(case):
    """What is counted and what a process takes whose allocator gives back at once differ by at most 20%."""
    config, train, dtype = CASES[case]
    asked = {"config": asdict(config), "train": asdict(train), "dtype": str(dtype).removeprefix("torch.")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(asked), text=True, capture_output=True,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
    )  # fmt: skip
    assert not done.returncode, done.stderr
    before, peak = json.loads(done.stdout)
    rows = (train.micro_tokens or train.batch_tokens) // train.context
    told = memory(config, train, dtype, rows=rows, micro_batches=train.batch_tokens // train.context // rows)
    assert told["needed"] == pytest.approx(peak - before, rel=0.2)


def test_parts_by_hand():
    """A model whose bytes can be counted on paper: 4 a weight, two moments for AdamW, one for Muon's matrices."""
    config = preset("nano", vocab_size=64, d_model=8, layers=1, heads=2, d_ff=32, tied=True)
    weights = 64 * 8 + 4 * 8 * 8 + 3 * 8 * 32 + 3 * 8 + 2 * 4
    told = memory(config, TRAIN, torch.float32, rows=1)
    assert (told["weights"], told["gradients"], told["moments"]) == (4 * weights, 4 * weights, 8 * weights)
    muon = memory(config, replace(TRAIN, optimizer="muon"), torch.float32, rows=1)
    assert told["moments"] - muon["moments"] == 4 * (4 * 8 * 8 + 3 * 8 * 32)


def test_rows_and_recomputation_show():
    """Twice the rows keep twice the activations; recomputation keeps a fraction."""
    config = CASES["plain"][0]
    one, two = (memory(config, TRAIN, torch.float32, rows=rows)["activations"] for rows in (4, 8))
    assert two == pytest.approx(2 * one, rel=0.01)
    assert memory(config, replace(TRAIN, recompute=True), torch.float32, rows=4)["activations"] < one / 5


def test_a_model_larger_than_any_memory_is_forecast_without_it():
    """Nothing is allocated: 70 billion weights are told in a moment, and do not fit."""
    config = preset("nano", vocab_size=128_256, d_model=8192, layers=8, heads=64, kv_heads=8, d_ff=342_000)
    told = memory(config, TRAIN, torch.bfloat16, rows=1)
    layer = 2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 342_000
    assert told["weights"] == pytest.approx(4 * (2 * 128_256 * 8192 + 8 * layer), rel=1e-5)  # but for the norms


@pytest.fixture
def options(tmp_path):
    """Pretraining of a tiny model on a few texts."""
    texts = [f"Number {number} has a red ball and a blue cup." for number in range(200)]
    (tmp_path / "texts.txt").write_text("\n\n".join(texts))
    Tokenizer.train(texts, 320).save(tmp_path / "tokenizer")
    return PretrainOptions(
        data=(str(tmp_path / "texts.txt"),), tokenizer=str(tmp_path / "tokenizer"), out=str(tmp_path / "run"),
        model=preset("nano", d_model=16, layers=1, heads=2), device="cpu", dtype="fp32",
        train=TrainOptions(steps=7, context=32, batch_tokens=64),
    )  # fmt: skip


def test_a_forecast_tells_what_the_run_then_does(options, tmp_path):
    """Weights, steps and tokens are those of the run's own report, and nothing was written before it."""
    told = forecast(stages.stage_of(options, plan_pretrain, say=lambda text: None))
    assert not (tmp_path / "run").exists()
    report = stages.pretrain(options)
    assert (told["parameters"], told["steps"], told["tokens"]) == (report["parameters"], 7, 7 * 64)
    assert told["bytes"]["fits"]
    assert told["seconds"] == pytest.approx(7 * told["seconds_per_step"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [(dict(steps=0, epochs=0.0), "no optimizer step"), (dict(steps=5, warmup=1.0, decay=0.0), "all 5 steps a warm-up")],
)
def test_runs_that_teach_nothing_are_refused(options, changes, message):
    """By the forecast and by the run itself."""
    wrong = replace(options, train=replace(options.train, **changes))
    with pytest.raises(InputError, match=message):
        stages.stage_of(wrong, plan_pretrain, say=lambda text: None)
    with pytest.raises(InputError, match=message):
        stages.pretrain(wrong)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of memory")
def test_the_peak_is_that_of_the_run(options, tmp_path):
    """The peak that `instar plan` tells, and what the process of `instar pretrain` then takes, within 20%."""
    words = [
        "pretrain", "--data", *options.data, "--tokenizer", options.tokenizer, "--out", str(tmp_path / "run"),
        "--train.steps", "6", "--train.batch-tokens", "8192", "--json", "--quiet", "--device", "cpu", "--dtype", "fp32",
    ]  # fmt: skip
    told = subprocess.run([INSTAR, "plan", *words], capture_output=True, text=True)
    assert not told.returncode, told.stderr
    with subprocess.Popen([INSTAR, *words], stdout=subprocess.DEVNULL) as run:
        _, status, used = os.wait4(run.pid, 0)
    assert not status
    assert json.loads(told.stdout)["bytes"]["peak"] == pytest.approx(used.ru_maxrss * 1024, rel=0.2)


def test_a_forecast_keeps_to_the_minutes(options, monkeypatch):
    """Where the run would be cut to what fits, the forecast tells the cut steps: 5 of 40 at 10 seconds in a minute."""
    monkeypatch.setattr("instar.train.forecast._measured", lambda stage: (10.0, 1))
    cut = replace(options, train=replace(options.train, steps=40, minutes=1.0))
    told = forecast(stages.stage_of(cut, plan_pretrain, say=lambda text: None))
    assert (told["steps"], told["seconds"], told["tokens"]) == (5, 50.0, 5 * 64)
