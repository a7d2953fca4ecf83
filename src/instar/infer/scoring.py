"""How good a reward model finds texts: one number each, read at the last token, whatever stands beside the text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapt.folders import load
from ..batch import View
from ..config import InputError, ModelConfig
from ..data.preferences import answered
from ..data.records import Message
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .prompt import padded
from .reader import resting

HEAD = "classify"


def is_reward(config: ModelConfig) -> bool:
    """Whether a model says one number of a text that it reads in the order of writing."""
    head = (config.heads_of, config.labels, config.pooling, config.pooled) == ((HEAD,), 1, "last", "none")
    return head and config.causal and not config.encoder_layers


def rewards_at(model: Any, hidden: Tensor, places: Tensor) -> Tensor:
    """hidden (B, T, D), places (N,) in a row of all B * T -> the rewards that are read there (N,), in fp32 at least."""
    states = hidden.flatten(0, 1).index_select(0, places)
    return model.heads[HEAD](states.to(torch.promote_types(states.dtype, torch.float32))).squeeze(-1)


class Scorer:
    """Rewards of texts, `batch` of about the same length at a time: which others stand beside one changes nothing but
    the last digits, and neither does an end token inside it."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, *, batch: int = 32) -> None:
        """Raises InputError for a model that says no reward."""
        if not is_reward(model.config):
            heads = ", ".join(model.config.heads_of) or "(none)"
            raise InputError(
                f"found a model with heads_of={heads} and labels={model.config.labels}, wanted a reward model, a "
                "decoder with heads_of=classify, labels=1 and pooling=last; train one with instar reward"
            )
        if batch < 1:
            raise InputError(f"batch={batch}, wanted at least 1")
        self.model, self.tokenizer, self.batch = model, tokenizer, batch

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        batch: int = 32,
    ) -> Scorer:
        """The reward model of a run folder, a Hugging Face folder or hf:org/name. Raises InputError."""
        model, tokenizer = load(name, dtype=dtype, device=device)
        try:
            return cls(model, tokenizer, batch=batch)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    @torch.inference_mode()
    def ids(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """The rewards of texts as ids. Raises InputError for one that is empty or longer than the model reads."""
        longest = self.model.config.max_positions
        for number, row in enumerate(rows):
            if not 0 < len(row) <= longest:
                raise InputError(f"text {number} has {len(row)} tokens, and the reward model reads 1 to {longest}")
        # the like in length together, so that little is padded
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        found = [0.0] * len(rows)
        with resting(self.model):
            for start in range(0, len(order), self.batch):
                part = order[start : start + self.batch]
                for number, reward in zip(part, self._read([rows[number] for number in part])):
                    found[number] = reward
        return found

    def _read(self, rows: Sequence[Sequence[int]]) -> list[float]:
        tokens, lengths = padded(rows)
        ends = torch.tensor(lengths)
        keep = torch.arange(tokens.shape[1]) < ends[:, None]
        view = View(keep=keep).to(self.model.device)
        hidden = self.model.hidden(tokens.to(self.model.device), view=view)
        places = torch.arange(len(rows)) * tokens.shape[1] + ends - 1
        return self.said(hidden, places.to(self.model.device)).tolist()

    def said(self, hidden: Tensor, places: Tensor) -> Tensor:
        """The rewards that are read at these places, as `rewards_at` has them."""
        return rewards_at(self.model, hidden, places)

    def texts(self, texts: Sequence[str]) -> list[float]:
        """The rewards of plain texts, each a document with its end."""
        return self.ids(self.tokenizer.documents(texts))

    def messages(
        self, conversations: Sequence[Sequence[Message]], *, tools: Sequence[Any] | None = None
    ) -> list[float]:
        """The rewards of the answers that end conversations, spelt as in training. Raises InputError for a conversation
        that does not end with an answer."""
        found = answered(conversations, self.tokenizer, tools=tools)
        return self.ids([[*prompt, *answer] for prompt, answer in found])
