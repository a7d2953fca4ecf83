"""R3: the disk was full, and the run, or its only checkpoint, was lost (huggingface/transformers#27820).

Guard: a run that cannot keep its checkpoints is refused before its first step; a save that the disk refuses later costs
a warning with both figures, the last one of a run an error; training and the older checkpoints go on.

Run as a program, this file trains under a limit on the size of files, which is as good as a full disk.
"""

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from errno import EFBIG, ENOSPC
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from instar.config import InputError
from instar.config.options import CheckpointOptions, EvaluateOptions, PretrainOptions, TrainOptions
from instar.config.presets import preset
from instar.text.tokenizer import Tokenizer
from instar.train import checkpoint, stages
from instar.train.checkpoint import Checkpoints
from instar.train.commit import verify
from instar.train.space import Unwritten

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = (1, 100, 1_000, 3_000, 10_000, 20_000, 30_000, 45_000, 60_000, 10_000_000)
Usage = namedtuple("Usage", "total used free")


def options(folder):
    """A tiny run that saves after every step."""
    texts = [f"{a} has the {b}." for a in ("Ada", "Ben", "Cleo", "Dan") for b in ("ball", "cup", "book")]
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    Tokenizer.train(texts, 300).save(folder / "tokenizer")
    return PretrainOptions(
        data=(str(folder / "texts.jsonl"),), tokenizer=str(folder / "tokenizer"), out=str(folder / "run"),
        held_out=0.0, dtype="fp32", quiet=True, model=preset("nano", d_model=16, layers=1, heads=2, max_positions=64),
        train=TrainOptions(context=16, batch_tokens=64, steps=len(SIZES)), evaluate=EvaluateOptions(samples=0),
        checkpoint=CheckpointOptions(every=1, keep=2),
    )  # fmt: skip


def limited(size):
    """No file may grow beyond so many bytes; -1 lifts that."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def train_on_a_full_disk(folder, asynchronous):
    """Ten steps, each under a limit of its own, the last of a second run under one that is too low."""
    torch.set_num_threads(1)
    usual, steps, told = stages.cross_entropy, [], {}

    def cross_entropy(model, batch, **named):
        if model.training:
            here = Checkpoints(folder / "run" / "checkpoints")
            told[len(steps)] = [int(path.name[5:]) for path in here.steps() if verify(path)]
            limited(limits[len(steps)])
            steps.append(0)
        return usual(model, batch, **named)

    stages.cross_entropy = cross_entropy
    plan, said, limits = options(folder), [], SIZES
    plan = replace(plan, checkpoint=replace(plan.checkpoint, asynchronous=asynchronous))
    report = stages.pretrain(plan, say=said.append)
    left = sorted(path.name for path in (folder / "run" / "checkpoints").iterdir())
    limits = (-1, -1, 1_000)
    steps.clear()
    try:
        stages.pretrain(
            replace(plan, out=str(folder / "last"), train=replace(plan.train, steps=3)), say=lambda text: None
        )
        error = ""
    except Unwritten as refusal:
        error = f"{type(refusal).__name__} {refusal.errno} {refusal.filename}: {refusal.strerror}"
    limited(-1)
    found = {"steps": report["steps"], "said": said, "left": left, "told": told, "error": error}
    (folder / "found.json").write_text(json.dumps(found))


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_full_disk_costs_a_warning_and_the_last_save_is_an_error(tmp_path, asynchronous):
    """T3. Ten limits on the size of a file: the run reaches its end, says of each save that failed how many bytes were
    needed and free, keeps what is whole and leaves no draft; its log has every line. A last save that fails is told."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, __file__, tmp_path, str(int(asynchronous))], check=True, env=environment)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["steps"] == len(SIZES)
    warnings = [text for text in found["said"] if "not saved (File too large): it takes about " in text]
    assert 5 <= len(warnings) <= 9
    assert all("bytes, and " in text and "are free on its disk; training goes on" in text for text in warnings)
    assert "there is no checkpoint yet" in warnings[0]
    assert found["left"][0] == "latest"
    assert f"step-{len(SIZES):09d}" in found["left"]
    assert not [name for name in found["left"] if "tmp" in name or "trash" in name]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, len(SIZES) + 1))
    assert f"Unwritten {EFBIG} {tmp_path / 'last' / 'checkpoints' / 'step-000000003'}: not saved" in found["error"]
    assert "make room, and the same command with --resume goes on" in found["error"]
    whole = [path.name for path in Checkpoints(tmp_path / "last" / "checkpoints").steps() if verify(path)]
    assert whole[0] == "step-000000001"  # written beside the training, the second one may meet the limit of the third
    assert asynchronous or whole[1:] == ["step-000000002"]


def test_a_run_whose_checkpoints_cannot_fit_is_refused_at_its_start(tmp_path, monkeypatch):
    """Both figures are said, no folder appears; the same run fits where there is a byte more for each."""
    run = options(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, 1000))
    with pytest.raises(
        InputError, match=r"3 checkpoints of [\d,]+ bytes take [\d,]+ bytes, and 1,000 are free"
    ) as error:
        stages.pretrain(run)
    assert "checkpoint.keep=2" in str(error.value)
    assert not (tmp_path / "run").exists()
    needed = int(str(error.value).split(" take ")[1].split(" bytes")[0].replace(",", ""))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, needed - 1))
    with pytest.raises(InputError, match="bytes take"):
        stages.pretrain(run)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, needed))
    stages.pretrain(run)
    once = replace(run, out=str(tmp_path / "once"), checkpoint=CheckpointOptions(every=0, keep=2))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, needed // 3))
    stages.pretrain(once)  # a run that saves at its end alone needs room for one


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_forecast_is_what_a_checkpoint_takes(tiny_trainer, tmp_path, optimizer):
    """Predicted before the first step, when there are no moments yet, and true within what headers and JSON take."""
    trainer = tiny_trainer(optimizer=optimizer)
    predicted = Checkpoints(tmp_path).bytes(trainer)
    trainer.advance()
    folder = Checkpoints(tmp_path).save(trainer)
    tensors = [tensor for tensor in trainer.optimizer.state().values() if tensor.ndim]
    assert predicted == sum(t.nbytes for t in [*tensors, *trainer.model.parameters()])
    files = sum(path.stat().st_size for path in (folder / "state").iterdir())
    assert predicted < files < predicted + 10_000
    assert Checkpoints(tmp_path, export=lambda model, folder: None).bytes(trainer) > predicted


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    "error", [OSError(ENOSPC, os.strerror(ENOSPC)), SafetensorError("I/O error: No space left (os error 28)")]
)
def test_each_failure_is_told_once(tiny_trainer, tmp_path, monkeypatch, error, asynchronous):
    """Two saves of five fail: two warnings with both figures, three checkpoints, and the run goes on to its end."""
    said, usual, calls = [], checkpoint.save_file, iter(range(100))

    def full(tensors, path):
        if "000000004" in str(path) or "000000006" in str(path):
            next(calls)
            raise error
        usual(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    trainer = tiny_trainer(steps=10)
    saves = Checkpoints(tmp_path, every=2, keep=9, asynchronous=asynchronous, say=said.append)
    trainer.on_step = [saves]
    with saves:
        trainer.fit()
    assert [path.name[-2:] for path in saves.steps() if verify(path)] == ["02", "08", "10"]
    assert len(said) == next(calls) == 2
    needed = saves.bytes(trainer)
    assert all(f"(No space left on device): it takes about {needed:,} bytes, and " in text for text in said)
    assert all("step-000000002 stays the newest checkpoint" in text for text in said)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of four megabytes, where this user may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True
    )
    if not made or made.returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_small_file_system_that_fills_up(small_disk, tmp_path, monkeypatch):
    """T3. A real ENOSPC: after step 2 somebody else fills the disk; the run goes on to the step where he makes room,
    says what each save needed, and ends with a whole checkpoint."""
    said, filler, usual = [], small_disk / "filler", stages.cross_entropy
    plan = options(tmp_path)
    steps = []

    def cross_entropy(model, batch, **named):
        if model.training:
            steps.append(0)
            if len(steps) == 3:
                with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(b"x" * 4096)
            if len(steps) == 6:
                filler.unlink()
        return usual(model, batch, **named)

    monkeypatch.setattr(stages, "cross_entropy", cross_entropy)
    plan = replace(plan, out=str(small_disk / "run"), train=replace(plan.train, steps=7))
    assert stages.pretrain(plan, say=said.append)["steps"] == 7
    warnings = [text for text in said if "No space left on device): it takes about " in text]
    assert len(warnings) >= 3
    checkpoints = Checkpoints(small_disk / "run" / "checkpoints")
    assert [path.name for path in checkpoints.steps() if verify(path)] == ["step-000000006", "step-000000007"]
    rows = [json.loads(line) for line in (small_disk / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 8))


if __name__ == "__main__":
    train_on_a_full_disk(Path(sys.argv[1]), bool(int(sys.argv[2])))
