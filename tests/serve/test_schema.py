"""What chat completions and completions may be asked: every field, its range, and what is refused by name."""

import typing

import pytest
from openai.types import completion_create_params as texts
from openai.types.chat import completion_create_params as chats
from pydantic import ValidationError

from instar.serve.body import refusal_of
from instar.serve.schema import MOST_PARTS, ChatRequest, CompletionRequest

HI = [{"role": "user", "content": "hi"}]


def faults(kind, **fields):
    """The parameter that is refused and why; None where the request is taken."""
    try:
        kind.model_validate({"model": "m", **fields})
    except ValidationError as error:
        refusal = refusal_of([{**each, "loc": ("body", *each["loc"])} for each in error.errors()])
        assert refusal.status == 400
        return refusal.param, refusal.message
    return None


def chat(**fields):
    return faults(ChatRequest, **{"messages": HI, **fields})


def text(**fields):
    return faults(CompletionRequest, **{"prompt": "hi", **fields})


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (ChatRequest, (chats.CompletionCreateParamsNonStreaming, chats.CompletionCreateParamsStreaming)),
        (CompletionRequest, (texts.CompletionCreateParamsNonStreaming, texts.CompletionCreateParamsStreaming)),
    ],
)
def test_every_field_of_openai_is_known(kind, params):
    """Section 5: what OpenAI's client can send is taken, refused by its name, or named as ignored; nothing is passed
    over."""
    known = {*kind.model_fields, *kind.unsupported, *kind.unheeded, "best_of"}
    theirs = {name for each in params for name in typing.get_type_hints(each)}
    assert theirs - known == set()


@pytest.mark.parametrize("value", [0, -1, 2**31, 10**30, 1.5, True, "5"])
@pytest.mark.parametrize("ask", [chat, text])
def test_the_longest_answer_is_a_whole_number_from_one(ask, value):
    """S6: max_tokens 0, -1, 2**31: 400 by name; absent and null are taken."""
    assert ask(max_tokens=value)[0] == "max_tokens"
    assert ask(max_tokens=None) is None
    assert ask(max_tokens=1) is None
    assert ask is text or ask(max_completion_tokens=value)[0] == "max_completion_tokens"


@pytest.mark.parametrize(
    ("field", "taken", "refused"),
    [
        ("temperature", [0, 2, 0.5, 1e-9], [-0.1, 2.1, True, "1"]),
        ("top_p", [0, 1], [-0.1, 1.1]),
        ("min_p", [0, 1], [-0.1, 1.1]),
        ("top_k", [-1, 0, 50], [-2, 1.0, 2**31]),
        ("presence_penalty", [-2, 2], [-2.1, 2.1]),
        ("frequency_penalty", [-2, 2], [-2.1, 2.1]),
        ("repetition_penalty", [1, 1.3], [0, -1]),
        ("min_tokens", [0, 3], [-1]),
        ("n", [1, 16], [0, 17, -1, True, 1.0]),
        ("seed", [0, -(2**63), 2**63 - 1], [2**63, -(2**63) - 1, 1.5]),
        ("stop", ["a", ["a"] * 4, [], "x" * 256], ["", ["a"] * 5, [""], "x" * 257, 5, [1]]),
        (
            "logit_bias",
            [{}, {"5": -100, "6": 100}, {str(n): 1 for n in range(1024)}],
            [{"x": 1}, {"-5": 1}, {"5": 101}, {"5": "1"}, {"5": True}, {str(n): 1 for n in range(1025)}, [5]],
        ),
        ("stop_token_ids", [[], [5]], [[-1], [2**31], "5", [True]]),
        ("stream", [True, False], [1, "true"]),
        ("user", ["u"], [5]),
        ("model", ["m"], [5, None]),
    ],
)
@pytest.mark.parametrize("ask", [chat, text])
def test_each_field_has_its_range(ask, field, taken, refused):
    """S7, S19: at the edge it is taken, beyond it the 400 names it; null is the same as absent."""
    for value in taken:
        assert ask(**{field: value}) is None, value
    for value in refused:
        found = ask(**{field: value})
        assert found is not None, value
        assert found[0].startswith(field), value
    assert field == "model" or ask(**{field: None}) is None


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ("hi", "messages"),
        ([1], "messages[0]"),
        (HI * 2049, "messages"),
        ([{"role": "king", "content": "x"}], "messages[0].role"),
        ([*HI, {"role": "user"}], "messages[1]"),
        ([{"role": "user", "content": None}], "messages[0]"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "tool", "content": "x"}], "messages[0]"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": "x", "tool_calls": []}], "messages[0]"),
        ([{"role": "assistant", "content": "x", "function_call": {}}], "messages[0]"),
        (
            [{"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]}],
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_messages_that_are_refused(messages, param):
    """Section 5, S19: the place at fault is named."""
    assert chat(messages=messages)[0] == param


def test_messages_that_are_taken():
    """Section 5: five roles, texts and parts of texts, an assistant without content, calls and their results."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Anna"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "5", "tool_call_id": "1"},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "refusal": None},
    ]
    assert chat(messages=messages) is None
    assert chat(messages=HI * 2048) is None


@pytest.mark.parametrize("field", [*ChatRequest.unsupported])
def test_what_cannot_be_done_is_refused_by_name(field):
    """Section 5: unsupported and not the default: 400; as the default, or null, it is taken."""
    found = chat(**{field: {"x": 1}})
    assert found[0] == field
    assert "not supported" in found[1]
    for neutral in (None, *ChatRequest.unsupported[field]):
        assert chat(**{field: neutral}) is None


def test_fields_that_contradict_each_other():
    """Section 5: what only goes together, or not at all."""
    assert chat(top_logprobs=2)[0] == "top_logprobs"
    assert chat(top_logprobs=2, logprobs=True) is None
    assert chat(top_logprobs=21, logprobs=True)[0] == "top_logprobs"
    assert chat(stream_options={"include_usage": True})[0] == "stream_options"
    assert chat(stream=True, stream_options={"include_usage": True}) is None
    assert chat(max_tokens=3, max_completion_tokens=4)[0] == "max_tokens"
    assert chat(max_tokens=3, max_completion_tokens=3) is None
    assert chat(tool_choice={"type": "function"})[0] == "tool_choice"
    assert text(best_of=2)[0] == "best_of"
    assert text(best_of=2, n=2) is None
    assert text(suffix="x")[0] == "suffix"
    assert text(suffix="") is None
    assert text(logprobs=6)[0] == "logprobs"
    assert text(logprobs=0) is None


def test_how_many_parts_a_message_may_have():
    """S5: a message of more parts than anybody writes is refused before they are looked at."""
    parts = [{"type": "text", "text": "a"}] * (MOST_PARTS + 1)
    assert chat(messages=[{"role": "user", "content": parts[1:]}]) is None
    assert chat(messages=[{"role": "user", "content": parts}])[0] == "messages[0].content"


def test_prompts():
    """Section 5: a text, texts, ids, lists of ids; never mixed, never empty lists."""
    read = {
        "a": ["a"], ("a", "b"): ["a", "b"], (1, 2): [[1, 2]], ((1,), (2, 3)): [[1], [2, 3]],
    }  # fmt: skip
    for given, wanted in read.items():
        given = given if isinstance(given, str) else [list(x) if isinstance(x, tuple) else x for x in given]
        assert CompletionRequest.model_validate({"model": "m", "prompt": given}).prompt == wanted
    for given in ([], [[]], ["a", 1], [1, "a"], [[1], "a"], [True], 5, None, {"a": 1}, [[[1]]], ["a"] * 129):
        assert text(prompt=given)[0] == "prompt", given


def test_null_is_absent():
    """Section 5: also where a field is required, and for a key that nobody knows: there is nothing to be ignored."""
    assert chat(model=None) == ("model", "model: this is required")
    asked = {"model": "m", "messages": HI, "mood": None, "stop": None, "tools": None}
    assert list(ChatRequest.model_validate(asked).unknown()) == []
    assert list(ChatRequest.model_validate({**asked, "mood": 1}).unknown()) == ["mood"]
