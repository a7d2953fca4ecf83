"""Messages as OpenAI writes them -> messages as chat templates read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..config import InputError

# the newer name of system, which templates do not know
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
# what a template may read of a message, beside its role, content and tool calls
_TEXTS = ("name", "tool_call_id", "reasoning_content")


def turns(messages: Sequence[Any], *, spelt: bool = True) -> list[dict[str, Any]]:
    """spelt: the template writes the arguments of a call as the JSON text that they are, and does not spell out an
    object itself. Raises InputError naming the message at fault, and nothing of what it says."""
    return [_turn(message, f"messages[{place}]", spelt) for place, message in enumerate(messages)]


def tools_read(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """The tools as templates know them. That calls have to keep to the schema (`strict`) is nothing that a model reads.
    Raises InputError naming the one at fault."""
    return [_tool(tool, f"tools[{place}]") for place, tool in enumerate(tools)]


def _tool(tool: Any, place: str) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError(f'{place}: wanted {{"type": "function", "function": {{"name", ...}}}}')
    kept = {key: function[key] for key in ("name", "description", "parameters") if function.get(key) is not None}
    return {"type": "function", "function": kept}


def _turn(message: Any, place: str, spelt: bool) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InputError(f"{place}: wanted an object with role and content")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InputError(f"{place}: unknown role; known: {', '.join(ROLES)}")
    if message.get("function_call") is not None:
        raise InputError(f"{place}: function_call is no longer spoken; write it into tool_calls")
    turn: dict[str, Any] = {"role": ROLES[role], "content": _content(message.get("content"), place)}
    for key in _TEXTS:
        if message.get(key) is not None:
            if not isinstance(message[key], str):
                raise InputError(f"{place}: {key} has to be a string")
            turn[key] = message[key]
    if calls := message.get("tool_calls"):
        if role != "assistant" or not isinstance(calls, list):
            raise InputError(f"{place}: tool_calls has to be a list, of a message whose role is assistant")
        turn["tool_calls"] = [_call(call, f"{place}.tool_calls[{n}]", spelt) for n, call in enumerate(calls)]
    elif turn["content"] is None:
        raise InputError(f"{place}: content is missing; wanted a string or parts of type text")
    return turn


def _content(content: Any, place: str) -> str | None:
    """A string, or the texts of a list of parts, one behind the other."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InputError(f"{place}: content has to be a string or a list of parts")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        text = part.get(kind) if kind in ("text", "refusal") else None
        if not isinstance(text, str):
            raise InputError(f"{place}: content has a part that is not of type text; this model reads texts alone")
        texts.append(text)
    return "".join(texts)


def _call(call: Any, place: str, spelt: bool) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError(f'{place}: wanted {{"id", "type": "function", "function": {{"name", "arguments"}}}}')
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        raise InputError(f"{place}: arguments has to be a string, the JSON of an object")
    if not spelt:
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise InputError(f"{place}: arguments is no JSON") from None
        if not isinstance(arguments, dict):
            raise InputError(f"{place}: arguments is not the JSON of an object")
    kept = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {**kept, "type": "function", "function": {"name": function["name"], "arguments": arguments}}
