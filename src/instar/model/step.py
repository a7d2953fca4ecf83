"""The decoding step, one token of each of some rows, as a function of tensors alone, which torch compiles as a whole.

A forward pass of a small model is mostly the way to its products; compiled, that way is gone. Keys are read by blocks,
as many as the longest row has, so that one compilation serves all lengths; on a GPU, where it is captured as a graph,
rows and blocks are filled up to powers of two.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .attention import Attend, Seen, added
from .cache import Bias
from .pages import Pages
from .pool import BLOCK, Pool
from .transformer import Transformer


class Where(NamedTuple):
    """The blocks of one kind of layer: blocks (B, n) to read, first (B, 1) of them in its row, slots (B,) to write."""

    blocks: Tensor
    first: Tensor
    slots: Tensor


class Plan(NamedTuple):
    """One step. tokens, positions (B,); where: by window; source (B, m), source_lengths (B, 1): the blocks and tokens
    of what rows are about, no matter without an encoder."""

    tokens: Tensor
    positions: Tensor
    where: dict[int, Where]
    source: Tensor
    source_lengths: Tensor


def plan(pages: Pages, rows: np.ndarray, tokens: list[int]) -> Plan:
    """The step in which rows, for whose next tokens there is room, go on by these. Where rows must fill up a graph, the
    last is computed again, into the same place."""
    device, graphs = pages.device, pages.device.type == "cuda"
    if graphs:
        rows = np.concatenate((rows, rows[-1:].repeat(_power(len(rows)) - len(rows))))
        tokens = tokens + tokens[-1:] * (len(rows) - len(tokens))
    places = pages.lengths[rows]

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device, non_blocking=True)

    def read(pool: Pool, first: np.ndarray, ends: np.ndarray) -> Tensor:
        count = max(2, int((-(-ends // BLOCK) - first).max()))  # torch takes 1 for a number that never changes
        columns = first[:, None] + np.arange(_power(count) if graphs else count)
        return tensor(pool.table[rows[:, None], np.minimum(columns, pool.table.shape[1] - 1)])

    where = {}
    for window, pool in pages.pools.items():
        first = np.maximum(places - window + 1, 0) // BLOCK if window else np.zeros_like(places)
        slots = pool.table[rows, places // BLOCK] * BLOCK + places % BLOCK
        where[window] = Where(read(pool, first, places + 1), tensor(first[:, None]), tensor(slots))
    lengths = pages.source_lengths[rows]
    source = read(pages.sources, np.zeros_like(places), lengths) if pages.sources else tensor(lengths)
    said = torch.tensor(tokens).to(device, non_blocking=True)
    return Plan(said, tensor(places), where, source, tensor(lengths[:, None]))


def _power(count: int) -> int:
    return 1 << (count - 1).bit_length()


class Step:
    """What a stack wants of a cache, as one plan has it."""

    def __init__(
        self, stores: list[Tensor], windows: list[int], sources: list[Tensor], plan: Plan, capacity: int
    ) -> None:
        self.plan, self.capacity, self._dtype = plan, capacity, stores[0].dtype
        self._layers = [StepLayer(self, store, window) for store, window in zip(stores, windows)]
        self.cross = [StepSource(self, store) for store in sources]
        self.source_lengths = [1]

    def __getitem__(self, layer: int) -> StepLayer:
        return self._layers[layer]

    def reach(self, count: int) -> int:
        """Requests are refused that are longer than the model reads."""
        return 0

    def positions(self, count: int) -> Tensor:
        """As if one row said all tokens: (1, B)."""
        return self.plan.positions[None]

    def extend(self, count: int) -> None:
        """`Pages.advance` is told what is kept."""

    def see(self, window: int, bias: Bias, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor | None, bool]:
        """Each row its own keys, up to its own token."""
        where, queries = self.plan.where[window], self.plan.positions[:, None]
        places = where.first * BLOCK + torch.arange(where.blocks.shape[1] * BLOCK, device=queries.device)
        sees = places <= queries
        if window:
            sees = sees & (places > queries - window)
        mask, more = added(sees[:, None], self._dtype), bias(queries, places, self._dtype)
        return (mask if more is None else mask + more), False

    def see_source(self, dtype: torch.dtype) -> Tensor | None:
        """The real tokens of each row's source."""
        places = torch.arange(self.plan.source.shape[1] * BLOCK, device=self.plan.source.device)
        return added((places < self.plan.source_lengths)[:, None], self._dtype)


def _attend(attend: Attend, q: Tensor, store: Tensor, blocks: Tensor, mask: Tensor | None) -> Tensor:
    """q (1, H, B, E) of B rows to their blocks (B, n) -> (1, H, B, E)."""
    keys, values = store[:, blocks].flatten(2, 3).transpose(2, 3)
    y = attend(q[0].transpose(0, 1)[:, :, None].to(store.dtype), keys, values, mask, False)
    return y[:, :, 0].transpose(0, 1)[None].to(q.dtype)


class StepLayer:
    """The keys and values of one layer in a step."""

    def __init__(self, step: Step, store: Tensor, window: int) -> None:
        self.step, self.store, self.window = step, store, window

    def attend(self, attend: Attend, q: Tensor, new: tuple[Tensor, Tensor] | None, seen: Seen) -> Tensor:
        """Keep the k, v (1, K, B, E) of new tokens, and let q (1, H, B, E) attend each to its own row."""
        where = self.step.plan.where[self.window]
        if new is not None:
            both = torch.stack((new[0][0], new[1][0])).transpose(1, 2)
            self.store.flatten(1, 2).index_copy_(1, where.slots, both.to(self.store.dtype))
        return _attend(attend, q, self.store, where.blocks, seen.mask)


class StepSource:
    """The keys and values of one layer for the sources of the rows of a step."""

    def __init__(self, step: Step, store: Tensor) -> None:
        self.step, self.store = step, store

    def attend(self, attend: Attend, q: Tensor, new: tuple[Tensor, Tensor] | None, seen: Seen) -> Tensor:
        """q (1, H, B, E) attend each to the source of its row."""
        return _attend(attend, q, self.store, self.step.plan.source, seen.mask)


def logits_of(
    model: Transformer, stores: list[Tensor], windows: list[int], sources: list[Tensor], plan: Plan, capacity: int
) -> Tensor:
    """One step -> logits (B, V)."""
    step = Step(stores, windows, sources, plan, capacity)
    return model.heads["lm"](model.hidden(plan.tokens[None], cache=step)[0])


class CompiledStep:
    """logits_of, compiled when it is first called: for one row, and once more for several. Where it cannot be, that is
    said once, and steps are run as they are."""

    def __init__(self, model: Transformer, pages: Pages) -> None:
        self.model, self.pages = model, pages
        pairs = sorted((layer, window) for window, pool in pages.pools.items() for layer in pool.stores)
        self._stores = [pages.pools[window].stores[layer] for layer, window in pairs]
        self._windows = [window for _, window in pairs]
        self._sources = list(pages.sources.stores.values()) if pages.sources else []
        mode = "reduce-overhead" if pages.device.type == "cuda" else None
        self._run: Callable[..., Tensor] = torch.compile(logits_of, mode=mode)
        self._ran = False

    def __call__(self, rows: np.ndarray, tokens: list[int]) -> Tensor:
        """Rows go on by these tokens -> logits (B, V)."""
        step = plan(self.pages, rows, tokens)
        if self.pages.device.type != "cuda":
            self._vary(step)
        given = self.model, self._stores, self._windows, self._sources, step, self.pages.capacity
        try:
            logits = self._run(*given)
        except Exception as error:  # whatever compilers of other machines may say; to compute a step again is harmless
            if self._ran:
                raise
            why = str(error).strip().splitlines() or [type(error).__name__]
            warnings.warn(f"the decoding step is not compiled, and slower: {why[0][:200]}", stacklevel=2)
            self._run = logits_of
            logits = self._run(*given)
        self._ran = True
        return logits[: len(rows)]

    def _vary(self, step: Plan) -> None:
        """Say which sizes change from step to step."""
        tables = [where.blocks for where in step.where.values()] + ([step.source] if self._sources else [])
        for table in tables:
            torch._dynamo.mark_dynamic(table, 1)
        if len(step.tokens) > 1:
            columns = [tensor for where in step.where.values() for tensor in (where.first, where.slots)]
            for tensor in [step.tokens, step.positions, step.source_lengths, *columns, *tables]:
                torch._dynamo.mark_dynamic(tensor, 0)
