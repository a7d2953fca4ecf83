"""The `instar` command: finds the one sub-command, and imports only what that one needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from .. import __version__ as VERSION

# command -> module:function (imported when the command is run), and the sentence `instar --help` shows
COMMANDS: dict[str, tuple[str, str]] = {
    "grow": ("instar.cli.life:grow", "the whole life from one recipe: data, tokenizer, pretraining, SFT, evaluation"),
    "tokenizer train": ("instar.cli.tokens:train", "train a byte-level BPE tokenizer"),
    "tokenizer show": ("instar.cli.tokens:show", "show how a text becomes tokens: bytes, merges, ids"),
    "tokenizer compare": ("instar.cli.tokens:compare", "vocabulary sizes against bytes per token, per language"),
    "data prepare": ("instar.cli.documents:prepare", "raw files into refined documents and token shards"),
    "data preview": ("instar.cli.documents:preview", "print tokens coloured by what they teach"),
    "pretrain": ("instar.cli.stages:pretrain", "train a new model: next, masked or missing tokens, or translation"),
    "sft": ("instar.cli.stages:sft", "teach a model to answer, from dialogues"),
    "classify": ("instar.cli.stages:classify", "teach a model to tell labels apart, of texts or of words"),
    "reward": ("instar.cli.alignment:reward", "teach a model how good an answer is, from pairs of answers"),
    "dpo": ("instar.cli.alignment:dpo", "make preferred answers likelier than others, without a reward model"),
    "ppo": ("instar.cli.alignment:ppo", "make answers better by a reward model or function, with a critic"),
    "grpo": ("instar.cli.alignment:grpo", "make answers better by a reward, compared with others to the same prompt"),
    "plan": ("instar.cli.stages:plan", "what a training command will take: memory, steps, tokens, time"),
    "generate": ("instar.cli.speak:generate", "continue a prompt"),
    "chat": ("instar.cli.speak:chat", "talk with a model"),
    "serve": ("instar.cli.serve:serve", "answer programs that speak OpenAI's API"),
    "inspect": ("instar.cli.inspect:inspect", "see inside a model: its tokens, attention, layers, draws; with proofs"),
    "merge": ("instar.cli.adapting:merge", "make a model of an adapter and its base"),
    "quantize": ("instar.cli.adapting:quantize", "round a model's weights to 8 or 4 bits, and what that costs"),
    "export": ("instar.cli.export:export", "write a model for other programs: a Hugging Face folder, or a GGUF file"),
    "verify": ("instar.cli.measure:verify", "whether transformers and llama.cpp compute from a folder what we do"),
    "eval": ("instar.cli.measure:evaluate", "perplexity, exact match, minimal pairs, choices, cloze, classes, BLEU"),
    "bench decode": ("instar.cli.bench:decode", "how fast a model reads and answers, beside the machine's limits"),
    "bench serve": ("instar.cli.bench:serve", "how fast a server of OpenAI's API answers, ours or another"),
}

USERS_FAULT = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed, 2 the input is wrong, 75 stopped after saving."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """The exit status of one command line."""
    from ..config.errors import Diverged, Failed, InputError, Interrupted

    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"instar {VERSION}")
        return 0
    try:
        name, rest = _find(arguments)
        return _call(name, rest)
    except InputError as error:
        print(f"instar: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"\ninstar: {stop}", file=sys.stderr)
        return 75
    except (Diverged, Failed) as error:
        print(f"\ninstar: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninstar: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has left; nothing is wrong
        return 0
    except OSError as error:
        if not error.filename:
            raise
        print(f"instar: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2 if isinstance(error, USERS_FAULT) else 1


def _call(name: str, rest: list[str]) -> int:
    from .waiting import prepare

    if "torch" not in sys.modules:  # which has decided by then
        prepare()
    module, function = COMMANDS[name][0].split(":")
    try:
        return getattr(import_module(module), function)(rest) or 0
    except SystemExit as stop:  # from --help
        return int(stop.code or 0)


def _find(arguments: list[str]) -> tuple[str, list[str]]:
    """Split the command off: one word, or two where the first is a group."""
    from ..config.errors import InputError, unknown

    first = arguments[0]
    if first in COMMANDS:
        return first, arguments[1:]
    group = [command for command in COMMANDS if command.startswith(f"{first} ")]
    if not group:
        raise unknown("command", first, {command.split()[0] for command in COMMANDS})
    second = arguments[1] if len(arguments) > 1 else ""
    if not second or second in ("-h", "--help"):
        if second:
            print(_help(group))
            sys.exit(0)
        raise InputError(f"{first} wants one of: {', '.join(command.split()[1] for command in group)}")
    name = f"{first} {second}"
    if name not in COMMANDS:
        raise unknown("command", name, group)
    return name, arguments[2:]


def _help(commands: Sequence[str] = tuple(COMMANDS)) -> str:
    width = max(len(command) for command in COMMANDS)
    lines = [f"  {command:<{width}}  {COMMANDS[command][1]}" for command in commands]
    return "\n".join(
        [
            "instar: raise a language model through its whole life, and see inside at every stage",
            "",
            "usage: instar COMMAND [--config FILE.yaml] [--option VALUE ...]     instar COMMAND --help",
            "",
            *lines,
            "",
            "start here: instar grow recipes/demo.yaml --out runs/demo",
        ]
    )
