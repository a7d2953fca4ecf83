"""An engine as a process of its own: `python -m instar.serve.worker FD`, started by `fleet.py`.

It knows ids and no texts, hears what is asked over the socket that it inherits, and ends when the other end has gone.
Of all of the server this alone imports torch.
"""

from __future__ import annotations

import base64
import os
import socket
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NoReturn

import torch

from ..adapt.shelf import take
from ..config import InputError, from_dict
from ..config.errors import brief
from ..config.options import CONSTRAINTS, SamplingOptions, ServeOptions
from ..hub.memory import resident
from ..infer.engine import Engine
from ..infer.readings import Readings
from ..infer.ready import probe, ready
from ..infer.request import Event, Request
from ..infer.surprise import Surprise
from ..infer.vectors import has_vectors
from ..train.machine import pick_device, weights_dtype
from . import wire
from .compiling import Compiled, Compiling
from .discreet import discreet
from .inherited import inherited
from .naming import adapters_of, model_name
from .wire import LINE, Message

BEAT = 1.0  # seconds between two beats at most, while steps are shorter
STUMBLES = 3  # failures one after another, behind which the process itself may be broken


class Worker:
    """The loop: take what was said, let every answer go on by a step, read a piece of other texts, tell."""

    def __init__(self, options: ServeOptions, number: int, line: socket.socket, inbox: SimpleQueue[Any]) -> None:
        """Loads the model. Raises InputError where it cannot be served."""
        self.options, self.number, self.line, self.inbox = options, number, line, inbox
        began = time.monotonic()
        device = place_of(options, number)
        self.shelf = take(
            options.model, adapters_of(options), own=model_name(options), dtype=weights_dtype(options.dtype, device),
            device=device,
        )  # fmt: skip
        self.model, self.tokenizer = self.shelf.model, self.shelf.tokenizer
        self.stops = self.tokenizer.stops
        config = self.model.config
        speaks = config.causal and "lm" in config.heads_of
        sharing = options.replicas if device.type == "cpu" else 1
        self.engine = ready(self.model, self.tokenizer, options.engine, sharing=sharing) if speaks else None
        longest = config.max_positions if self.engine is None else self.engine.capacity
        longest = self.engine.source_capacity if self.engine and config.encoder_layers else longest
        self.readings = Readings(
            self.model, pooling=options.pooling, chunk=options.engine.chunk, longest=min(longest, config.max_positions)
        )
        if self.engine is None and not has_vectors(config):
            raise InputError(
                f"heads_of={', '.join(config.heads_of)}: the model says classes or numbers, and a server answers with "
                "texts or vectors; name a language model or a model of sentence embeddings"
            )
        self.asked: dict[Request, int] = {}
        self.requests: dict[int, Request] = {}
        self.begun: set[int] = set()  # whose first token was told
        self.compiling = Compiling(self.compile, inbox.put)
        self.steps, self.stumbles, self.losses, self.last_beat = 0, 0, 0, 0.0
        self.probe: Request | None = None
        self.facts = self._facts(longest, time.monotonic() - began)

    def _facts(self, longest: int, seconds: float) -> wire.Facts:
        model, engine, config = self.model, self.engine, self.model.config
        weights = {id(weight): weight for weight in [*model.parameters(), *model.buffers()]}
        return wire.Facts(
            speaks=engine is not None, reads_source=config.encoder_layers > 0, embeds=has_vectors(config),
            context=engine.capacity if engine else config.max_positions, longest=longest, width=config.d_model,
            vocab_size=config.vocab_size, start=config.start, weights=model.size(),
            weight_bytes=sum(weight.nbytes for weight in weights.values()),
            kv_bytes=engine.pages.nbytes if engine else 0, kv_blocks=self._blocks()[1],
            slots=self.options.engine.slots, device=model.device.type, dtype=str(model.dtype).removeprefix("torch."),
            fingerprint=self.shelf.fingerprint, tokenizer=str(self.shelf.words.resolve()), created=self.shelf.created,
            adapters=list(self.shelf.adapters), seconds=seconds, base=self.shelf.base,
        )  # fmt: skip

    def run(self) -> None:
        """Until the process ends, which it does when nobody listens any more."""
        self.tell(self.facts)
        self.beat()
        while True:
            self.hear()
            if self.engine is not None and self.engine.busy:
                self.step(self.engine)
            if len(self.readings):
                self.read()
            if self.last_beat + BEAT <= time.monotonic() or not self.busy:
                self.beat()

    @property
    def busy(self) -> bool:
        return (self.engine is not None and self.engine.busy) or len(self.readings) > 0

    def tell(self, message: Message) -> None:
        try:
            self.line.sendall(wire.dump(message))
        except OSError:  # the front has gone
            os._exit(0)

    def beat(self) -> None:
        """Say that the loop goes round."""
        self.last_beat = time.monotonic()
        free, total = self._blocks()
        running = len(self.engine.running) if self.engine else 0
        waiting = (len(self.engine.waiting) if self.engine else 0) + len(self.readings) + len(self.compiling)
        self.tell(wire.Beat(running, waiting, free, total, resident(), self.steps))

    def _blocks(self) -> tuple[int, int]:
        """Blocks of the memory for keys: those that nobody uses, and all."""
        pools = self.engine.pages.every if self.engine else []
        return sum(pool.free for pool in pools), sum(pool.total for pool in pools)

    def hear(self) -> None:
        """Take all messages that wait; where there is nothing else to do, wait for one."""
        patience = 0.0 if self.busy else max(0.0, self.last_beat + BEAT - time.monotonic())
        try:
            message = self.inbox.get(timeout=patience) if patience else self.inbox.get_nowait()
            while True:
                self.heed(message)
                message = self.inbox.get_nowait()
        except Empty:
            return

    def heed(self, message: Message) -> None:
        """One message. What cannot be is refused, and nobody else notices."""
        try:
            if isinstance(message, wire.Ask):
                self.take(message)
            elif isinstance(message, Compiled):
                self.go_on(message)
            elif isinstance(message, wire.Cancel):
                self.cancel(message.id)
            elif isinstance(message, wire.Embed):
                self.embed(message)
            elif isinstance(message, wire.Score):
                self.readings.score(message.id, message.ids, message.top, self.adapter(message.adapter))
        except InputError as error:
            self.tell(refused(message, error))
        except Exception as error:  # a fault of ours in one request takes down nobody else's
            why = brief(error)
            if isinstance(message, Compiled):  # a library may repeat what it was given
                why = discreet(why, message.ask.options)
            self.tell(wire.Failed(number_of(message), why))

    def adapter(self, name: str) -> str:
        """What an adapter is called on the model; "" is the bare one."""
        if name and name not in self.shelf.adapters:
            raise InputError("there is no such adapter")
        return self.shelf.adapters[name] if name else ""

    def embed(self, work: wire.Embed) -> None:
        """Queue texts whose vectors have to fit into one message."""
        most = LINE // (6 * self.model.config.d_model)
        if len(work.rows) > most:
            raise InputError(f"found {len(work.rows)} texts, wanted at most {most} of them in one request")
        self.readings.embed(work.id, work.rows, self.adapter(work.adapter))

    def take(self, ask: wire.Ask) -> None:
        """Queue an answer; one that is to obey a grammar once that is compiled."""
        if any(getattr(ask.options, name) for name in CONSTRAINTS):
            self.compiling.add(ask)
        else:
            self.submit(ask)

    def compile(self, options: SamplingOptions) -> Any:
        """In a thread: what a constraint is to the library."""
        from ..infer.constrain import compile as compile_grammar

        return compile_grammar(self.tokenizer, options, self.model.config.vocab_size)

    def go_on(self, compiled: Compiled) -> None:
        """A grammar came back."""
        if not self.compiling.take(compiled):
            return
        if isinstance(compiled.found, Exception):
            raise compiled.found
        self.submit(compiled.ask, compiled.found)

    def submit(self, ask: wire.Ask, grammar: Any = None) -> None:
        if self.engine is None:
            raise InputError("the model continues no texts; it gives vectors")
        request = self.engine.submit(
            ask.prompt, ask.options, source=ask.source, seed=ask.seed, stops=() if ask.endless else self.stops,
            constraint=None if grammar is None else grammar.start(), salt=ask.salt.encode(),
            adapter=self.adapter(ask.adapter) if self.model.attached or ask.adapter else None,
        )  # fmt: skip
        self.asked[request], self.requests[ask.id] = ask.id, request
        self.tell(wire.Taken(ask.id))

    def cancel(self, id: int) -> None:
        """Nobody waits for it; it is told once more, so that its place can be given to another."""
        if id in self.requests:
            assert self.engine is not None
            self.engine.cancel(self.requests[id])
            self.forget(id)
        elif not self.compiling.cancel(id) and not self.readings.drop(id):
            return  # it had ended before
        self.tell(wire.Told([[id, None, 0.0, "cancelled", None, 0]]))

    def forget(self, id: int) -> None:
        del self.asked[self.requests.pop(id)]
        self.begun.discard(id)

    def step(self, engine: Engine) -> None:
        """Every answer goes on. Those that fail the engine tells of; where it fails itself, all that it holds is given
        up."""
        self.steps += 1
        try:
            events = engine.step()
        except Exception as error:  # nothing of a request is left out of `events`, so it was the engine's own fault
            for request, id in list(self.asked.items()):
                engine.cancel(request)
                self.forget(id)
                self.tell(wire.Failed(id, brief(error)))
            self.stumbles += 1
            if self.stumbles >= STUMBLES:
                self.collapse(brief(error))
            return
        told = [row for event in events if (row := self.row(event)) is not None]
        if told:
            self.tell(wire.Told(told))
        self.examine(engine, events)

    def examine(self, engine: Engine, events: list[Event]) -> None:
        """Where one request after another fails, it may be the process that is broken, as one is whose GPU has failed:
        it is asked what it could say when it began."""
        for event in events:
            if event.request is self.probe and event.finish == "failed":
                self.collapse(event.request.error or "")
            self.stumbles = self.stumbles + 1 if event.finish == "failed" else 0
        if self.probe is not None and self.probe.finish is not None:
            self.probe = None
        if self.stumbles >= STUMBLES and self.probe is None:
            self.probe = probe(engine)

    def collapse(self, why: str) -> None:
        """End, to be begun anew."""
        say(self.number, f"nothing can be computed any more, and the process ends: {why}")
        end()

    def row(self, event: Event) -> list[Any] | None:
        """An event as it is told; of one that failed the reason is told instead."""
        id = self.asked.get(event.request)
        if id is None:
            return None
        cached = 0 if id in self.begun else event.request.cached
        self.begun.add(id)
        if event.finish is not None:
            self.forget(id)
        if event.finish == "failed":
            why = event.request.error or "the answer failed"
            self.tell(wire.Failed(id, discreet(why, event.request.options)))
            return None
        return [id, event.id, event.logprob, event.finish, event.alternatives, cached]

    def read(self) -> None:
        """A piece of the texts that are read and not answered."""
        for id, found in self.readings.go_on():
            self.losses = self.losses + 1 if isinstance(found, Exception) else 0
            if isinstance(found, Exception):
                self.tell(wire.Failed(id, brief(found)))
            elif isinstance(found, Surprise):
                self.tell(wire.Scored(id, found.logprobs, [[list(pair) for pair in row] for row in found.alternatives]))
            else:
                data = found.numpy().astype("<f4").tobytes()
                self.tell(wire.Vectors(id, base64.b64encode(data).decode(), found.shape[1]))
        if self.losses >= STUMBLES:  # as in `examine`
            self.losses = 0
            if self.engine is not None:
                self.probe = self.probe or probe(self.engine)
                return
            try:
                self.readings.probe()
            except Exception as error:  # whatever it is, no text can be read
                self.collapse(brief(error))


def place_of(options: ServeOptions, number: int) -> torch.device:
    """Where an engine computes: replicas take the GPUs in turn."""
    device = pick_device(options.device)
    if device.type == "cuda" and device.index is None and options.replicas > 1:
        return torch.device("cuda", number % torch.cuda.device_count())
    return device


def refused(message: Message, error: InputError) -> wire.Refused:
    """What a request did wrong. Its field is the first word, as the engine says it; of what it said itself nothing is
    repeated."""
    said = str(error)
    word = said.removeprefix("sampling.").partition("=")[0].partition(" ")[0].rstrip(":")
    if not said.startswith("sampling.") or word not in SamplingOptions.__dataclass_fields__:
        return wire.Refused(number_of(message), said, "prompt" if "prompt" in said else None)
    if isinstance(message, Compiled):
        said = discreet(said, message.ask.options)
    return wire.Refused(number_of(message), said, word)


def number_of(message: Message) -> int:
    return message.ask.id if isinstance(message, Compiled) else message.id


def say(number: int, text: str) -> None:
    """A line of the log."""
    print(f"engine {number}: {''.join(c if c.isprintable() else '?' for c in text)}", file=sys.stderr, flush=True)


def end() -> NoReturn:
    """Leave at once, with 1: a thread that compiles a grammar is not waited for."""
    sys.stderr.flush()
    os._exit(1)


def listen(line: socket.socket, inbox: SimpleQueue[Any]) -> None:
    """Take messages until the front has gone, and with it the reason to be: there is nothing to save."""
    code = 0
    try:
        with line.makefile("rb") as messages:
            for message in messages:
                inbox.put(wire.load(message))
    except (OSError, ValueError):  # it ended in the middle of a line
        code = 1
    finally:
        os._exit(code)


def main(arguments: Iterable[str]) -> int:
    """Serve over the socket whose number is the only argument -> 2 where the model cannot be loaded."""
    line = inherited(arguments)
    inbox: SimpleQueue[Any] = SimpleQueue()
    Thread(target=listen, args=(line, inbox), daemon=True).start()
    start = inbox.get()
    assert isinstance(start, wire.Start)
    number, seen = start.number, Counter[str]()

    def warn(message: Warning | str, *rest: Any, **more: Any) -> None:
        seen[str(message)] += 1
        if seen[str(message)] == 1:
            say(number, str(message))

    warnings.showwarning = warn
    try:
        worker = Worker(from_dict(ServeOptions, start.options), number, line, inbox)
    except InputError as error:
        line.sendall(wire.dump(wire.Failed(-1, str(error))))
        return 2
    try:
        worker.run()
    except Exception as error:  # the loop itself is at fault; the log is not to show what was asked
        say(number, brief(error))
    end()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
