"""What a request allows its answer to be -> the constraint that an engine holds it to.

The sizes are those of infer/grammars.py, which the engine checks again before it tries a grammar in a process of its
own. Here a request is refused in its own terms, and without anything of what it said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ..infer.grammars import DEEPEST, MOST_BYTES, MOST_CHOICES, MOST_REGEX, nesting, references
from .failure import Refusal, bad
from .tools import tool_format

MOST_TOOLS = 128
MOST_GRAMMAR = 2**14  # bytes of one that a client wrote
ANY_OBJECT = {"type": "object"}
FORMATS = ("text", "json_object", "json_schema", "regex", "grammar", "choice")
OUTPUTS = ("json", "json_object", "regex", "choice", "grammar")
CHOICES = 'none, auto, required, or {"type": "function", "function": {"name"}}'
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
# what the library says of a grammar, as far as it says nothing of the grammar's own
_KEYS = re.compile(r"Unimplemented keys: \[([^\]]*)\]")
_KEYWORDS = frozenset(
    "not if then else uniqueItems contains minContains maxContains dependentRequired dependentSchemas propertyNames "
    "unevaluatedItems unevaluatedProperties contentEncoding contentMediaType contentSchema $dynamicRef $dynamicAnchor "
    "$anchor $recursiveRef multipleOf patternProperties".split()
)
_SENTENCES = (
    r"no answer satisfies it", r"no token of this vocabulary can follow", r"compiling it [a-zA-Z0-9 .,;]+",
    r"Unsatisfiable schema: (anyOf is empty|incompatible types)", r"look-around, [a-z ,-]+ is not supported",
    r"backreferences are not supported", r"unclosed (group|character class|counted repetition)",
    r"Unicode property not found", r"repetition operator missing expression", r"unopened group",
    r"minimum \([\d.e+-]+\) is greater than maximum \([\d.e+-]+\)", r"no start rule found",
    r"Unknown format", r"Invalid type", r"Pointer", r"unknown name", r"unknown special token", r"lexer error",
)  # fmt: skip
_KNOWN = re.compile("|".join(_SENTENCES))
_SHORT = {"Pointer": "a $ref points to nothing", "Unknown format": "a format is not known",
          "Invalid type": "a type is not known", "unknown name": "it names a rule that there is not",
          "unknown special token": "it asks for a control token", "lexer error": "its notation is wrong"}  # fmt: skip


@dataclass(frozen=True)
class Calling:
    """The tools that an answer may call. tools: as OpenAI writes them, those that the template shows; names: of those
    that may be called; required: the answer is a call; many: or several."""

    tools: list[dict[str, Any]]
    names: tuple[str, ...]
    required: bool
    many: bool


def calling_of(request: Any) -> Calling | None:
    """From `tools`, `tool_choice` and `parallel_tool_calls`; None where nothing may be called. Raises Refusal."""
    tools = _plain(getattr(request, "tools", None))
    choice = _plain(getattr(request, "tool_choice", None))
    if not tools:
        if choice not in (None, "none", "auto"):
            raise bad("tool_choice asks for a tool, and there are no tools.", "tool_choice")
        return None
    if not isinstance(tools, list) or len(tools) > MOST_TOOLS:
        raise bad(f"tools has to be a list, of at most {MOST_TOOLS}.", "tools")
    names = tuple(_checked_tool(tool, f"tools[{place}]") for place, tool in enumerate(tools))
    if len(set(names)) < len(names):
        raise bad("Two tools have the same name.", "tools")
    if choice == "none":
        return None
    allowed, required = _chosen(choice, names)
    many = getattr(request, "parallel_tool_calls", None) is not False and not isinstance(choice, dict)
    many = many or (isinstance(choice, dict) and choice.get("type") == "allowed_tools")
    return Calling(tools, allowed, required, many)


def constraint_of(request: Any, template: str | None = None) -> dict[str, Any]:
    """Fields of SamplingOptions, at most one of json_schema, regex, choice and grammar.

    request: a body with any of `response_format`, `structured_outputs` (vLLM's), `tools` and `tool_choice`, as
    attributes; template: the model's chat template, which decides how calls are written. Raises Refusal naming the
    field at fault: for what is malformed, too large, refers to somewhere else, or cannot be had at the same time.
    """
    calling = calling_of(request)
    asked = _asked(request)
    if calling is None:
        return _options(asked)
    format = tool_format(template)
    if format is None:
        raise bad("This model's chat template has no place for tools, or calls them in a way not known here.", "tools")
    strict = any(tool["function"].get("strict") is True for tool in calling.tools)
    if not calling.required and not strict and not asked and len(calling.names) == len(calling.tools):
        return {}
    if not calling.required and asked and "json_schema" not in asked:
        param = _text_field(request)
        raise bad(f"Beside tools an answer can be held to JSON alone; leave the tools or {param} out.", param)
    grammar = format.grammar(
        calling.tools, calling.names, many=calling.many, required=calling.required, answer=asked.get("json_schema")
    )
    if (size := len(grammar.encode())) > MOST_BYTES["grammar"]:
        raise bad(f"The parameters of the tools come to {size:,} bytes, at most {MOST_BYTES['grammar']:,}.", "tools")
    return {"grammar": grammar}


def field_of(request: Any) -> str:
    """The field of a request that its constraint came from, which is at fault where an engine refuses it."""
    return _text_field(request) if calling_of(request) is None else "tools"


def _text_field(request: Any) -> str:
    return "response_format" if _plain(getattr(request, "response_format", None)) else "structured_outputs"


def in_its_terms(refusal: Refusal, request: Any) -> Refusal:
    """What an engine says of a constraint, said of the request, without what the grammar itself says; what it says of
    the prompt by the name that the request has for it; any other refusal as it is."""
    if refusal.status == 400 and refusal.param == "prompt" and hasattr(request, "messages"):
        return bad(refusal.message, "messages", refusal.code)
    if refusal.status != 400 or (refusal.param or "").rpartition(".")[2] not in MOST_BYTES:
        return refusal
    param = field_of(request)
    return bad(f"{param}: {plain(refusal.message)}", param, refusal.code)


def plain(message: str) -> str:
    """What the library of grammars says of one, as far as we know that it repeats nothing of it."""
    if keys := _KEYS.search(message):
        known = sorted({key.strip(' "') for key in keys[1].split(",")} & _KEYWORDS)
        return f"the schema uses {', '.join(known) or 'keywords'}, which cannot be held to; leave it out"
    found = _KNOWN.search(message)
    if found is None:
        return "it cannot be compiled; write it simpler"
    return _SHORT.get(found[0], found[0])


def _plain(value: Any) -> Any:
    """A part of a request as JSON has it, whatever read it."""
    if isinstance(value, BaseModel):
        value = value.model_dump(by_alias=True, exclude_unset=True)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _asked(request: Any) -> dict[str, Any]:
    """What the text of the answer has to be, under the name of the option; a schema is still an object."""
    found = _formatted(_plain(getattr(request, "response_format", None)))
    outputs = _plain(getattr(request, "structured_outputs", None))
    if not outputs:
        return found
    if found:
        raise bad(
            "response_format and structured_outputs both hold the answer to something; keep one.", "response_format"
        )
    return _outputs(outputs)


def _formatted(said: Any) -> dict[str, Any]:
    param = "response_format"
    if said is None:
        return {}
    kind = said.get("type") if isinstance(said, Mapping) else None
    if kind not in FORMATS:
        raise bad(f"response_format.type has to be one of {', '.join(FORMATS)}.", f"{param}.type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"json_schema": ANY_OBJECT}
    if kind == "json_schema":
        wrapped = said.get("json_schema")
        if not isinstance(wrapped, Mapping):
            raise bad('response_format.json_schema has to be {"name", "schema"}.', f"{param}.json_schema")
        name = wrapped.get("name")
        if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise bad("The name of a schema has letters, digits, _ and -, 64 at most.", f"{param}.json_schema.name")
        schema = wrapped.get("schema")
        if schema is None:
            return {"json_schema": ANY_OBJECT}
        return {"json_schema": _checked_schema(schema, f"{param}.json_schema.schema")}
    return _single(kind, said.get(kind), f"{param}.{kind}")


def _outputs(said: Any) -> dict[str, Any]:
    param = "structured_outputs"
    if not isinstance(said, Mapping):
        raise bad("structured_outputs has to be an object.", param)
    given = [name for name in OUTPUTS if said.get(name) not in (None, False)]
    if len(given) > 1:
        raise bad(f"structured_outputs holds the answer to {' and '.join(given)}; keep one.", param)
    if not given:
        raise bad(f"structured_outputs has to hold one of {', '.join(OUTPUTS)}.", param)
    (name,) = given
    if name == "json_object":
        return {"json_schema": ANY_OBJECT}
    if name == "json":
        schema = said["json"]
        if isinstance(schema, str):
            try:
                schema = json.loads(schema)
            except (ValueError, RecursionError):
                raise bad("The schema is no JSON.", f"{param}.json") from None
        return {"json_schema": _checked_schema(schema, f"{param}.json")}
    return _single(name, said[name], f"{param}.{name}")


def _single(kind: str, said: Any, param: str) -> dict[str, Any]:
    """A regular expression, a grammar, or some texts."""
    if kind == "choice":
        if not isinstance(said, Sequence) or isinstance(said, str) or not all(isinstance(text, str) for text in said):
            raise bad("choice has to be a list of strings.", param)
        if not 0 < len(said) <= MOST_CHOICES or "" in said:
            raise bad(f"choice has to have 1 to {MOST_CHOICES:,} texts, none of them empty.", param)
        _check_size("".join(said), MOST_BYTES["choice"], param)
        return {"choice": tuple(said)}
    if not isinstance(said, str) or not said:
        raise bad(f"{kind} has to be a string, and not an empty one.", param)
    if kind == "regex" and len(said) > MOST_REGEX:
        raise bad(f"The regular expression has {len(said):,} characters, at most {MOST_REGEX} are taken.", param)
    _check_size(said, MOST_BYTES["regex"] if kind == "regex" else MOST_GRAMMAR, param)
    return {kind: said}


def _check_size(text: str, most: int, param: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise bad("This holds half of a surrogate pair, which is no text.", param) from None
    if size > most:
        raise bad(f"This has {size:,} bytes, at most {most:,} are taken.", param)


def _checked_schema(schema: Any, param: str) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise bad('A schema has to be an object; any JSON object is {"type": "object"}.', param)
    if (depth := nesting(schema)) > DEEPEST:
        raise bad(f"The schema is nested {depth} deep, at most {DEEPEST}; use $defs and $ref.", param)
    if any(not place.startswith("#") for place in references(schema)):
        raise bad('The schema refers to another one, and nothing is fetched; put it into "$defs".', param)
    _check_size(json.dumps(schema, ensure_ascii=False), MOST_BYTES["json_schema"], param)
    return schema


def _checked_tool(tool: Any, place: str) -> str:
    """Its name."""
    function = (
        tool.get("function") if isinstance(tool, Mapping) and tool.get("type", "function") == "function" else None
    )
    if not isinstance(function, Mapping):
        raise bad('A tool has to be {"type": "function", "function": {"name", "parameters"}}.', place)
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise bad("The name of a tool has letters, digits, _ and -, 64 at most.", f"{place}.function.name")
    if parameters is not None:
        param = f"{place}.function.parameters"
        if _checked_schema(parameters, param).get("type", "object") != "object":
            raise bad("The parameters of a tool are an object.", param)
    if function.get("strict") not in (None, True, False):
        raise bad("strict is true or false.", f"{place}.function.strict")
    return name


def _chosen(choice: Any, names: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """The tools that may be called, and whether one has to be."""
    if choice in (None, "auto", "required"):
        return names, choice == "required"
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind == "function":
        wanted, required = [choice], True
    elif kind == "allowed_tools" and isinstance(choice.get("allowed_tools"), Mapping):
        allowed = choice["allowed_tools"]
        if allowed.get("mode") not in ("auto", "required") or not isinstance(allowed.get("tools"), list):
            raise bad("allowed_tools has to have a mode, auto or required, and a list of tools.", "tool_choice")
        wanted, required = allowed["tools"], allowed["mode"] == "required"
    else:
        raise bad(f"tool_choice has to be {CHOICES}.", "tool_choice")
    functions = [item.get("function") if isinstance(item, Mapping) else None for item in wanted]
    chosen = [function.get("name") if isinstance(function, Mapping) else None for function in functions]
    if not chosen or any(name not in names for name in chosen):
        raise bad("tool_choice names a function that is not among the tools.", "tool_choice")
    return tuple(name for name in names if name in chosen), required


def _options(asked: dict[str, Any]) -> dict[str, Any]:
    schema = asked.get("json_schema")
    return asked if schema is None else {"json_schema": json.dumps(schema, ensure_ascii=False)}
