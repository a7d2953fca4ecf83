"""Checkpoints: everything a run needs to go on exactly where it stood. Tensors in safetensors, the rest as JSON.

CHECKPOINTS/step-000000100/
    state/weights.safetensors    the weights as they are trained, in fp32
    state/optimizer.safetensors  the moments
    model/                       the same weights as a Hugging Face folder, where the stage has one
    trainer.json                 steps, data cursor, random state of each rank, what the run is made of
    MANIFEST.json                what the files above must be
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..config import InputError
from .commit import commit, discard, replace_text, sweep, verify
from .trainer import Record, Trainer

FORMAT = 1
LATEST = "latest"  # the name of the newest checkpoint; only a hint


class Checkpoints:
    """The checkpoints of one run: saved every `every` steps, when the run is stopped and at its end; `keep` newest
    are kept."""

    def __init__(
        self,
        folder: Path,
        *,
        every: int = 0,
        keep: int = 2,
        identity: Mapping[str, Any] | None = None,
        export: Callable[[Path], None] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """identity: plain data that a run must share with the one it goes on from; export: writes model/."""
        if keep < 1:
            raise InputError(f"checkpoint.keep={keep} would keep nothing to go on from; wanted at least 1")
        self.folder, self.every, self.keep = folder, every, keep
        self.identity, self.export, self.say = dict(identity or {}), export, say

    def __call__(self, trainer: Trainer, record: Record) -> None:
        periodic = self.every and trainer.step % self.every == 0
        if periodic or trainer.stopped or trainer.step == trainer.steps:
            self.save(trainer)

    def save(self, trainer: Trainer) -> Path:
        """Commit the present step, then let go of the oldest. All ranks call it; the first one writes."""
        folder = self.folder / f"step-{trainer.step:09d}"
        random = _random_state(trainer)
        if trainer.ranks.rank == 0 and not folder.exists():
            sweep(self.folder)
            commit(folder, lambda draft: self._fill(draft, trainer, random))
            replace_text(self.folder / LATEST, f"{folder.name}\n")
            for old in self.steps()[: -self.keep]:
                discard(old)
        trainer.ranks.wait()
        return folder

    def _fill(self, draft: Path, trainer: Trainer, random: list[dict[str, str]]) -> None:
        (draft / "state").mkdir()
        save_file(_on_cpu(dict(_weights(trainer.model))), draft / "state" / "weights.safetensors")
        save_file(_on_cpu(trainer.optimizer.state()), draft / "state" / "optimizer.safetensors")
        if self.export:
            self.export(draft / "model")
        state = {
            "format": FORMAT, "trainer": trainer.state_dict(), "world": trainer.ranks.world, "random": random,
            "identity": self.identity, "torch": str(torch.__version__),
        }  # fmt: skip
        (draft / "trainer.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")

    def steps(self) -> list[Path]:
        """The committed folders, oldest first, not yet verified."""
        return sorted(path for path in self.folder.glob("step-*") if path.name.removeprefix("step-").isdigit())

    def newest(self) -> Path | None:
        """The newest checkpoint that is what its manifest says; says which ones are not."""
        for folder in reversed(self.steps()):
            try:
                verify(folder)
            except InputError as error:
                self.say(f"{error}; going back to the checkpoint before it")
            else:
                return folder
        return None

    def restore(self, trainer: Trainer, folder: Path | None = None) -> int:
        """Put the trainer where a checkpoint (None: the newest) left it; returns its step, 0 where there is none.

        Raises InputError where the folder is damaged, or was made from other data, options or another model.
        """
        folder = folder or self.newest()
        if folder is None:
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
        return trainer.step


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and stored buffers under their first name: tied ones once."""
    stored = model.state_dict().keys()
    yield from model.named_parameters()
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
