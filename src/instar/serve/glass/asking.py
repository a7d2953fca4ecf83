"""What may be asked of the glass box: bodies and queries, strictly; a name that is not known is an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

from ...config import InputError, from_dict, option_names, unknown
from ...config.flags import merge, read_flags
from ...config.options import InspectOptions, SamplingOptions
from ...config.strict import field_types
from .trouble import bad_input, trouble_of

T = TypeVar("T")
Kinds = Mapping[str, type[Any] | Sequence[str]]  # what the values of a query may be, by name
TEXT = 2**20  # characters of a text
MANY = 65536  # ids of a text
MESSAGES = 512
MOST = 10**6  # of a whole number in a query
# fields of InspectOptions that are said elsewhere, or are no matter of a view
ELSEWHERE = {
    "model", "text", "ids", "view", "target", "target_ids", "chat", "vs", "format", "output", "language", "check",
    "json", "quiet", "device", "dtype",
}  # fmt: skip
VIEW_NAMES = tuple(name for name in option_names(InspectOptions) if name.split(".")[0] not in ELSEWHERE)

Id = Annotated[str, Field(min_length=1, max_length=256)]
Text = Annotated[str, Field(max_length=TEXT)]
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31, strict=True)]], Field(max_length=MANY)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    def said(self) -> dict[str, Any]:
        """What the client said and nothing else."""
        return self.model_dump(exclude_unset=True)


class Message(Body):
    role: Annotated[str, Field(min_length=1, max_length=32)]
    content: Text


Messages = Annotated[list[Message], Field(min_length=1, max_length=MESSAGES)]


class Tokenize(Body):
    """A text, or messages, as tokens. chat: the text is a user's message."""

    model: Id
    adapter: str = ""
    text: Text | None = None
    messages: Messages | None = None
    chat: bool = False
    target: Text = ""


class Traced(Body):
    """One pass over a text, ids or messages. chat: the text is a user's message; target: of an encoder-decoder what is
    said of the source, none takes what the model says."""

    model: Id
    adapter: str = ""
    text: Text | None = None
    ids: Ids | None = None
    messages: Messages | None = None
    chat: bool = False
    target: Text = ""
    target_ids: Ids | None = None


class Intervene(Body):
    """The pass of a trace once more, changed. heads: [layer, head] each, which say nothing, or their mean (ablation);
    positions: false takes them away; swap: two places whose tokens are exchanged; at: the place whose following token
    is compared."""

    trace: Id
    heads: Annotated[list[Annotated[list[int], Field(min_length=2, max_length=2)]], Field(max_length=4096)] = []
    ablation: Literal["zero", "mean"] = "zero"
    positions: bool = True
    swap: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    side: Literal["auto", "encoder", "decoder", "cross"] = "auto"
    at: Annotated[int, Field(ge=-1, le=MOST)] = -1


class Generate(Body):
    """An answer, token by token, to messages, a prompt, a text (which chat makes a user's message), ids or a trace.
    prefix_ids: what it begins with; sampling: of SamplingOptions; stop: texts that end it."""

    model: Id | None = None
    adapter: str = ""
    messages: Messages | None = None
    prompt: Text | None = None
    text: Text | None = None
    chat: bool = False
    target: Text = ""
    ids: Ids | None = None
    trace: Id | None = None
    prefix_ids: Ids = []
    sampling: dict[str, Any] = {}
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=16)] = []


class Beam(Body):
    """The tree of a beam search behind a text or a trace."""

    model: Id | None = None
    adapter: str = ""
    text: Text | None = None
    ids: Ids | None = None
    messages: Messages | None = None
    trace: Id | None = None
    chat: bool = False
    target: Text = ""
    sampling: dict[str, Any] = {}
    top: Annotated[int, Field(ge=1, le=100)] | None = None


class Order(Body):
    """Two texts of the same tokens in another order, with and without positions."""

    model: Id
    adapter: str = ""
    one: Text
    other: Text


def args_of(body: Body, one_of: Sequence[str] = ()) -> dict[str, Any]:
    """What an operation is given. one_of: fields of which exactly one is wanted. Raises Trouble (422)."""
    said = {name: value for name, value in body.said().items() if value is not None}
    if one_of and len(found := [name for name in one_of if name in said]) != 1:
        raise bad_input(f"found {' and '.join(found) or 'none of them'}, wanted one of {', '.join(one_of)}")
    if "sampling" in said:
        checked(lambda: from_dict(SamplingOptions, said["sampling"], where="sampling"))
    return said


def view_query(pairs: Iterable[tuple[str, str]], beside: Kinds) -> dict[str, Any]:
    """A query of a view -> `ask`: what it says of InspectOptions, nested; and names of `beside` as `query` gives them.
    Raises Trouble (422) for a name that there is not, or that stands twice, and for a value of another kind."""
    found = once(pairs)
    others = query([(name, found.pop(name)) for name in beside if name in found], beside)
    for name in found:
        if name not in VIEW_NAMES and f"sampling.{name}" not in VIEW_NAMES:
            raise trouble_of(unknown("name", name[:64], [*VIEW_NAMES, *beside]))
    ask: dict[str, Any] = {}
    for name, value in found.items():
        words = [f"--{name}", *value.split(",")] if _is_list(name, value) else [f"--{name}={value}"]
        ask = merge(ask, checked(partial(read_flags, InspectOptions, words), name))
    checked(lambda: from_dict(InspectOptions, ask, base=InspectOptions()))
    return {"ask": ask, **others}


def _is_list(name: str, value: str) -> bool:
    """Whether it holds numbers, or pairs of them, with commas between; a text may have commas of its own."""
    kind: Any = InspectOptions
    for part in (name if name in VIEW_NAMES else f"sampling.{name}").split("."):
        kind = field_types(kind)[part]
    # not what would be read as another flag
    return get_origin(kind) is tuple and get_args(kind)[0] is not str and not re.search("(^|,)--", value)


def query(pairs: Iterable[tuple[str, str]], kinds: Kinds) -> dict[str, Any]:
    """A query of other routes. kinds: str, int, or the words that are known, by name. Raises Trouble (422)."""
    found = once(pairs)
    said: dict[str, Any] = {}
    for name, value in found.items():
        if name not in kinds:
            raise trouble_of(unknown("name", name[:64], kinds))
        kind = kinds[name]
        if kind is int:
            if not re.fullmatch(r"-?[0-9]{1,9}", value) or abs(int(value)) > MOST:
                raise bad_input(f"{name}: found {value[:40]!r}, wanted a whole number of at most {MOST:,}")
            said[name] = int(value)
        elif isinstance(kind, type) or value in kind:
            said[name] = value
        else:
            raise trouble_of(unknown(f"value for {name}:", value[:64], kind))
    return said


def once(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Raises Trouble (422) for a name that stands twice."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise bad_input(f"{name[:64]} stands twice; say it once")
        found[name] = value
    return found


def numbers(text: str, most: int = 4096) -> list[int]:
    """Example: 1,2,3 -> [1, 2, 3]. Raises Trouble (422)."""
    if not re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9})*", text) or text.count(",") >= most:
        raise bad_input(f"found {text[:40]!r}, wanted at most {most:,} whole numbers with commas between them")
    return [int(word) for word in text.split(",")]


def span(name: str, text: str) -> list[int]:
    """Example: 0:8 -> [0, 8]. Raises Trouble (422)."""
    if not re.fullmatch(r"[0-9]{1,9}:[0-9]{1,9}", text):
        raise bad_input(f"{name}: found {text[:40]!r}, wanted two whole numbers, such as 0:8")
    return [int(word) for word in text.split(":")]


def checked(read: Callable[[], T], flag: str = "") -> T:
    """What it gives. Raises Trouble (422) in the place of InputError; flag: what a query said without the dashes that
    flags have."""
    try:
        return read()
    except InputError as error:
        said = str(error)
        raise bad_input(said.replace(f"--{flag}", flag, 1) if flag else said) from None
