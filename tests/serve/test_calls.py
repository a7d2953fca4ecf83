"""Calls in an answer are found however it is cut into pieces, told as they come, and nothing that was said is lost."""

import json
import random

import pytest

from instar.serve.calls import Arguments, Called, Said, ToolParser
from instar.serve.tools import tool_format

HERMES = tool_format("{{ tools }}<tool_call>")
LLAMA = tool_format("{{ tools }}<|python_tag|>")
MISTRAL = tool_format("{{ tools }}[TOOL_CALLS]")
INNER = '{"a": "}{\\"</tool_call>\\\\", "b": [1, {"c": "]"}], "球": "\\n"}'
ADD = f'{{"name": "add", "arguments": {INNER}}}'
SUB = '{ "name" : "sub" ,\n"parameters": {} }'
# an answer -> what is said, and what is called
ANSWERS = [
    (HERMES, "Anna has the ball.", "Anna has the ball.", []),
    (HERMES, f"<tool_call>{ADD}</tool_call>", "", [("add", INNER)]),
    (HERMES, f"Sure.\n\n<tool_call>\n{ADD}\n</tool_call>\n", "Sure.", [("add", INNER)]),
    (HERMES, f"<tool_call>{ADD}</tool_call>\n<tool_call>{SUB}</tool_call>", "", [("add", INNER), ("sub", "{}")]),
    (HERMES, f"a <tool_call>{SUB}</tool_call> b", "a b", [("sub", "{}")]),
    (HERMES, f"<tool_call>{SUB}<tool_call>{SUB}", "", [("sub", "{}"), ("sub", "{}")]),
    # another order, a text that holds JSON, nothing at all, and a key too many
    (HERMES, '<tool_call>{"arguments": {"a":1}, "name":"add"}</tool_call>!', "!", [("add", '{"a": 1}')]),
    (HERMES, '<tool_call>{"name":"add","arguments":"{\\"a\\": 1}"}</tool_call>', "", [("add", '{"a": 1}')]),
    (HERMES, '<tool_call>{"name":"add"}</tool_call>', "", [("add", "{}")]),
    (HERMES, '<tool_call>{"name":"add","arguments":{"a":1},"id":5}</tool_call>', "", [("add", '{"a":1}')]),
    # what looks like a call and is none, whole or broken off
    (HERMES, "a <tool", "a <tool", []),
    (HERMES, "<tool_call> I would </tool_call>", "<tool_call> I would </tool_call>", []),
    (HERMES, "x\n<tool_call>{1}</tool_call>", "x\n<tool_call>{1}</tool_call>", []),
    (HERMES, '<tool_call>{"name": 5, "arguments": {}}', '<tool_call>{"name": 5, "arguments": {}}', []),
    (HERMES, '<tool_call>{"name": "a\\x", "arguments": {}}', '<tool_call>{"name": "a\\x", "arguments": {}}', []),
    (HERMES, '<tool_call>{"name": "add", "arg', '<tool_call>{"name": "add", "arg', []),
    (HERMES, '<tool_call>{"name": "add", "arguments": {"a": "b', "", [("add", '{"a": "b')]),
    (HERMES, " \n", " \n", []),
    (LLAMA, f" {SUB}", "", [("sub", "{}")]),
    (LLAMA, f"{SUB}; {ADD}", "", [("sub", "{}"), ("add", INNER)]),
    (LLAMA, f"<|python_tag|>{SUB}", "", [("sub", "{}")]),
    # no tool of the request, or no name that UTF-8 can say; arguments that it cannot say stay escapes
    (LLAMA, '<|python_tag|>{"name": "unheard"}', '<|python_tag|>{"name": "unheard"}', []),
    (HERMES, '<tool_call>{"name": "unheard", "arguments": {}}', '<tool_call>{"name": "unheard", "arguments": {}}', []),
    (MISTRAL, '[TOOL_CALLS] [{"name": "unheard"}]', '[TOOL_CALLS] [{"name": "unheard"}]', []),
    (HERMES, '<tool_call>{"name": "\\ud800", "arguments": {}}', '<tool_call>{"name": "\\ud800", "arguments": {}}', []),
    (HERMES, '<tool_call>{"arguments": {"a": "\\ud800"}, "name": "add"}', "", [("add", '{"a": "\\ud800"}')]),
    (HERMES, '<tool_call>{"name": "add", "arguments": "\\ud800"}</tool_call>', "", [("add", "\\ud800")]),
    (LLAMA, '{"name": "Anna", "parameters": {}}!', '{"name": "Anna", "parameters": {}}!', []),
    (LLAMA, '{"name": "Anna"}', '{"name": "Anna"}', []),
    (LLAMA, '{"x": 1} and {', '{"x": 1} and {', []),
    (LLAMA, f"See {SUB}", f"See {SUB}", []),
    (LLAMA, "{never", "{never", []),
    (MISTRAL, f"[TOOL_CALLS] [{ADD}, {SUB}]", "", [("add", INNER), ("sub", "{}")]),
    (MISTRAL, f"[{ADD}]", "", [("add", INNER)]),
    (MISTRAL, "[1, 2]", "[1, 2]", []),
    (MISTRAL, f"[{SUB}, 5]", ", 5]", [("sub", "{}")]),
    (MISTRAL, "[TO be]", "[TO be]", []),
    (MISTRAL, "a [TOOL_CALLS]b", "a [TOOL_CALLS]b", []),
    (MISTRAL, "[TOOL_CALLS] ", "[TOOL_CALLS] ", []),
    (MISTRAL, "[", "[", []),
]  # fmt: skip


def read(form, pieces):
    """-> what was said, the calls, and all pieces."""
    parser = form.parser(("add", "sub"))
    found = [piece for text in pieces for piece in parser.push(text)] + parser.end()
    said = "".join(piece.text for piece in found if isinstance(piece, Said))
    calls = [[piece.name, ""] for piece in found if isinstance(piece, Called)]
    for piece in found:
        if isinstance(piece, Arguments):
            calls[piece.index][1] += piece.text
    return said, [tuple(call) for call in calls], found


@pytest.mark.parametrize("case", range(len(ANSWERS)))
def test_answers(case):
    """Whole, letter by letter, and cut at random places, an answer says and calls the same."""
    form, text, said, calls = ANSWERS[case]
    assert read(form, [text])[:2] == (said, calls)
    assert read(form, text)[:2] == (said, calls)
    luck = random.Random(case)
    for _ in range(40):
        places = sorted(luck.sample(range(len(text) + 1), min(len(text), luck.randint(1, 12))))
        cut = [text[a:b] for a, b in zip([0, *places], [*places, len(text)])]
        assert read(form, cut)[:2] == (said, calls), cut


def test_told_as_they_come():
    """The name is told before the first argument, arguments letter by letter, and text as soon as it can be no tag."""
    parser = HERMES.parser()
    assert parser.push("a<") == [Said("a")]
    assert parser.push("b") == [Said("<b")]
    assert parser.push('<tool_call>{"name": "add", "arguments": ') == []
    (called, begun) = parser.push('{"a')
    assert (called.index, called.name, begun) == (0, "add", Arguments(0, '{"a'))
    assert parser.push('": 1') == [Arguments(0, '": 1')]
    assert parser.push("}") == [Arguments(0, "}")]
    assert parser.push("}") == []
    assert parser.push("</tool_call>") == []
    assert parser.end() == []
    assert called.id.startswith("call_")


def test_ids():
    """Each call has an id of its own, for Mistral's templates one of nine letters and digits."""
    for form, text in ((HERMES, f"<tool_call>{SUB}</tool_call>" * 2), (MISTRAL, f"[{SUB},{SUB}]")):
        ids = [piece.id for piece in read(form, [text])[2] if isinstance(piece, Called)]
        assert len(set(ids)) == 2
        assert form is HERMES or all(len(id) == 9 and id.isalnum() for id in ids)


def test_random_answers():
    """Whatever a model says, all of it comes out but tags, blanks and what is called; cuts change nothing."""
    luck = random.Random(0)
    words = [*'{}[]\\"; \na,球', "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", ADD, SUB]
    words.append('{"name": "add", "arguments": {')
    for turn in range(600):
        form = (HERMES, LLAMA, MISTRAL)[turn % 3]
        text = "".join(luck.choices(words, k=luck.randint(1, 9)))
        said, calls, found = read(form, [text])
        assert read(form, text)[:2] == (said, calls), text
        assert all(piece.text for piece in found if not isinstance(piece, Called)), text
        if not calls:
            assert "".join(said.split()) == "".join(text.split())
        indices = [piece.index for piece in found if isinstance(piece, Called)]
        assert indices == list(range(len(calls)))


def test_deep_nesting():
    """Brackets without end break nothing off but themselves."""
    for inner in ("[" * 100_000, '{"a":' * 20_000 + "1" + "}" * 20_000):
        text = f'<tool_call>{{"arguments": {inner}, "name": "add"}}</tool_call>'
        assert read(HERMES, [text])[0] == text
    parser = ToolParser("<a>", "", "", listed=False, bare=False, names=(), new_id=lambda: "1")
    assert parser.push("<a>" + json.dumps({"name": "f", "arguments": {}})) == [Called(0, "1", "f"), Arguments(0, "{}")]


def test_a_name_that_cannot_be_said():
    """S8: where the names are not known either, half a surrogate pair is no name."""
    for text in ('{"name": "\\ud800", "arguments": {}}', '{"arguments": {}, "name": "\\ud800"}'):
        parser = HERMES.parser()
        assert parser.push(f"<tool_call>{text}</tool_call>") + parser.end() == [
            Said(f"<tool_call>{text}"), Said("</tool_call>"),
        ]  # fmt: skip


def test_one_call():
    """Where one call is all that may be, nothing counts that is said behind it, however it is cut into pieces."""
    for form, text in (
        (HERMES, f"a<tool_call>{ADD}</tool_call><tool_call>{SUB}</tool_call> b"), (LLAMA, f"{ADD}; {SUB}"),
        (MISTRAL, f"[TOOL_CALLS] [{ADD}, {SUB}] b"),
    ):  # fmt: skip
        for pieces in ([text], text):
            parser = form.parser(("add", "sub"), one=True)
            found = [piece for each in pieces for piece in parser.push(each)] + parser.end()
            assert [piece.name for piece in found if isinstance(piece, Called)] == ["add"]
            assert "".join(piece.text for piece in found if isinstance(piece, Arguments)) == INNER
            assert "b" not in "".join(piece.text for piece in found if isinstance(piece, Said))
            assert parser.over
