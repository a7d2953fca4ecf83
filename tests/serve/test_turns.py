"""Messages and tools as clients write them become what chat templates read, or a refusal that repeats none of it."""

import pytest

from instar.config import InputError
from instar.serve.turns import tools_read, turns

ASK = {"role": "user", "content": "hi"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a" : 1}'}}


def test_roles_parts_and_keys():
    """A developer is a system message, parts are one text, and what no template reads is left out."""
    said = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        {**ASK, "name": "Anna", "metadata": 5},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "audio": None},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "tool_calls": []},
    ]
    assert turns(said) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi", "name": "Anna"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "3", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "no"},
    ]


def test_arguments_as_an_object():
    """Templates that spell out an object are given one; the JSON has to be that of an object."""
    (turn,) = turns([{"role": "assistant", "content": None, "tool_calls": [CALL]}], spelt=False)
    assert turn["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    for wrong in ("[1]", "{", "CANARY"):
        call = {**CALL, "function": {"name": "add", "arguments": wrong}}
        with pytest.raises(InputError, match=r"messages\[0\].tool_calls\[0\]: arguments is no") as caught:
            turns([{"role": "assistant", "content": None, "tool_calls": [call]}], spelt=False)
        assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        "CANARY",
        {"role": "CANARY", "content": "a"},
        {"role": ["CANARY"], "content": "a"},
        {"role": "user"},
        {"role": "user", "content": {"CANARY": 1}},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "CANARY"}}]},
        {"role": "user", "content": ["CANARY"]},
        {**ASK, "name": ["CANARY"]},
        {**ASK, "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": "CANARY"},
        {"role": "assistant", "tool_calls": ["CANARY"]},
        {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "CANARY", "arguments": {}}}]},
        {"role": "assistant", "content": "a", "function_call": {"name": "CANARY"}},
    ],
)
def test_refused(message):
    """Whatever is wrong with a message, the refusal names its place and repeats nothing of it (S23)."""
    with pytest.raises(InputError, match=r"^messages\[1\]") as caught:
        turns([ASK, message])
    assert "CANARY" not in str(caught.value)


def test_tools():
    """A model reads name, description and parameters; that arguments are held to a schema is the server's matter."""
    tool = {"type": "function", "function": {"name": "add", "strict": True, "parameters": {"type": "object"}, "x": 1}}
    read = {"name": "add", "parameters": {"type": "object"}}
    assert tools_read([tool]) == [{"type": "function", "function": read}]
    for wrong in ("CANARY", {"function": "CANARY"}, {"function": {"name": 5}}):
        with pytest.raises(InputError, match=r"^tools\[1\]") as caught:
            tools_read([tool, wrong])
        assert "CANARY" not in str(caught.value)
