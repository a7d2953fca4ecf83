"""R2: clean-up removed the good checkpoints: a limit of one removed all (huggingface/transformers#25136), and a run
crashed at its end over a folder that had gone (#48319).

Guard: an older checkpoint is let go only when the newest ones, read back from the disk, are whole.
"""

from itertools import count
from pathlib import Path
from shutil import copytree, rmtree

import pytest

from instar.config import InputError
from instar.train import commit
from instar.train.checkpoint import Checkpoints
from instar.train.commit import verify


def harm(folder):
    """One bit of its weights flips."""
    path = folder / "state" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def names(folder):
    return [path.name.lstrip("step-0") for path in Checkpoints(folder).steps()]


@pytest.fixture
def run(tiny_trainer, tmp_path):
    """A trainer, and how to take so many steps and save after each, keeping two."""
    trainer, said = tiny_trainer(steps=100), []

    def go(saves, folder=tmp_path, **named):
        for _ in range(saves):
            trainer.advance()
            Checkpoints(folder, say=said.append, **named).save(trainer)

    return trainer, go, said


def test_a_damaged_one_does_not_count(run, tmp_path):
    """With one of the two that are kept damaged meanwhile, the one before it stays; two good ones are always there."""
    _, go, said = run
    go(2)
    harm(tmp_path / "step-000000002")
    go(1)
    assert names(tmp_path) == ["1", "2", "3"]
    assert "step-000000002/state/weights.safetensors is damaged" in said[-1]
    go(1)
    assert names(tmp_path) == ["3", "4"]
    go(1, keep=1)
    assert names(tmp_path) == ["5"]


def test_a_new_one_that_cannot_be_read_back_lets_nothing_go(run, tmp_path, monkeypatch):
    """The disk loses what it has just taken: the old ones stay."""
    _, go, _ = run
    go(2)
    rename, new = Path.rename, tmp_path / "step-000000003"
    monkeypatch.setattr(Path, "rename", lambda self, to: (rename(self, to), to == new and harm(to)))
    go(1)
    assert names(tmp_path) == ["1", "2", "3"]
    assert [verify(tmp_path / f"step-00000000{step}")["format"] for step in (1, 2)] == [1, 1]


def test_a_crash_while_old_ones_go_leaves_two(run, tmp_path, monkeypatch):
    """T14. Clean-up is stopped before each file that it removes: two whole ones are there each time, and the next save
    removes the rest."""
    trainer, go, _ = run
    before, usual = tmp_path / "before", commit.shutil.rmtree
    go(3, before, keep=3)

    class Stopped(BaseException):
        pass

    for at in count():
        folder = copytree(before, tmp_path / f"{at}")

        def remove(trash, ignore_errors, at=at):
            for number, file in enumerate(sorted(path for path in trash.rglob("*") if path.is_file())):
                if number == at:
                    raise Stopped
                file.unlink()
            usual(trash)

        with monkeypatch.context() as patch:
            patch.setattr(commit.shutil, "rmtree", remove)
            try:
                Checkpoints(folder).save(trainer)
                break
            except Stopped:
                pass
        assert names(folder) == ["2", "3"]
        assert [verify(path)["format"] for path in Checkpoints(folder).steps()] == [1, 1]
        Checkpoints(folder).save(trainer)
        assert sorted(path.name for path in folder.iterdir()) == ["latest", "step-000000002", "step-000000003"]
    assert at > 3


def test_going_on_cleans_up_first(run, tiny_trainer, tmp_path):
    """Killed between its last save and the clean-up, a run that goes on from its own end leaves what any run leaves;
    going on from a checkpoint that was named, or from another recipe, removes nothing."""
    _, go, _ = run
    go(3, keep=3)
    (tmp_path / "latest").write_text("step-000000002\n")
    Checkpoints(tmp_path).restore(tiny_trainer(), tmp_path / "step-000000001")
    with pytest.raises(InputError, match="data was None and is 'other'"):
        Checkpoints(tmp_path, identity={"data": "other"}).restore(tiny_trainer())
    assert names(tmp_path) == ["1", "2", "3"]
    assert Checkpoints(tmp_path).restore(tiny_trainer()) == 3
    assert names(tmp_path) == ["2", "3"]
    assert (tmp_path / "latest").read_text() == "step-000000003\n"


def test_the_newest_bad_one_is_passed_over_with_a_warning_and_replaced(run, tiny_trainer, tmp_path):
    """T6. Going on falls back and says so; the damaged step, reached again, is written anew; a checkpoint that was
    named is never replaced by another; where none is whole, nothing begins anew unasked."""
    _, go, said = run
    go(2)
    harm(tmp_path / "step-000000002")
    other = tiny_trainer()
    assert Checkpoints(tmp_path, say=said.append).restore(other) == 1
    assert said[-1].startswith("warning: ")
    assert said[-1].endswith("going back to the checkpoint before it")
    with pytest.raises(InputError, match=r"weights\.safetensors is damaged: found .* wanted "):
        Checkpoints(tmp_path).restore(other, tmp_path / "step-000000002")
    other.advance()
    verify(Checkpoints(tmp_path).save(other))
    for step in (1, 2):
        harm(tmp_path / f"step-00000000{step}")
    with pytest.raises(InputError, match=r"none of the 2 checkpoints in .* is whole"):
        Checkpoints(tmp_path).restore(other)
    rmtree(tmp_path / "step-000000001")
    rmtree(tmp_path / "step-000000002")
    assert Checkpoints(tmp_path).restore(other) == 0
