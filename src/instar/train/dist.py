"""Many processes as one: the only file that knows torch.distributed. One process is `Alone`, which does nothing.

Ranks hold equal models and see different rows; what each sums up is added over all of them, never averaged.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(minutes=10)


class Ranks(Protocol):
    """What training asks of the processes it runs in."""

    rank: int
    world: int

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor, in place, by its sum over all ranks."""

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensor of every rank, in order; all of one shape."""
        ...

    def wait(self) -> None:
        """Go on when every rank is here."""

    def close(self) -> None:
        """Leave the group."""


class Alone:
    """One process."""

    rank, world = 0, 1

    def add(self, tensors: Sequence[Tensor]) -> None:
        pass

    def gather(self, tensor: Tensor) -> list[Tensor]:
        return [tensor]

    def wait(self) -> None:
        pass

    def close(self) -> None:
        pass


class Group:
    """The processes that torchrun has started, one a device."""

    def __init__(self, device: torch.device) -> None:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def add(self, tensors: Sequence[Tensor]) -> None:
        """One message for each type of number, however many tensors there are."""
        for dtype in {tensor.dtype for tensor in tensors}:
            alike = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            dist.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in alike])
            torch._foreach_copy_(alike, [part.view_as(tensor) for part, tensor in zip(parts, alike)])

    def gather(self, tensor: Tensor) -> list[Tensor]:
        received = [torch.empty_like(tensor) for _ in range(self.world)]
        dist.all_gather(received, tensor)
        return received

    def wait(self) -> None:
        dist.barrier()

    def close(self) -> None:
        dist.destroy_process_group()


def join(device: torch.device) -> Ranks:
    """The group that torchrun describes in the environment, or `Alone` where it did not start this process."""
    return Group(device) if dist.is_torchelastic_launched() else Alone()


def local_device(device: torch.device) -> torch.device:
    """The device of this process: under torchrun, with several GPUs, the one of its local rank."""
    if device.type != "cuda" or not dist.is_torchelastic_launched():
        return device
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
