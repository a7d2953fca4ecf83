"""A run that goes on is the run that was never stopped; a folder that is not whole is never used."""

import json
import os
import threading
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from instar.config import InputError
from instar.config.options import TrainOptions
from instar.data.loader import Loader
from instar.train import checkpoint
from instar.train import commit as committing
from instar.train.checkpoint import Checkpoints
from instar.train.commit import commit, verify
from instar.train.objectives import cross_entropy
from instar.train.space import Unwritten
from instar.train.trainer import Trainer

OPTIONS = TrainOptions(context=16, lr=1e-2)


def trained(make_model, make_trainer, folder, *, stop_at=0, steps=20, **changes):
    """Train with dropout, going on from what the folder holds; returns the trainer and the losses it saw."""
    torch.manual_seed(5)
    losses = []
    trainer = make_trainer(
        make_model(dropout=0.2), micro_rows=3, batch_rows=5, steps=steps,
        more={"stop": lambda: trainer.step + 1 == stop_at}, **changes,
    )  # fmt: skip
    checkpoints = Checkpoints(folder, every=7)
    checkpoints.restore(trainer)
    trainer.on_step = [lambda _, record: losses.append(record["loss"]), checkpoints]
    trainer.fit()
    return trainer, losses


def everything(trainer):
    return trainer.model.state_dict() | trainer.optimizer.state()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_going_on_is_the_same_run(make_model, make_trainer, tmp_path, optimizer, compute):
    """Story: huggingface/transformers#8874, #40691. 20 steps equal 9 and 11 bit for bit: losses, weights, moments,
    with dropout, uneven micro-batches, and a stop in the middle of an epoch."""

    def model(**changes):
        made = make_model(**changes)
        made.compute = compute
        return made

    whole, wanted = trained(model, make_trainer, tmp_path / "whole", optimizer=optimizer)
    _, first = trained(model, make_trainer, tmp_path / "parts", stop_at=9, optimizer=optimizer)
    resumed, second = trained(model, make_trainer, tmp_path / "parts", optimizer=optimizer)
    assert len(first) == 9
    assert first + second == wanted
    ends = [everything(trainer) for trainer in (whole, resumed)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_newest_whole_checkpoint_is_taken(make_model, make_trainer, tmp_path):
    """A damaged newest checkpoint is named and the one before it is used."""
    trained(make_model, make_trainer, tmp_path, steps=14)
    damaged = tmp_path / "step-000000014" / "state" / "weights.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    said = []
    trainer = make_trainer(make_model(dropout=0.2), micro_rows=3, batch_rows=5)
    assert Checkpoints(tmp_path, say=said.append).restore(trainer) == 7
    assert "weights.safetensors is damaged" in said[0]
    with pytest.raises(InputError, match="damaged"):
        Checkpoints(tmp_path).restore(trainer, tmp_path / "step-000000014")


def test_the_oldest_go_after_the_new_one_is_there(make_model, make_trainer, tmp_path):
    """Two are kept, `latest` names the newest, and nothing temporary is left."""
    trained(make_model, make_trainer, tmp_path, steps=20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-000000014", "step-000000020"]
    assert (tmp_path / "latest").read_text() == "step-000000020\n"


def test_a_wrong_hint_does_no_harm(make_model, make_trainer, tmp_path):
    """`latest` is only a hint: the manifests decide."""
    trained(make_model, make_trainer, tmp_path, steps=7)
    (tmp_path / "latest").write_text("step-000000099\n")
    assert Checkpoints(tmp_path).newest() == tmp_path / "step-000000007"


def test_another_recipe_is_refused_with_both_values(make_model, make_trainer, tmp_path):
    """What a run is made of may not change under it; the message lists every difference."""
    trainer = make_trainer(make_model(), steps=1)
    Checkpoints(tmp_path, identity={"data": "abc", "options": {"lr": 0.1, "seed": 0}}).save(trainer)
    other = Checkpoints(tmp_path, identity={"data": "abd", "options": {"lr": 0.2, "seed": 0}})
    with pytest.raises(InputError, match=r"data was 'abc' and is 'abd'; options\.lr was 0\.1 and is 0\.2"):
        other.restore(trainer)


def test_another_model_is_refused(make_model, make_trainer, tmp_path):
    """Weights of another shape or name are errors, never half taken over."""
    Checkpoints(tmp_path).save(make_trainer(make_model()))
    with pytest.raises(
        InputError, match=r"embed\.weight as torch\.float32 \[61, 16\], wanted torch\.float32 \[61, 32\]"
    ):
        Checkpoints(tmp_path).restore(make_trainer(make_model(d_model=32)))
    with pytest.raises(InputError, match=r"lacks \['blocks\.2"):
        Checkpoints(tmp_path).restore(make_trainer(make_model(layers=3)))


def test_the_state_is_tensors_and_json(make_model, make_trainer, tmp_path):
    """Nothing in a checkpoint needs unpickling, and a tied weight lies in it once."""
    from safetensors import safe_open

    trainer = make_trainer(make_model(), steps=1)
    trainer.fit()
    folder = Checkpoints(tmp_path).save(trainer)
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".safetensors", ".json"}
    with safe_open(folder / "state" / "weights.safetensors", "pt") as file:
        assert "embed.weight" in file.keys()  # noqa: SIM118
        assert "heads.lm.weight" not in file.keys()  # noqa: SIM118
    assert json.loads((folder / "trainer.json").read_text())["trainer"]["step"] == 1


@pytest.mark.parametrize("place", ["fill", "seal", "rename"])
def test_a_save_that_breaks_leaves_the_old_state(tmp_path, monkeypatch, place):
    """Whatever fails on the way, there is no new folder, no rest of one, and the old one is whole."""
    commit(tmp_path / "step-1", lambda draft: (draft / "file").write_text("old"))

    def broken(*arguments):
        raise OSError("disk full")

    if place == "seal":
        monkeypatch.setattr(committing, "_seal", broken)
    if place == "rename":
        monkeypatch.setattr(type(tmp_path), "rename", broken)
    fill = broken if place == "fill" else lambda draft: (draft / "file").write_text("new")
    with pytest.raises(OSError, match="disk full"):
        commit(tmp_path / "step-2", fill)
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    verify(tmp_path / "step-1")


def test_a_committed_folder_is_never_written_into(tmp_path):
    """Committing twice under one name is an error."""
    commit(tmp_path / "step-1", lambda draft: (draft / "file").write_text("old"))
    with pytest.raises(FileExistsError, match="never overwritten"):
        commit(tmp_path / "step-1", lambda draft: None)


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "add", "manifest", "no manifest"])
def test_every_harm_is_named(tmp_path, harm):
    """A changed, shortened, missing or additional file and a broken manifest are refused by name."""
    folder = tmp_path / "step-1"
    commit(folder, lambda draft: (draft / "file").write_bytes(os.urandom(1000)))
    file, content = folder / "file", (folder / "file").read_bytes()
    match harm:
        case "flip":
            file.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
        case "truncate":
            file.write_bytes(content[:-1])
        case "remove":
            file.unlink()
        case "add":
            (folder / "other").touch()
        case "manifest":
            (folder / "MANIFEST.json").write_text("{")
        case "no manifest":
            (folder / "MANIFEST.json").unlink()
    named = {"flip": "sha256", "truncate": "999 bytes", "remove": "file", "add": "other"}
    with pytest.raises(InputError, match=named.get(harm, "MANIFEST")):
        verify(folder)


def test_rests_of_a_killed_process_are_swept(make_model, make_trainer, tmp_path):
    """A half-written draft of a process that was killed is no checkpoint and is removed by the next save."""
    (tmp_path / "step-000000003.tmp-0123abcd" / "state").mkdir(parents=True)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest() is None
    checkpoints.save(make_trainer(make_model()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-000000000"]


def test_keeping_nothing_is_refused(tmp_path):
    """Story: huggingface/transformers#25136, a limit that removed all."""
    with pytest.raises(InputError, match="keep=0"):
        Checkpoints(tmp_path, keep=0)


def test_a_checkpoint_is_the_step_however_late_it_is_written(make_model, make_trainer, tmp_path, monkeypatch):
    """T12. What training does to weights, moments and counts while a thread writes is not in the checkpoint; state/ and
    model/ hold the step at which the save was asked for, a tied head is one weight, and the run did not wait."""
    writing, go_on = threading.Event(), threading.Event()
    usual = checkpoint.save_file

    def slow(tensors, path):
        writing.set()
        assert go_on.wait(30)
        usual(tensors, path)

    def export(model, folder):
        folder.mkdir()
        usual({name: weight.detach() for name, weight in model.named_parameters()}, folder / "model.safetensors")

    monkeypatch.setattr(checkpoint, "save_file", slow)
    trainer = make_trainer(make_model(tied=True), steps=9)
    for _ in range(3):
        trainer.advance()
    wanted = {name: tensor.clone() for name, tensor in everything(trainer).items()}
    weights = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    saves = Checkpoints(tmp_path, asynchronous=True, export=export)
    saves.save(trainer, last=False)
    assert writing.wait(30)
    for _ in range(2):
        trainer.advance()
    with torch.no_grad():
        for weight in trainer.model.parameters():
            weight.zero_()
        for moment in trainer.optimizer.state().values():
            moment.zero_()
    assert not saves.steps()
    go_on.set()
    with saves:
        pass
    other = make_trainer(make_model(tied=True), steps=9)
    assert Checkpoints(tmp_path).restore(other) == other.step == other.source.step == 3
    assert all(torch.equal(wanted[name], tensor) for name, tensor in everything(other).items())
    exported = load_file(tmp_path / "step-000000003" / "model" / "model.safetensors")
    assert exported.keys() == weights.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in exported.items())


def test_one_save_waits_for_the_one_before(make_model, make_trainer, tmp_path, monkeypatch):
    """Saves beside the training are written one after the other, in order, and the last is there when the run ends."""
    usual, order = checkpoint.save_file, []

    def slow(tensors, path):
        time.sleep(0.02)
        usual(tensors, path)
        order.append(path.parts[-3][5:14])

    monkeypatch.setattr(checkpoint, "save_file", slow)
    trainer = make_trainer(make_model(), steps=6)
    trainer.on_step = [Checkpoints(tmp_path, every=1, keep=6, asynchronous=True)]
    trainer.fit()
    assert order == [f"{step:09d}" for step in range(1, 7) for _ in range(2)]
    assert [verify(path)["format"] for path in Checkpoints(tmp_path).steps()] == [1] * 6


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ZeroDivisionError("a mistake of ours")])
def test_an_error_of_the_writer_reaches_all_ranks(
    make_model, rows, collate, on_ranks, tmp_path, monkeypatch, asynchronous, error
):
    """T4. What the disk refuses is survived until the last save, which all ranks raise; any other error ends the run
    on all ranks as soon as it is known. Neither leaves a manifest."""
    usual = checkpoint.save_file

    def broken(tensors, path):
        if isinstance(error, OSError) or "000000004" in str(path):
            raise error
        usual(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", broken)
    said, steps = [], {}

    def train(ranks):
        source = Loader(rows, collate, batch_rows=8, rank=ranks.rank, world=ranks.world)
        trainer = Trainer(make_model(), cross_entropy, source, replace(OPTIONS, steps=10), ranks=ranks)
        trainer.on_step = [Checkpoints(tmp_path, every=2, asynchronous=asynchronous, say=said.append)]
        try:
            trainer.fit()
        finally:
            steps[ranks.rank] = trainer.step

    first, second = on_ranks(2, train)
    assert isinstance(second, RuntimeError)
    assert "could not be written by the first rank" in str(second)
    if isinstance(error, OSError):
        assert isinstance(first, Unwritten)
        assert steps == {0: 10, 1: 10}
        assert len(said) == 4
        assert not Checkpoints(tmp_path).steps()
    else:
        assert first is error
        assert steps == ({0: 6, 1: 6} if asynchronous else {0: 4, 1: 4})
        assert Checkpoints(tmp_path).newest() == tmp_path / "step-000000002"
    assert not list(tmp_path.glob("*.tmp-*"))


def test_a_run_that_breaks_waits_for_its_save(make_model, make_trainer, tmp_path, monkeypatch):
    """An error elsewhere does not cut off the save that is under way, nor is that save's own error lost."""
    usual, said = checkpoint.save_file, []
    errors = {"2": OSError(28, "No space left on device"), "3": ZeroDivisionError("a mistake of ours")}

    def slow(tensors, path):
        time.sleep(0.05)
        if error := errors.get(path.parts[-3][13]):
            raise error
        usual(tensors, path)

    def run(step, breaks):
        trainer = make_trainer(make_model())
        trainer.step = step
        with Checkpoints(tmp_path, asynchronous=True, say=said.append) as saves:
            saves.save(trainer, last=False)
            if breaks:
                raise KeyError

    monkeypatch.setattr(checkpoint, "save_file", slow)
    for step in (1, 2, 3):
        with pytest.raises(KeyError):
            run(step, breaks=True)
    with pytest.raises(ZeroDivisionError, match="a mistake of ours"):
        run(3, breaks=False)
    assert [path.name for path in Checkpoints(tmp_path).steps() if verify(path)] == ["step-000000001"]
    assert len(said) == 2
    assert "No space left on device" in said[0]
    assert said[1] == "warning: the save under way failed: ZeroDivisionError: a mistake of ours"
