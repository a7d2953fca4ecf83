"""What the rows of an engine were asked and have said, in order, for the rules that look back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Said:
    """The ids of each row's prompt and answer. Memory is taken when the first row begins, and more of it when the
    longest row needs more: 8 bytes a token. A row that never began, or has ended, keeps nothing."""

    def __init__(self, rows: int, capacity: int, vocabulary: int, device: torch.device) -> None:
        """capacity: tokens of the longest row, prompt and answer; vocabulary: how many ids there are."""
        self.capacity, self.vocabulary, self.device = capacity, vocabulary, device
        # behind the end of a row stands its first id again and again; the last column takes what is not kept
        self.ids = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.lengths, self.asked, self.kept = (torch.zeros(rows, dtype=torch.long, device=device) for _ in range(3))
        self._longest = 0  # no row is longer; known without asking the device

    @property
    def width(self) -> int:
        """Tokens of a row that there is room for."""
        return self.ids.shape[1] - 1

    @torch.inference_mode()
    def begin(self, row: int, prompt: Sequence[int], said: Sequence[int] = ()) -> None:
        """A request takes the row, with what it has said already: nothing of the one before is left."""
        ids = [*prompt, *said]
        assert ids, "a row begins with a prompt"
        self._longest = max(self._longest, len(ids))
        if self._longest > self.width:
            self._widen(self._longest + 1)
        self.ids[row] = ids[0]
        self.ids[row, : len(ids)] = torch.tensor(ids, device=self.device)
        self.lengths[row], self.asked[row], self.kept[row] = len(ids), len(prompt), 1

    @torch.inference_mode()
    def end(self, row: int) -> None:
        """The row is free, and what it says no longer kept."""
        self.lengths[row], self.kept[row] = 0, 0

    @torch.inference_mode()
    def add(self, rows: Tensor, ids: Tensor) -> None:
        """Each of these rows (B,) said one more token, ids (B,); rows that keep nothing let it pass."""
        if self._longest >= self.width:
            self._longest = int(self.lengths.max())  # the one wait for the device, once in as many steps as the width
            if self._longest >= self.width:
                self._widen(self._longest + 1)
        self._longest += 1
        kept = self.kept[rows]
        places = torch.where(kept > 0, self.lengths[rows], self.width)
        self.ids[rows, places.clamp(max=self.width)] = ids
        self.lengths[rows] += kept

    def _widen(self, needed: int) -> None:
        """Room for the needed tokens and as many again, up to the capacity."""
        width = max(needed, min(1 << needed.bit_length(), self.capacity))
        more = self.ids[:, :1].expand(-1, width + 1 - self.width)
        self.ids = torch.cat((self.ids[:, : self.width], more), dim=1)

    def past(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ids (B, W) with the first of each row repeated behind its end, lengths (B, 1) of prompt and answer, and of
        the prompt (B, 1)."""
        return self.ids[rows, : self.width], self.lengths[rows][:, None], self.asked[rows][:, None]

    def counts(self, rows: Tensor) -> Tensor:
        """How often each answer said each token -> (B, V)."""
        ids, lengths, asked = self.past(rows)
        places = torch.arange(ids.shape[1], device=ids.device)
        spoken = ((places >= asked) & (places < lengths)).float()
        return spoken.new_zeros(len(ids), self.vocabulary).scatter_add_(1, ids, spoken)
