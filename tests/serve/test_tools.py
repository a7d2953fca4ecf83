"""How a template's models call tools, and grammars by which an answer can only call them rightly."""

import json

import pytest

from instar.config.options import SamplingOptions
from instar.infer import constrain
from instar.serve.calls import Arguments, Called, Said
from instar.serve.tools import bare, tool_format
from instar.text.markup import MARKUPS

pytest.importorskip("llguidance")

TEMPLATES = {
    "ours": MARKUPS["chatml"].template,
    "qwen": "{% if tools %}{{ '<tool_call>\\n{\"name\": ' }}{% endif %}",
    "llama": "{% if tools %}<|python_tag|>{% endif %}",
    "mistral": "{% if tools %}[TOOL_CALLS]{% endif %}",
}
PARAMETERS = {
    "type": "object",
    "title": "what people read",
    "properties": {"title": {"type": "string", "maxLength": 3}, "n": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["title", "n"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "add", "parameters": PARAMETERS, "strict": True}},
    {"type": "function", "function": {"name": "sub", "parameters": {}}},
    {"type": "function", "function": {"name": "mul"}},
]
GOOD = '{"title": "a", "n": 3}'
ANSWER = {"type": "object", "properties": {"x": {"enum": [1]}}, "required": ["x"], "additionalProperties": False}


def call(form, name, arguments):
    """As the format's models write it."""
    said = f'{{"name": "{name}", "{form.key}": {arguments}}}'
    if form.bare:
        return f"[{said}]" if form.listed else said
    return f"{form.opener}{form.gap}{said}{form.gap}{form.closer}"


@pytest.fixture(scope="module")
def allows(tokenizer):
    """allows(grammar, text): whether a whole answer may be this text."""

    def check(grammar, text):
        compiled = constrain.compile(tokenizer, SamplingOptions(grammar=grammar), tokenizer.vocab_size)
        constraint = compiled.start()
        for id in tokenizer.encode(text):
            # a mask allows of what is forced one spelling alone
            if constraint.ended or not constraint.matcher.deep_copy().consume_token(id):
                return False
            constraint.advance(id)
        constraint.advance(tokenizer.stops[0])
        return constraint.error is None

    return check


def test_formats():
    """A format is known by its template; one without tools, or with calls in other ways, has none."""
    found = {name: tool_format(template) for name, template in TEMPLATES.items()}
    assert {name: form.name for name, form in found.items()} == {
        "ours": "hermes", "qwen": "hermes", "llama": "llama", "mistral": "mistral",
    }  # fmt: skip
    assert (found["ours"].gap, found["qwen"].gap) == ("", "\n")
    for other in (None, "", "{{ messages }}<tool_call>", "{{ tools }}", "{{ tools }}<tool_call><function=",
                  "{{ tools }}[TOOL_CALLS][ARGS]"):  # fmt: skip
        assert tool_format(other) is None
    assert tool_format(MARKUPS["brief"].template).name == "hermes"


@pytest.mark.parametrize("name", TEMPLATES)
def test_calls_are_required(name, allows):
    """Where a call is required the answer is one, of the tools named, with arguments that their schema allows."""
    form = tool_format(TEMPLATES[name])
    grammar = form.grammar(TOOLS, ["add", "sub", "mul"], many=False)
    assert allows(grammar, call(form, "add", GOOD))
    assert allows(grammar, call(form, "sub", '{"what": [1, "you"]}'))
    assert allows(grammar, call(form, "mul", "{}"))
    for text in ("", "Sure.", call(form, "add", '{"title": "a"}'), call(form, "add", '{"title": "a", "n": 30}'),
                 call(form, "div", "{}"), call(form, "sub", "5"), call(form, "mul", "{}") * 2):  # fmt: skip
        assert not allows(grammar, text), text
    assert not allows(form.grammar(TOOLS, ["add"], many=False), call(form, "mul", "{}"))
    # a model with little to say would fill a call with blanks
    assert not allows(grammar, call(form, "add", '{"title":  "a", "n": 3}'))


def test_several_calls(allows):
    """Parallel calls where they are allowed and the format has them."""
    for name, separator in (("ours", "\n"), ("qwen", "\n"), ("mistral", ", ")):
        form = tool_format(TEMPLATES[name])
        two = separator.join([call(form, "mul", "{}")] * 2)
        if form.listed:
            two = two.replace("], [", ", ")
        assert allows(form.grammar(TOOLS, ["mul"], many=True), two)
        assert not allows(form.grammar(TOOLS, ["mul"], many=False), two)
    form = tool_format(TEMPLATES["llama"])
    assert not allows(form.grammar(TOOLS, ["mul"], many=True), call(form, "mul", "{}") * 2)


@pytest.mark.parametrize("name", TEMPLATES)
def test_calls_that_need_not_be(name, allows):
    """Where no call is required any text may be said, and what begins as a call is held to the schemas."""
    form = tool_format(TEMPLATES[name])
    grammar = form.grammar(TOOLS, ["add", "sub", "mul"], many=True, required=False)
    for text in ("", "Sure. <", call(form, "add", GOOD)):
        assert allows(grammar, text), text
    assert not allows(grammar, call(form, "add", '{"title": "a", "n": 30}'))
    if not form.bare:
        first = call(form, "add", GOOD)
        assert allows(grammar, f"Sure.\n{first}\n{first} There you go.")
        assert not allows(grammar, f"Sure.\n{form.opener} or so")
        assert not allows(form.grammar(TOOLS, ["add"], many=False, required=False), f"{first}\n{first}")


@pytest.mark.parametrize("name", TEMPLATES)
def test_calls_or_json(name, allows):
    """Beside tools the answer itself may be held to a schema."""
    form = tool_format(TEMPLATES[name])
    grammar = form.grammar(TOOLS, ["add"], many=False, required=False, answer=ANSWER)
    assert allows(grammar, '{"x": 1}')
    assert allows(grammar, call(form, "add", GOOD))
    assert not allows(grammar, '{"x": 2}')
    assert not allows(grammar, "Sure.")


def test_what_the_grammar_allows_is_what_the_parser_reads():
    """Text and calls in the form of a grammar come out of the parser of the same format."""
    for name, template in TEMPLATES.items():
        form = tool_format(template)
        parser = form.parser(["add"])
        found = parser.push(call(form, "add", GOOD)) + parser.end()
        assert [type(piece) for piece in found] == [Called, Arguments], name
        assert found[1].text == GOOD
        parser = form.parser(["add"])
        assert parser.push("Sure.") + parser.end() == [Said("Sure.")]


def test_notes_are_left_out():
    """What tells people something is no part of a grammar; a property of that name is, and values stay as they are."""
    schema = {
        "description": "a",
        "properties": {"title": {"title": "b", "enum": [{"title": "c"}]}, "default": {"type": "null", "default": 1}},
        "$defs": {"examples": {"examples": [2]}},
        "items": [{"title": "d"}],
        "x-guidance": {"lenient": True},
    }
    assert bare(schema) == {
        "properties": {"title": {"enum": [{"title": "c"}]}, "default": {"type": "null"}},
        "$defs": {"examples": {}},
        "items": [{}],
    }


def test_strict_or_not(tokenizer):
    """A strict tool whose schema cannot be held to is refused; of another as much is held to as can be."""

    def compiled(strict):
        odd = {"type": "object", "not": {"required": ["x"]}}
        tools = [{"type": "function", "function": {"name": "f", "parameters": odd, "strict": strict}}]
        grammar = tool_format(TEMPLATES["ours"]).grammar(tools, ["f"], many=False)
        return constrain.compile(tokenizer, SamplingOptions(grammar=grammar), tokenizer.vocab_size)

    assert compiled(None) is not None
    with pytest.raises(ValueError, match="Unimplemented keys"):
        compiled(True)


def test_our_template_shows_tools_to_the_model(tokenizer):
    """What our template writes of a call is what the parser reads: a conversation goes round."""
    form = tool_format(tokenizer.template)
    parser = form.parser()
    called = {"name": "add", "arguments": GOOD}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "Sure.", "tool_calls": [{"type": "function", "function": called}]},
    ]
    text = tokenizer.decode(tokenizer.chat(messages).ids).split("assistant\n")[1].strip()
    said, begun, arguments = parser.push(text) + parser.end()
    assert (said.text, begun.name, arguments.text) == ("Sure.", "add", GOOD)
    assert json.loads(arguments.text)
