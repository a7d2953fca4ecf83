"""`instar generate` and `instar chat`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from typing import Any, TypeVar

from ..config import InputError, unknown
from ..config.flags import parse
from ..config.options import BEAMING, ChatOptions, GenerateOptions, InspectOptions, Machine, SamplingOptions
from .screen import Screen

Speaking = TypeVar("Speaking", GenerateOptions, ChatOptions, InspectOptions)


def generate(arguments: list[str]) -> int:
    """Continue one or more prompts -> 1 where an answer failed."""
    options = parse(GenerateOptions, arguments, program="instar generate", start=start_of(GenerateOptions))
    from ..infer.sampling import describe

    screen = Screen(options)
    model, tokenizer = load_here(options, options.model)
    screen.say(describe(options.sampling))
    if len(options.prompt) == options.n == 1 and not options.json and options.sampling.strategy != "beam":
        _stream(screen, options, model, tokenizer)
        return 0
    return _complete(screen, options, model, tokenizer)


def _stream(screen: Screen, options: GenerateOptions, model: Any, tokenizer: Any) -> None:
    """One answer, as it comes."""
    from ..infer.text import stream

    (prompt,) = options.prompt
    how = _how(options)
    pieces = stream(model, tokenizer, prompt, options=options.sampling, seed=options.seed, chat=options.chat, **how)
    screen.write(_said_before(options, model, prompt))
    _write_all(screen, pieces)


def _complete(screen: Screen, options: GenerateOptions, model: Any, tokenizer: Any) -> int:
    """Several answers, side by side, with an empty line between them; the n best of beam search with their scores."""
    from ..infer.text import complete

    answers = complete(
        model, tokenizer, options.prompt, options.sampling, n=options.n, seed=options.seed, chat=options.chat,
        **_how(options),
    )  # fmt: skip
    prompts = [prompt for prompt in options.prompt for _ in range(options.n)]
    scores = ["" if a.score is None or options.n == 1 else f"{a.score:.4f}  " for a in answers]
    shown = [_said_before(options, model, prompt) + a.text for prompt, a in zip(prompts, answers)]
    screen.write("\n".join(score + text + "\n" for score, text in zip(scores, shown)))
    said = [
        {"prompt": prompt, "text": a.text, "ids": a.ids, "logprobs": a.logprobs, "finish": a.finish}
        | ({} if a.score is None else {"score": a.score})
        | ({"alternatives": a.alternatives} if a.alternatives else {})
        | ({} if a.error is None else {"error": a.error})
        for prompt, a in zip(prompts, answers)
    ]
    failed = [a.error for a in answers if a.error is not None]
    for error in failed:
        screen.say(f"an answer failed: {error}")
    screen.finish({"answers": said})
    return int(bool(failed))


def _said_before(options: GenerateOptions, model: Any, prompt: str) -> str:
    """The text that an answer goes on from, for the eye; a message and a source are no part of it."""
    return "" if options.chat or model.config.encoder_layers else prompt


def chat(arguments: list[str]) -> None:
    """Talk with a model until Ctrl-D."""
    options = parse(ChatOptions, arguments, program="instar chat", start=start_of(ChatOptions))
    from ..infer.conversation import Conversation
    from ..infer.sampling import describe

    screen = Screen(options)
    model, tokenizer = load_here(options, options.model)
    conversation = Conversation(
        model, tokenizer, options.sampling, system=options.system, seed=options.seed, **_how(options)
    )
    screen.say(f"{describe(options.sampling)}; /reset forgets, Ctrl-C stops the answer, Ctrl-D leaves")
    while (text := _read_line(screen)) is not None:
        if text == "/reset":
            conversation.reset()
            screen.say("forgotten")
        elif text.startswith("/"):
            screen.say(str(unknown("command", text.split()[0], ["/reset"])))
        elif text:
            _answer(screen, conversation.answer(text))
    screen.finish({"messages": conversation.messages})


def start_of(kind: type[Speaking]) -> Callable[[dict[str, Any]], Speaking]:
    """What a command begins with: to draw as it is used to, or to search, where that is what the words mean."""

    def start(said: dict[str, Any]) -> Speaking:
        asked = said.get("sampling")
        asked = asked if isinstance(asked, Mapping) else {}
        searches = asked.get("strategy", "beam" if any(name in asked for name in BEAMING) else None) == "beam"
        return kind(sampling=SamplingOptions(strategy="beam")) if searches else kind()

    return start


def _how(options: GenerateOptions | ChatOptions) -> dict[str, Any]:
    """What answers are computed with."""
    return {"how": options.engine, "draft": load_here(options, options.draft) if options.draft else None}


def load_here(options: Machine, name: str) -> Any:
    """Model and tokenizer where and how the options want them."""
    from ..train import machine

    return machine.load_here(name, options.device, options.dtype)


def _read_line(screen: Screen) -> str | None:
    """The next line, or None at the end of input; Ctrl-C forgets the line begun."""
    watched = sys.stdin.isatty() and not screen.json
    if watched:
        _edit_lines()
    while True:
        try:
            return input("> " if watched else "").strip()
        except EOFError:
            screen.write("\n" if watched else "")
            return None
        except KeyboardInterrupt:
            screen.write("\n")


def _edit_lines() -> None:
    """Arrow keys, and deleting a whole Chinese character, where the system can."""
    with suppress(ImportError):
        import readline  # noqa: F401  its import changes what input() does


def _answer(screen: Screen, pieces: Iterator[str]) -> None:
    """Show an answer as it comes. Ctrl-C stops the answer, not the chat; so does a conversation that grew too long."""
    with closing(pieces):  # type: ignore[type-var]
        try:
            _write_all(screen, pieces)
        except KeyboardInterrupt:
            screen.write(" [stopped]\n")
        except InputError as error:
            screen.say(str(error))


def _write_all(screen: Screen, pieces: Iterator[str]) -> None:
    for piece in pieces:
        screen.write(piece)
    screen.write("\n")
