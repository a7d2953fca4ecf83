"""The forward pass of a step: the next token of every answer and parts of prompts, all in one flat row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from ..model.layers import Linear
from ..model.pages import Pages
from ..model.ragged import Ragged
from ..model.step import CompiledStep
from ..model.transformer import Transformer
from .prompt import read_sources
from .request import Request
from .router import Router
from .schedule import Schedule, Work
from .tune import tune

TILE = 16  # rows of every product in an engine whose answers are the same bit for bit


class Reader:
    """Reads what a schedule plans into its pages."""

    def __init__(self, model: Transformer, schedule: Schedule, *, deterministic: bool, compile: bool) -> None:
        self.model, self.schedule, self.deterministic = model, schedule, deterministic
        self.pages: Pages = schedule.pages
        self.router = Router(model)
        if compile:
            tune(model, compiles=True)
        self._compiled = CompiledStep(model, self.pages) if compile and not deterministic else None
        self._linears = [module for module in model.modules() if isinstance(module, Linear)]

    def sources(self, requests: Sequence[Request]) -> None:
        """Read what requests are about, those together that heed the same."""
        by_adapter: dict[str | None, list[Request]] = {}
        for request in requests:
            by_adapter.setdefault(request.adapter, []).append(request)
        for adapter, alike in by_adapter.items():
            with self._tiled(), self.router.heeding([adapter], [1]):
                read_sources(self.model, self.pages, alike, alone=self.deterministic)

    def read(self, work: Work) -> Tensor:
        """-> logits (R, V) behind each token of those that speak, each beam, and each text that ended."""
        tokens: list[int] = []
        for request in work.speaking:
            tokens += [request.ids[-1], *request.draft]
        tokens += [beam.id for beam in work.beams]
        for request, amount in work.reading:
            start = int(self.pages.lengths[request.row])
            tokens += request.text[start : start + amount]
        amounts = [amount for _, amount in work.reading]
        counts = [1 + len(request.draft) for request in work.speaking] + [1] * len(work.beams) + amounts
        names = work.adapters
        plain = not amounts and len(tokens) == len(counts)
        if self._compiled is not None and plain and not self.router.strays(names):
            return self._compiled(work.rows, tokens)
        with self._tiled():
            return self._pass(work, tokens, counts, names)

    def _pass(self, work: Work, tokens: list[int], counts: list[int], names: Sequence[str | None]) -> Tensor:
        ragged = Ragged(self.pages, work.rows, counts, steady=self.deterministic)
        batch = torch.tensor([tokens]).to(self.model.device, non_blocking=True)
        with self.router.heeding(names, counts) as routing:
            hidden = self.model.hidden(batch, cache=ragged)[0]
            begun = len(work.speaking) + len(work.beams)
            spoken = sum(counts[:begun])
            ends = ragged.ends()[begun:][np.array(work.ending, dtype=bool)]
            wanted = np.concatenate((np.arange(spoken), ends))
            if len(wanted) < len(hidden):
                hidden = hidden[torch.from_numpy(wanted).to(hidden.device)]
            self.schedule.kept([request for request, _ in work.reading], counts[begun:])
            with nullcontext() if routing is None else routing.at(wanted):
                return self.model.heads["lm"](hidden)

    @contextmanager
    def _tiled(self) -> Iterator[None]:
        """With all products of a fixed number of rows, where answers are to be the same bit for bit."""
        if not self.deterministic:
            yield
            return
        try:
            for linear in self._linears:
                linear.tile = TILE
            yield
        finally:
            for linear in self._linears:
                linear.tile = 0


@contextmanager
def resting(model: nn.Module) -> Iterator[None]:
    """With the model as it is outside of training, without dropout; afterwards as it was."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()
