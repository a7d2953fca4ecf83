"""R1: a run that was killed while it saved had no checkpoint, or half of one (huggingface/transformers#27820, #35580;
bytedance/speculators#739; facebookresearch/metaseq#53).

Guard: a checkpoint is written under another name, sealed by its manifest, synced and renamed; what is not whole is
refused by name. Here a run is killed at random times, and a save at every single thing it does to the disk.

Run as a program, this file is the process whose children are killed: torch is imported once, each start is a fork.
"""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from itertools import count
from pathlib import Path
from shutil import copytree

import pytest
import torch

from instar.config import InputError
from instar.train import checkpoint
from instar.train.checkpoint import Checkpoints
from instar.train.commit import commit, verify
from instar.train.space import Unwritten

STEPS, EVERY = 20, 5
KILLS = int(os.environ.get("INSTAR_KILLS", "4"))


# --- kill -9 at random times ------------------------------------------------------------------------------------------


def drive(folder: Path, kills: int, seed: int) -> None:
    """Run to the end once undisturbed, then kill runs until there were enough kills, each run going on where it was
    killed until it ends. Writes kills.json: for each kill the step that was last written down and the newest whole
    checkpoint."""
    from instar.config.options import CheckpointOptions, EvaluateOptions, PretrainOptions, TrainOptions
    from instar.config.presets import preset
    from instar.text.tokenizer import Tokenizer
    from instar.train import stages

    torch.set_num_threads(1)
    texts = [f"{a} has the {b}. {a} likes the {b}." for a in ("Ada", "Ben", "Cleo", "Dan") for b in ("ball", "cup")]
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    Tokenizer.train(texts, 300).save(folder / "tokenizer")

    def start(name: str, asynchronous: bool) -> int:
        if child := os.fork():
            return child
        try:
            stages.pretrain(
                PretrainOptions(
                    data=(str(folder / "texts.jsonl"),), tokenizer=str(folder / "tokenizer"), out=str(folder / name),
                    held_out=0.2, dtype="fp32", quiet=True, resume=True,
                    model=preset("nano", d_model=16, layers=2, heads=2, max_positions=80, tied=True, dropout=0.2),
                    train=TrainOptions(context=16, batch_tokens=64, micro_tokens=32, steps=STEPS, lr=3e-3),
                    evaluate=EvaluateOptions(every=10, rows=2, samples=1),
                    checkpoint=CheckpointOptions(every=EVERY, asynchronous=asynchronous),
                )
            )  # fmt: skip
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def end(child: int) -> None:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "a run that was not killed failed"

    began = time.perf_counter()
    end(start("whole", False))
    lasts = time.perf_counter() - began
    draw, told, number = random.Random(seed), [], 0
    while len(told) < kills:
        asynchronous = draw.random() < 0.5
        child = start(f"run-{number}", asynchronous)
        time.sleep(draw.uniform(0, lasts))
        os.kill(child, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            number += 1  # it had ended before
            continue
        run = folder / f"run-{number}"
        newest = Checkpoints(run / "checkpoints").newest()
        metrics = run / "metrics.jsonl"
        steps = [json.loads(line)["step"] for line in metrics.read_text().split("\n")[:-1]] if metrics.exists() else []
        drafts = [path.name for path in (run / "checkpoints").glob("*.tmp-*")]
        told.append(
            {
                "run": number, "asynchronous": asynchronous, "step": steps[-1] if steps else 0,
                "saved": int(newest.name[5:]) if newest else 0, "in a save": bool(drafts),
            }
        )  # fmt: skip
    end(start(f"run-{number}", False))
    (folder / "kills.json").write_text(json.dumps(told))


def killed(folder, kills, seed):
    """What the program above told, and what each of its runs came to."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, __file__, folder, str(kills), str(seed)], check=True, env=environment)
    told = json.loads((folder / "kills.json").read_text())
    assert len(told) == kills
    beside = set()  # runs that once saved beside the training: behind a save under way lies the one before
    for kill in told:
        if kill["asynchronous"]:
            beside.add(kill["run"])
        # the last line of the log may be that of the start before
        assert kill["step"] - kill["saved"] <= EVERY * (1 + (kill["run"] in beside)), kill
    return told, [outcome(path) for path in sorted(folder.glob("run-*"))], outcome(folder / "whole")


def outcome(run):
    """Everything that must not depend on how often a run was killed."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = run / "checkpoints" / f"step-{STEPS:09d}"
    state = json.loads((last / "trainer.json").read_text())
    report = json.loads((run / "report.json").read_text())
    return {
        "losses": [(row["step"], row["loss"].hex(), row["grad_norm"].hex(), row["lr"].hex()) for row in rows],
        "samples": (run / "samples.jsonl").read_text(),
        "held out": (report["held_out_loss"], report["training_loss"]),
        "hashes": {name: entry for name, entry in verify(last)["files"].items() if name != "trainer.json"},
        "random": state["random"], "cursor": state["trainer"]["source"],
        "model": (run / "model.safetensors").read_bytes(), "latest": (run / "checkpoints" / "latest").read_text(),
        "files": sorted(path.relative_to(run).as_posix() for path in run.rglob("*")),
    }  # fmt: skip


def test_a_run_killed_at_random_times_is_the_same_run(tmp_path):
    """T1. Losses as hex floats, weights, moments, samples and files are those of the run that nobody killed, no more
    than the steps since the last save are lost, no line of the log is missing or doubled."""
    _, runs, wanted = killed(tmp_path, KILLS, seed=1)
    assert [step for step, *_ in wanted["losses"]] == list(range(1, STEPS + 1))
    for run in runs:
        for name in wanted:
            assert run[name] == wanted[name], name


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_killed_three_hundred_times_is_the_same_run(tmp_path):
    """T1 at full length: no loss in 300 kills means less than one in a hundred, at 95 %."""
    told, runs, wanted = killed(tmp_path, 300, seed=2)
    assert all(run == wanted for run in runs)
    assert sum(kill["in a save"] for kill in told) > 10


# --- death at every single thing that a save does to the disk ---------------------------------------------------------


class Killed(BaseException):
    """The process is dead; nothing that follows reaches the disk."""


class Disk:
    """Counts what is done to the disk, and dies (or refuses) before or after the n-th of it."""

    def __init__(self, patch, at, refuse=False):
        self.count, self.at, self.refuse, self.dead = 0, at, refuse, False
        for name in ("open", "mkdir", "rename", "replace", "unlink", "rmdir"):
            patch.setattr(os, name, self.around(getattr(os, name)))
        patch.setattr(os, "fsync", self.around(lambda handle: None))  # quick, and it changes nothing here
        patch.setattr(io, "open", self.opened(io.open))
        patch.setattr(checkpoint, "save_file", self.written(checkpoint.save_file))

    def point(self):
        if self.dead:
            raise Killed
        self.count += 1
        if self.count == self.at:
            self.dead = not self.refuse
            raise Killed if self.dead else OSError(28, "No space left on device")

    def around(self, function):
        def call(*rest, **named):
            self.point()
            result = function(*rest, **named)
            self.point()
            return result

        return call

    def opened(self, function):
        def call(file, mode="r", *rest, **named):
            self.point()
            found = function(file, mode, *rest, **named)
            self.point()
            return Halves(found, self.point) if "w" in mode else found

        return call

    def written(self, function):
        def call(tensors, path):
            self.point()
            function(tensors, path)
            try:
                self.point()
            except (Killed, OSError):
                os.truncate(path, path.stat().st_size // 2)
                raise
            self.point()

        return call


class Halves:
    """A file whose writes can be cut in the middle."""

    def __init__(self, file, point):
        self.file, self.point = file, point

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, text):
        self.point()
        self.file.write(text[: len(text) // 2])
        self.file.flush()
        self.point()
        self.file.write(text[len(text) // 2 :])
        self.file.flush()
        self.point()


def export(model, folder):
    folder.mkdir()
    (folder / "config.json").write_text("{}")


def whole(folder):
    """The steps whose checkpoints are what their manifests say."""
    found = []
    for path in Checkpoints(folder).steps():
        try:
            verify(path)
        except InputError:
            continue
        found.append(int(path.name[5:]))
    return found


@pytest.fixture
def saves(tiny_trainer, tmp_path):
    """A folder with so many checkpoints, the trainer that is to save the next, and its weights at each step."""

    def make(earlier):
        trainer, weights = tiny_trainer(), {}
        (tmp_path / "before").mkdir()
        for step in range(earlier + 1):
            trainer.advance()
            weights[step + 1] = [weight.detach().clone() for weight in trainer.model.parameters()]
            if step < earlier:
                Checkpoints(tmp_path / "before", keep=2, export=export).save(trainer)
        return tmp_path / "before", trainer, weights

    return make


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("earlier", [0, 2], ids=["first", "later"])
def test_death_at_every_point_of_a_save(saves, tiny_trainer, tmp_path, monkeypatch, earlier, asynchronous):
    """T2, T14. Killed before or after any open, write, sync, rename or unlink, or in the middle of a write, there is a
    whole state to load, where two were whole two still are, and the next process finds nothing in its way."""
    before, trainer, weights = saves(earlier)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    other, new = tiny_trainer(), earlier + 1
    for at in count(1):
        folder = copytree(before, tmp_path / str(at), copy_function=os.link)
        with monkeypatch.context() as patch:
            Disk(patch, at)
            try:
                Checkpoints(folder, keep=2, asynchronous=asynchronous, export=export).save(trainer)
                break
            except Killed:
                pass
        found = whole(folder)
        assert len(found) >= min(earlier, 2), at
        step = Checkpoints(folder).restore(other)
        assert step == max(found, default=0)
        assert step in (earlier, new)
        assert step == 0 or all(torch.equal(a, b) for a, b in zip(weights[step], other.model.parameters())), at
        Checkpoints(folder, keep=2, export=export).save(trainer)
        assert whole(folder) == [step for step in (earlier, new) if step]
        assert len(list(folder.iterdir())) == len(whole(folder)) + 1, "something was left lying about"
    assert at > 60, "the points of a save were not counted"


def test_a_refusal_at_every_point_of_a_save(saves, tmp_path, monkeypatch):
    """Whatever the disk refuses, the run hears of it and goes on, what was whole stays whole, no draft stays; the last
    save of a run says so as an error."""
    before, trainer, _ = saves(2)
    for at in count(1):
        folder, said = copytree(before, tmp_path / str(at), copy_function=os.link), []
        with monkeypatch.context() as patch:
            disk = Disk(patch, at, refuse=True)
            Checkpoints(folder, keep=2, export=export, say=said.append).save(trainer, last=False)
        if disk.count < at:
            break
        assert len(whole(folder)) >= 2, at
        assert not list(folder.glob("*.tmp-*")), at
        assert len(said) <= 1
        if 3 not in whole(folder):
            assert "No space left on device): it takes about " in said[0]
            with monkeypatch.context() as patch:
                Disk(patch, at, refuse=True)
                with pytest.raises(Unwritten, match="make room"):
                    Checkpoints(folder, keep=2, export=export).save(trainer)
    assert at > 60


# --- what is no longer what was written -------------------------------------------------------------------------------

CONTENT = {"state/weights.safetensors": 900, "state/optimizer.safetensors": 1800, "trainer.json": 300}


@pytest.fixture
def sealed(tmp_path):
    """A committed folder of random bytes."""

    def fill(draft):
        (draft / "state").mkdir()
        for name, size in CONTENT.items():
            (draft / name).write_bytes(random.Random(size).randbytes(size))

    commit(tmp_path / "step-1", fill)
    return tmp_path / "step-1"


@pytest.mark.parametrize(("harm", "times"), [("flip", 200), ("truncate", 50)])
def test_every_flipped_bit_and_every_cut_is_found(sealed, harm, times):
    """T5. Neither safetensors nor JSON notices a flipped bit; the manifest does, names the file, and gives what was
    found and what was wanted. A flip in the manifest itself does not escape either."""
    draw = random.Random(0)
    files = [path for path in sealed.rglob("*") if path.is_file()]
    assert len(files) == 4
    for _ in range(times):
        path = draw.choice(files)
        content = path.read_bytes()
        place = draw.randrange(len(content))
        flipped = content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]
        path.write_bytes(flipped if harm == "flip" else content[:place])
        with pytest.raises(InputError) as error:
            verify(sealed)
        if path.name != "MANIFEST.json":
            found = f"found {len(content) if harm == 'flip' else place} bytes with sha256 "
            assert str(error.value).startswith(f"{path} is damaged: {found}")
            assert f"wanted {len(content)} bytes with sha256 " in str(error.value)
        path.write_bytes(content)
    verify(sealed)


def test_every_bit_of_the_manifest_counts(sealed):
    """T5. Nothing in the manifest itself can change unnoticed, though no hash is kept of it."""
    path = sealed / "MANIFEST.json"
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        path.write_bytes(content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :])
        with pytest.raises(InputError):
            verify(sealed)


def test_missing_extra_and_swapped_files_are_named(sealed):
    """T5. Files that are there but not where they were written are refused as well."""
    first, second = sealed / "state" / "weights.safetensors", sealed / "state" / "optimizer.safetensors"
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    with pytest.raises(InputError, match=r"optimizer\.safetensors is damaged: found 900 bytes .* wanted 1800 bytes"):
        verify(sealed)
    second.write_bytes(contents[1])
    first.unlink()
    with pytest.raises(InputError, match=r"missing \['state/weights\.safetensors'\]"):
        verify(sealed)
    first.write_bytes(contents[0])
    (sealed / "state" / "more").touch()
    with pytest.raises(InputError, match=r"not in its manifest \['state/more'\]"):
        verify(sealed)


if __name__ == "__main__":
    drive(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
