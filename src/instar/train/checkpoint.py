"""Checkpoints: everything a run needs to go on exactly where it stood. Tensors in safetensors, the rest as JSON.

CHECKPOINTS/step-000000100/
    state/weights.safetensors    the weights as they are trained, in fp32; frozen ones come from the model that the run
                                 began with
    state/optimizer.safetensors  the moments
    model/                       the same weights as a Hugging Face folder, where the stage has one
    trainer.json                 steps, data cursor, random state of each rank, what the run is made of
    MANIFEST.json                what the files above must be
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..config import Diverged, InputError
from ..data.disk import write_whole
from .commit import commit, discard, sweep, verify
from .space import Unwritten, free_bytes, told
from .trainer import Record, Trainer
from .writer import Writer, attempt

Export = Callable[[Any, Path], None]
FORMAT = 1
LATEST = "latest"  # the name of the newest checkpoint; only a hint


@dataclass(frozen=True)
class State:
    """What one checkpoint holds, and about how many bytes that is."""

    model: nn.Module
    moments: Mapping[str, Tensor]
    trainer: str
    export: Export | None
    bytes: int

    def fill(self, draft: Path) -> None:
        """Write it into an empty folder."""
        (draft / "state").mkdir()
        save_file(_on_cpu(dict(_weights(self.model))), draft / "state" / "weights.safetensors")
        save_file(_on_cpu(self.moments), draft / "state" / "optimizer.safetensors")
        if self.export:
            self.export(self.model, draft / "model")
        (draft / "trainer.json").write_text(self.trainer, encoding="utf-8")


class Checkpoints:
    """The checkpoints of one run: saved every `every` steps, when the run is stopped and at its end; the `keep` newest
    that are whole are kept.

    A save that the disk refuses costs a warning: training goes on, and so do the older checkpoints. Only the last one
    of a run must not fail. Used as a context, it lets a save that is under way end before the run does.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every: int = 0,
        keep: int = 2,
        asynchronous: bool = False,
        identity: Mapping[str, Any] | None = None,
        export: Export | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """asynchronous: a thread writes a copy while training goes on; identity: plain data that a run must share with
        the one it goes on from; export: writes a model as model/."""
        if keep < 1:
            raise InputError(f"checkpoint.keep={keep} would keep nothing to go on from; wanted at least 1")
        self.folder, self.every, self.keep, self.asynchronous = folder, every, keep, asynchronous
        self.identity, self.export, self.say = dict(identity or {}), export, say
        self._writer = Writer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None or not issubclass(kind, KeyboardInterrupt):  # a second signal waits for nothing
            error = self._tell(self._writer.wait())
            if error and kind is None:
                raise error
            if error:
                self.say(f"warning: the save under way failed: {type(error).__name__}: {error}")

    def __call__(self, trainer: Trainer, record: Record) -> None:
        last = trainer.stopped or trainer.step == trainer.steps
        if not trainer.hopeless and (last or (self.every and trainer.step % self.every == 0)):
            self.save(trainer, last=last)

    def save(self, trainer: Trainer, *, last: bool = True) -> Path:
        """Commit the present step, then let go of the oldest. All ranks call it; the first one writes.

        Raises OSError where the `last` one cannot be written, and Diverged, on all ranks, where a weight or a moment
        is not finite.
        """
        check_finite(trainer)
        folder = self.folder / f"step-{trainer.step:09d}"
        random = _random_state(trainer)
        error = self._write(folder, trainer, random, last) if trainer.ranks.rank == 0 else None
        failed = torch.tensor(float(error is not None), device=trainer.model.device)
        trainer.ranks.add([failed])
        if error is not None:
            raise error
        if failed.item():
            raise RuntimeError(f"{folder} could not be written by the first rank, which says why")
        return folder

    def _write(self, folder: Path, trainer: Trainer, random: list[dict[str, str]], last: bool) -> Exception | None:
        """The error that ends the run, if there is one."""
        if before := self._tell(self._writer.wait()):
            return before
        state = self._state(trainer, random)
        job = partial(self._commit, folder, state)
        if not self.asynchronous:
            error = attempt(job)
        else:
            self._writer.start(job)
            error = self._writer.wait() if last else None
        if last and isinstance(error, Unwritten):
            remedy = "make room, and the same command with --resume goes on"
            return Unwritten(error.errno, f"{error.strerror}; {remedy}", error.filename)
        return self._tell(error)

    def _tell(self, error: Exception | None) -> Exception | None:
        """Say what the disk refused; give back an error of any other kind."""
        if not isinstance(error, Unwritten):
            return error
        newest = self.steps()[-1:]
        left = f"{newest[0].name} stays the newest checkpoint" if newest else "there is no checkpoint yet"
        self.say(f"warning: {error.filename}: {error.strerror}; training goes on, {left}")
        return None

    def _state(self, trainer: Trainer, random: list[dict[str, str]]) -> State:
        """All that a checkpoint holds, as it is now; of its own memory where it is written later."""
        state = {
            "format": FORMAT, "trainer": trainer.state_dict(), "world": trainer.ranks.world, "random": random,
            "identity": self.identity, "torch": str(torch.__version__),
        }  # fmt: skip
        later = self.asynchronous
        return State(
            _copied(trainer.model) if later else trainer.model,
            {name: tensor.detach().to("cpu", copy=later) for name, tensor in trainer.optimizer.state().items()},
            json.dumps(state, indent=1) + "\n",
            self.export,
            self.bytes(trainer),
        )

    def _commit(self, folder: Path, state: State) -> None:
        """Raises Unwritten where the disk refuses."""
        with told(folder, state.bytes):
            sweep(self.folder)
            if folder.exists() and not self._is_whole(folder):
                discard(folder)  # the run went back to before it
            if not folder.exists():
                commit(folder, state.fill)
            self._tidy(folder)

    def _tidy(self, newest: Path) -> None:
        """Name the newest, and remove what is older than the `keep` newest that are whole, as read back from the
        disk."""
        write_whole(self.folder / LATEST, f"{newest.name}\n")
        folders, kept = self.steps(), 0
        if len(folders) <= self.keep:
            return
        for folder in reversed(folders):
            if kept == self.keep:
                discard(folder)
            elif self._is_whole(folder):
                kept += 1

    def _is_whole(self, folder: Path) -> bool:
        try:
            verify(folder)
        except InputError as error:
            self.say(f"warning: {error}; it does not count as a checkpoint")
            return False
        return True

    def bytes(self, trainer: Trainer) -> int:
        """About what one checkpoint takes on the disk."""
        weights = sum(weight.nbytes for _, weight in _weights(trainer.model))
        return weights * (1 + bool(self.export)) + trainer.optimizer.bytes()

    def check_room(self, trainer: Trainer) -> None:
        """Raises InputError where the disk has not the room for the checkpoints of this run: those that are kept, and
        one more while it is written."""
        if trainer.ranks.rank == 0:
            sweep(self.folder)
        saves = -(-trainer.steps // self.every) if self.every else 1
        more, each = max(1, min(self.keep + 1, saves) - len(self.steps())), self.bytes(trainer)
        free = free_bytes(self.folder)
        if more * each > free:
            raise InputError(
                f"{more} checkpoints of {each:,} bytes take {more * each:,} bytes, and {free:,} are free on the disk "
                f"of {self.folder}; make room, name another --out, or lower checkpoint.keep={self.keep}"
            )

    def steps(self) -> list[Path]:
        """The committed folders, oldest first, not yet verified."""
        return sorted(path for path in self.folder.glob("step-*") if path.name.removeprefix("step-").isdigit())

    def newest(self) -> Path | None:
        """The newest checkpoint that is what its manifest says; says which ones are not."""
        for folder in reversed(self.steps()):
            try:
                verify(folder)
            except InputError as error:
                self.say(f"warning: {error}; going back to the checkpoint before it")
            else:
                return folder
        return None

    def restore(self, trainer: Trainer, named: Path | None = None) -> int:
        """Put the trainer where a checkpoint (None: the newest) left it; returns its step, 0 where there is none.

        Raises InputError where the folder is damaged, or all are, or it was made from other data, options or another
        model. A folder that was named is never replaced by another one.
        """
        folder = named or self.newest()
        if folder is None:
            if damaged := self.steps():
                raise InputError(
                    f"none of the {len(damaged)} checkpoints in {self.folder} is whole, so nothing is there to go on "
                    "from; bring one back, or begin a new run with another --out"
                )
            return 0
        verify(folder)
        state = json.loads((folder / "trainer.json").read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise InputError(f"{folder}: found format {state['format']}, wanted {FORMAT}; use the instar that wrote it")
        _same(folder, state["identity"], self.identity)
        _load_weights(trainer.model, load_file(folder / "state" / "weights.safetensors"))
        trainer.optimizer.load(load_file(folder / "state" / "optimizer.safetensors"))
        trainer.load_state_dict(state["trainer"])
        if state["world"] == trainer.ranks.world:
            _restore_random(state["random"][trainer.ranks.rank], trainer.model.device)
        if trainer.ranks.rank == 0 and not named:  # the process before may have died between its save and its clean-up
            with told(folder, len(folder.name)):
                self._tidy(folder)
        return trainer.step


def check_finite(trainer: Trainer) -> None:
    """Raises Diverged naming a weight or moment that is not finite: such a state is never saved."""
    tensors = dict(_weights(trainer.model)) | trainer.optimizer.state()
    bad = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise Diverged(
            f"after step {trainer.step}, {bad[0]} and {len(bad) - 1} more tensors are not finite; nothing of it is "
            "saved; lower the learning rate and go on from the checkpoint before"
        )


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters that learn, and stored buffers, under their first name: tied ones once."""
    stored = model.state_dict().keys()
    yield from ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in stored)


@torch.no_grad()
def _load_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    own = dict(_weights(model))
    if own.keys() != tensors.keys():
        missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
        raise InputError(
            f"the checkpoint is of another model: it lacks {missing or 'nothing'}, and has {extra} besides"
        )
    for name, weight in own.items():
        found = tensors[name]
        if (found.shape, found.dtype) != (weight.shape, weight.dtype):
            raise InputError(
                f"the checkpoint holds {name} as {found.dtype} {list(found.shape)}, "
                f"wanted {weight.dtype} {list(weight.shape)}"
            )
        weight.copy_(found)


def _copied(model: nn.Module) -> nn.Module:
    """The same model on the CPU, in memory of its own; a tied weight stays one, and what does not change is shared."""
    own: dict[int, Any] = {
        id(weight): nn.Parameter(weight.detach().to("cpu", copy=True)) if weight.requires_grad else weight
        for weight in model.parameters()
    }
    stored = model.state_dict().keys()
    own |= {
        id(buffer): buffer.detach().to("cpu", copy=True) if name in stored else buffer
        for name, buffer in model.named_buffers()
    }
    return deepcopy(model, own)  # what stands in `own` is not copied again, least of all on the GPU


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _random_state(trainer: Trainer) -> list[dict[str, str]]:
    """torch's generators on every rank, as base64."""
    gathered = {"torch": trainer.ranks.gather(torch.get_rng_state())}
    if trainer.model.device.type == "cuda":
        gathered["cuda"] = trainer.ranks.gather(torch.cuda.get_rng_state(trainer.model.device))
    return [
        {name: base64.b64encode(bytes(states[rank].tolist())).decode() for name, states in gathered.items()}
        for rank in range(trainer.ranks.world)
    ]


def _restore_random(state: Mapping[str, str], device: torch.device) -> None:
    tensors = {name: torch.tensor(list(base64.b64decode(text)), dtype=torch.uint8) for name, text in state.items()}
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors["cuda"], device)


def _same(folder: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises InputError listing what differs between the run that was saved and the one that would go on."""
    before, after = dict(_flat(was)), dict(_flat(now))
    names = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    if names:
        changes = "; ".join(f"{name} was {before.get(name)!r} and is {after.get(name)!r}" for name in names)
        raise InputError(
            f"cannot go on from {folder}: {changes}. Change it back, or begin a new run with another --out"
        )


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
