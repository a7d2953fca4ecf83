"""A conversation: what was said so far, and the next answer in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..config import InputError
from ..config.options import EngineOptions, SamplingOptions
from ..model.transformer import Transformer
from ..text.tokenizer import Tokenizer
from .draft import Drafting
from .prompt import check_speaks
from .speaker import Speaker

Message = dict[str, str]
ROOM = 2048  # tokens that a conversation has room for at first


class Conversation:
    """Knows nothing of screens: `answer` yields text, and stopping early keeps what was said."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        options: SamplingOptions,
        *,
        system: str = "",
        seed: int = 0,
        how: EngineOptions = EngineOptions(),  # noqa: B008  it is frozen
        draft: Drafting = None,
    ) -> None:
        """how, draft: as a Speaker takes them. Raises InputError for a model that cannot hold one."""
        check_speaks(model)
        if model.config.encoder_layers:
            raise InputError("an encoder-decoder answers a source and holds no conversation; wanted a decoder")
        self.model, self.tokenizer, self.options, self.seed = model, tokenizer, options, seed
        self.speaker = Speaker(model, tokenizer, how, draft=draft, reserve=min(ROOM, model.config.max_positions))
        self.system = [{"role": "system", "content": system}] if system else []
        self.messages: list[Message] = list(self.system)

    def reset(self) -> None:
        """Forget everything but the system message."""
        self.messages = list(self.system)

    def answer(self, text: str) -> Iterator[str]:
        """The answer to a user's message, in pieces.

        The message and the answer become part of the conversation, also where the iterator is closed half-way, with
        what was answered by then; a message that was stopped before the first piece is forgotten. Raises InputError,
        and forgets the message, where the conversation no longer fits the model.
        """
        asked = [*self.messages, {"role": "user", "content": text}]
        ids = self.tokenizer.chat(asked, add_generation_prompt=True).ids
        pieces: list[str] = []
        ended = False
        try:
            options, seed = self._room(len(ids)), self._turn_seed()
            for piece in self.speaker.stream(ids, options, seed=seed):
                pieces.append(piece)
                yield piece
            ended = True
        finally:
            if pieces or ended:
                self.messages = [*asked, {"role": "assistant", "content": "".join(pieces)}]

    def _turn_seed(self) -> int:
        """Each turn draws anew, and the whole conversation can be repeated."""
        return self.seed + len(self.messages)

    def _room(self, used: int) -> SamplingOptions:
        """The options, with an answer no longer than what is left of the model's context."""
        limit = self.model.config.max_positions
        if used > limit:
            raise InputError(
                f"the conversation has {used} tokens and the model reads {limit}; say /reset to begin anew"
            )
        return replace(self.options, max_new_tokens=min(limit + 1 - used, self.options.max_new_tokens))
