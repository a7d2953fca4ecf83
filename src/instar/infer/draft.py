"""A small model guesses what a larger one will say (Leviathan et al. 2023; Chen et al. 2023).

Theirs accepts a guess with a probability and draws again where it fails; ours is accepted where the large model's
sampler, whose luck at each place is settled, chose the same. Both leave the distribution as it is; this also leaves
every answer as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor

from ..config import InputError, unknown
from ..model.pages import Pages
from ..model.ragged import Ragged
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .engine import CAPACITY
from .pace import Paces
from .prompt import check_speaks
from .reader import resting
from .request import Request
from .sampling import Rules
from .speculative import NGram, Proposer, before_stop
from .tune import kept_in

SPECULATE = ("off", "ngram")
ROWS, MANY_ROWS = 16, 256  # see Paces: of a processor, and of an accelerator
Drafting = Transformer | tuple[Transformer, Tokenizer] | None  # a model that guesses, with its tokenizer


class Draft:
    """Guesses what a smaller model with the same vocabulary would say. It chooses by each request's own options, and
    with the luck that the request will have at that place, so that it draws what the larger one will wherever the two
    agree."""

    def __init__(
        self,
        model: Transformer,
        target: Transformer,
        *,
        most: int = 4,
        slots: int = 64,
        capacity: int | None = None,
        chunk: int = 512,
        rows: int = 16,
        trial: float = 0.2,
    ) -> None:
        """target: the model that is guessed at; most: tokens of one guess; slots: requests that it follows at a time;
        capacity: tokens of the longest, prompt and answer; chunk: of a prompt, read in one pass; rows, trial: as in
        Paces. Raises InputError for models that do not belong together."""
        check_draft(model, target)
        self.model, self.chunk = model, chunk
        self.capacity = min(capacity or CAPACITY, model.config.max_positions)
        self.paces = Paces(most, rows, trial, share=model.size() / target.size())
        self._shared = min(model.config.vocab_size, target.config.vocab_size)
        kept = kept_in(model)
        self.pages = Pages(model.config, slots, self.capacity, chunk=chunk, dtype=kept, device=model.device)
        self._followed: dict[Request, Followed] = {}
        self._rules: tuple[list[Request], Rules] | None = None

    @torch.inference_mode()
    def propose(self, requests: Sequence[Request], most: int) -> list[list[int]]:
        """See Proposer."""
        lengths = self.paces.next(requests, most)
        longest = max(lengths, default=0)
        asked = [n for n, length in enumerate(lengths) if length > 0 and self._follow(requests[n], longest)]
        guesses: list[list[int]] = [[] for _ in requests]
        if asked:
            with resting(self.model):
                said = self._say([requests[n] for n in asked], longest)
            for n, guess in zip(asked, said):
                guesses[n] = before_stop(guess[: lengths[n]], requests[n].stops)
        return guesses

    def _follow(self, request: Request, length: int) -> bool:
        """Get to know what a request has said -> whether there is room for that and a guess, and no id is strange."""
        followed = self._followed.get(request)
        size = len(request.prompt) + len(request.ids)
        if size + length > self.capacity or (followed is None and not self.pages.free_rows):
            return False
        new = [*request.prompt, *request.ids] if followed is None else request.ids[followed.said :]
        if max(new, default=0) >= self._shared:
            return False
        if followed is None:
            row, _ = self.pages.open(new, request.root)
            followed = self._followed[request] = Followed(row)
        # what was guessed, was read and came true need not be read again; the last token is, for what follows it
        true = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(followed.guess[:-1], new)))
        self.pages.lengths[followed.row] = min(int(self.pages.lengths[followed.row]) + true, size - 1)
        followed.text += new
        followed.said, followed.guess = len(request.ids), []
        return True

    def _say(self, requests: list[Request], length: int) -> list[list[int]]:
        """Guess so many tokens for each."""
        followed = [self._followed[request] for request in requests]
        logits = self._read(followed)
        rows = np.array([each.row for each in followed])
        read = self.pages.lengths[rows].copy()
        rules = self._rules_of(requests, logits)
        for place in range(length):
            if place:
                last = [each.guess[-1:] for each in followed]
                logits = self.model.heads["lm"](self._pass(rows, last))
            said = [len(request.ids) + place for request in requests]
            short = torch.tensor([n < r.options.min_new_tokens for n, r in zip(said, requests)], device=logits.device)
            luck = torch.tensor([r.luck.of(n) for n, r in zip(said, requests)], dtype=torch.float64)
            shaped = rules.shape(logits[:, : self._shared], short=short)
            for each, id in zip(followed, rules.choose(shaped, luck).tolist()):
                each.guess.append(id)
        self.pages.lengths[rows] = read
        return [each.guess for each in followed]

    def _rules_of(self, requests: list[Request], logits: Tensor) -> Rules:
        """How they choose, made once while they stay the same."""
        if self._rules is None or self._rules[0] != requests:
            options = [request.options for request in requests]
            stops = [request.stops for request in requests]
            self._rules = requests, Rules(options, logits[:, : self._shared], stops)
        return self._rules[1]

    def _read(self, followed: list[Followed]) -> Tensor:
        """Read what each text has more than its row -> logits (B, V) behind it. Those that have one token more come
        first, and of long ones a chunk at a time."""
        ends: dict[int, Tensor] = {}
        while len(ends) < len(followed):
            left = {each.row: len(each.text) - int(self.pages.lengths[each.row]) for each in followed}
            wave = sorted((each for each in followed if left[each.row]), key=lambda each: left[each.row])
            full = np.cumsum([min(left[each.row], self.chunk) for each in wave]) > 2 * self.chunk
            wave = wave[: max(1, int(full.argmax()))] if full.any() else wave
            starts = [len(each.text) - left[each.row] for each in wave]
            parts = [each.text[start : start + self.chunk] for start, each in zip(starts, wave)]
            hidden = self._pass(np.array([each.row for each in wave]), parts)
            for end, each in zip(hidden, wave):
                self.pages.fill(each.row, each.text)
                if int(self.pages.lengths[each.row]) == len(each.text):
                    ends[each.row] = end
        return self.model.heads["lm"](torch.stack([ends[each.row] for each in followed]))

    def _pass(self, rows: np.ndarray, parts: Sequence[Sequence[int]]) -> Tensor:
        """Read so many tokens more into some rows -> (B, D) of the last of each."""
        counts = np.array([len(part) for part in parts])
        for row in self.pages.cramped(rows, counts).tolist():
            grown = self.pages.grow(row, int(self.pages.lengths[row]) + int(counts[rows == row].sum()))
            assert grown, "there is room for every row"
        ragged = Ragged(self.pages, rows, counts)
        tokens = torch.tensor([id for part in parts for id in part], device=self.model.device)
        hidden = self.model.hidden(tokens[None], cache=ragged)[0]
        self.pages.advance(rows, counts)
        return hidden[torch.from_numpy(ragged.ends()).to(hidden.device)]

    def told(self, request: Request, drafted: int, accepted: int) -> None:
        """See Proposer."""
        self.paces.told(request, drafted, accepted)

    def forget(self, request: Request) -> None:
        """See Proposer."""
        self.paces.forget(request)
        if (followed := self._followed.pop(request, None)) is not None:
            self.pages.close(followed.row)


@dataclass(eq=False)
class Followed:
    """A request as a draft model knows it. row: of its pages; text: prompt and answer when it was last asked, `said`
    tokens of it answer; guess: how it went on from there, of which all but the last were read."""

    row: int
    said: int = 0
    text: list[int] = field(default_factory=list)
    guess: list[int] = field(default_factory=list)


def check_draft(model: Transformer, target: Transformer) -> None:
    """Raise InputError where one model cannot guess what the other will say."""
    for whose, config in (("the draft model", model.config), ("the model", target.config)):
        if config.encoder_layers:
            raise InputError(f"{whose} is an encoder-decoder; a draft model is for decoders: speculate by n-grams")
    check_speaks(model)


def check_same_words(draft: Tokenizer, target: Tokenizer) -> None:
    """Raise InputError where the ids of a draft model do not stand for the same text as the target's."""
    own, other = draft.vocabulary.table, target.vocabulary.table
    remedy = "a draft model needs the vocabulary of the model that it helps; take a smaller one of the same family"
    if len(own) != len(other):
        raise InputError(f"the draft model's tokenizer has {len(own)} ids, the model's {len(other)}; {remedy}")
    for id, (piece, wanted) in enumerate(zip(own, other)):
        if piece != wanted:
            found = f"id {id} is {draft.piece(id)!r} to the draft model and {target.piece(id)!r} to the model"
            raise InputError(f"{found}; {remedy}")


def proposer(
    model: Transformer,
    tokenizer: Tokenizer | None,
    *,
    speculate: str = "off",
    draft: Drafting = None,
    slots: int = 64,
    capacity: int | None = None,
) -> Proposer | None:
    """Who guesses for an engine of so many slots and so much capacity; None for nobody. speculate: off or ngram; draft:
    a smaller model, with its tokenizer where that may differ. Raises InputError for both at once, and for a draft model
    of another vocabulary."""
    if speculate not in SPECULATE:
        raise unknown("speculate", str(speculate), SPECULATE)
    rows = ROWS if model.device.type == "cpu" else MANY_ROWS
    if draft is None:
        shares = not model.config.source_vocab_size
        return NGram(rows=rows, sources=shares) if speculate == "ngram" else None
    if speculate != "off":
        raise InputError(
            f"found both speculate={speculate} and a draft model; one of them guesses, leave out the other"
        )
    small, words = draft if isinstance(draft, tuple) else (draft, None)
    if words is not None and tokenizer is not None:
        check_same_words(words, tokenizer)
    elif small.config.vocab_size != model.config.vocab_size:
        sizes = f"the draft model has {small.config.vocab_size} ids, the model {model.config.vocab_size}"
        raise InputError(
            f"{sizes}; take one of the same vocabulary, or pass its tokenizer too: draft=(model, tokenizer)"
        )
    return Draft(small, model, slots=slots, capacity=capacity, rows=rows)
