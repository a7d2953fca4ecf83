"""Schemas, patterns, grammars and tools of a request: what is taken holds every answer, what is not is refused as 400
in the request's own terms, and the engine lives on."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.serve.calls import Arguments, Called
from instar.serve.failure import Refusal, bad
from instar.serve.structured import calling_of, constraint_of, field_of, in_its_terms, plain
from instar.serve.tools import tool_format

pytest.importorskip("llguidance")

TEMPLATE = "{{ tools }}<tool_call>"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["red", "green", None]}, "maxItems": 2},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "leaf": {"type": "object", "properties": {"球": {"type": "boolean"}}, "required": ["球"],
                 "additionalProperties": False}
    },
    "anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "array", "items": {"$ref": "#/$defs/leaf"}, "maxItems": 2}],
}  # fmt: skip
SHAPES = {"oneOf": [{"const": "x"}, {"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]}
DATE = {"type": "string", "pattern": "^[12][0-9]{3}-[01][0-9]$"}
SCHEMAS = [PERSON, TREE, SHAPES, DATE]
DAY = {"properties": {"d": DATE}, "required": ["d"], "additionalProperties": False}
TOOLS = [
    {"type": "function", "function": {"name": "find", "parameters": PERSON, "strict": True}},
    {"type": "function", "function": {"name": "date", "parameters": DAY}},
]
CANARY = "CANARY"


def asked(**fields):
    return SimpleNamespace(**fields)


def schema(said, **rest):
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": said, **rest}}


def refusal(template=TEMPLATE, **fields):
    with pytest.raises(Refusal) as caught:
        constraint_of(asked(**fields), template)
    assert caught.value.status == 400
    assert CANARY not in json.dumps(caught.value.body)
    return caught.value


@pytest.fixture(scope="module")
def answers(tokenizer):
    """answers(constraints, each): texts of a random model that a real engine holds to each of the constraints."""
    torch = pytest.importorskip("torch")
    from instar.config import ModelConfig
    from instar.infer import constrain
    from instar.infer.engine import Engine
    from instar.model.transformer import Transformer

    shape = dict(d_model=16, layers=1, heads=2, max_positions=512, tied=False)
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **shape), seed=3)
    with torch.no_grad():
        model.heads["lm"].weight *= 20
    engine = Engine(model, slots=100, capacity=400, stops=tokenizer.stops)

    def run(constraints, each):
        requests = []
        for fields in constraints:
            options = SamplingOptions(max_new_tokens=300, **fields)
            grammar = constrain.compile(tokenizer, options, tokenizer.vocab_size)
            requests += [engine.submit([1, 2], options, constraint=grammar.start()) for _ in range(each)]
        engine.run()
        assert {request.finish for request in requests} == {"stop"}
        return [tokenizer.decode(request.ids) for request in requests]

    return run


def test_hundred_of_hundred(answers):
    """All answers of a random model satisfy the schema asked for, as a validator of another house sees it, and few are
    alike; that the check can fail is seen by another schema."""
    jsonschema = pytest.importorskip("jsonschema_rs")
    ways = [constraint_of(asked(response_format=schema(said, strict=True))) for said in SCHEMAS]
    texts = answers(ways, 25)
    for number, text in enumerate(texts):
        assert jsonschema.is_valid(SCHEMAS[number // 25], json.loads(text)), text
    assert len(set(texts)) > 40
    assert not any(jsonschema.is_valid(PERSON, json.loads(text)) for text in texts[25:])


def test_strict_calls(answers):
    """Calls that are required, or are to one tool, name a tool there is, with arguments that its schema allows."""
    jsonschema = pytest.importorskip("jsonschema_rs")
    schemas = {"find": PERSON, "date": {"type": "object", **DAY}}
    for choice, names in (
        ("required", {"find", "date"}),
        ({"type": "function", "function": {"name": "find"}}, {"find"}),
    ):
        way = constraint_of(asked(tools=TOOLS, tool_choice=choice, parallel_tool_calls=False), TEMPLATE)
        found = set()
        for text in answers([way], 10):
            parser = tool_format(TEMPLATE).parser(names)
            called, *arguments = parser.push(text) + parser.end()
            assert isinstance(called, Called)
            assert all(isinstance(piece, Arguments) for piece in arguments)
            assert jsonschema.is_valid(schemas[called.name], json.loads("".join(piece.text for piece in arguments)))
            found.add(called.name)
        assert found == names


def test_other_ways(answers):
    """Patterns, choices, grammars and any object, as we and as vLLM write them."""
    import re

    for field in ("response_format", "structured_outputs"):
        ours = field == "response_format"

        def way(name, value, field=field, ours=ours):
            return constraint_of(asked(**{field: {"type": name, name: value} if ours else {name: value}}))

        anything = constraint_of(asked(**{field: {"type": "json_object"} if ours else {"json_object": True}}))
        assert json.loads(anything["json_schema"]) == {"type": "object"}
        texts = answers([way("regex", "[a-c]{3}"), way("choice", ["x", "y.z"]), way("grammar", 'start: "球" | "b"')], 4)
        assert all(re.fullmatch("[a-c]{3}", text) for text in texts[:4])
        assert set(texts[4:8]) <= {"x", "y.z"}
        assert set(texts[8:]) <= {"球", "b"}
    said = {"json_schema": json.dumps(PERSON)}
    assert constraint_of(asked(structured_outputs={"json": PERSON})) == said
    assert constraint_of(asked(structured_outputs={"json": json.dumps(PERSON)})) == said


def test_nothing_is_asked():
    """Text, null, tools that need not be called, and tools that must not be, constrain nothing."""
    free = [{"type": "function", "function": {"name": "f", "parameters": PERSON}}]
    for fields in ({}, {"response_format": None}, {"response_format": {"type": "text"}}, {"tools": []},
                   {"tools": free}, {"tools": free, "tool_choice": "auto"}, {"tools": TOOLS, "tool_choice": "none"},
                   {"tool_choice": "auto"}, {"structured_outputs": None}):  # fmt: skip
        assert constraint_of(asked(**fields), TEMPLATE) == {}, fields


def test_which_tools():
    """All, one, or those that are allowed; several at a time unless the request says otherwise."""

    def calling(choice, **rest):
        found = calling_of(asked(tools=TOOLS, tool_choice=choice, **rest))
        return found.names, found.required, found.many

    both = ("find", "date")
    assert calling(None) == (both, False, True)
    assert calling("required", parallel_tool_calls=False) == (both, True, False)
    date = {"type": "function", "function": {"name": "date"}}
    assert calling(date) == (("date",), True, False)
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [date]}}
    assert calling(allowed) == (("date",), True, True)
    assert calling_of(asked(tools=TOOLS, tool_choice="none")) is None
    # of some tools alone the others must not be called, so that an answer is held to a grammar
    allowed["allowed_tools"]["mode"] = "auto"
    free = [{"type": "function", "function": {"name": name}} for name in both]
    assert '"date' in constraint_of(asked(tools=free, tool_choice=allowed), TEMPLATE)["grammar"]


DEEP = json.loads('{"items":' * 33 + "{}" + "}" * 33)
NAMED = {"type": "function", "function": {"name": CANARY}}
REFUSED = [
    ("response_format.type", {"response_format": {"type": CANARY}}),
    ("response_format.type", {"response_format": [CANARY]}),
    ("response_format.json_schema", {"response_format": {"type": "json_schema"}}),
    ("response_format.json_schema.name", {"response_format": schema({}) | {"json_schema": {"name": f"{CANARY}!"}}}),
    ("response_format.json_schema.schema", {"response_format": schema(CANARY)}),
    ("response_format.json_schema.schema", {"response_format": schema(DEEP)}),
    ("response_format.json_schema.schema", {"response_format": schema({"enum": ["x" * 2**16]})}),
    ("response_format.json_schema.schema", {"response_format": schema({"$ref": f"http://{CANARY}/a"})}),
    ("response_format.regex", {"response_format": {"type": "regex", "regex": "a" * 513}}),
    ("response_format.regex", {"response_format": {"type": "regex", "regex": ""}}),
    ("response_format.regex", {"response_format": {"type": "regex", "regex": "\ud800"}}),
    ("response_format.choice", {"response_format": {"type": "choice", "choice": CANARY}}),
    ("response_format.choice", {"response_format": {"type": "choice", "choice": []}}),
    ("response_format.choice", {"response_format": {"type": "choice", "choice": ["a"] * 4097}}),
    ("response_format.choice", {"response_format": {"type": "choice", "choice": ["a" * 2**16, "b"]}}),
    ("response_format.grammar", {"response_format": {"type": "grammar", "grammar": "a" * (2**14 + 1)}}),
    ("structured_outputs", {"structured_outputs": {"regex": "a", "choice": ["b"]}}),
    ("structured_outputs", {"structured_outputs": {CANARY: 1}}),
    ("structured_outputs", {"structured_outputs": CANARY}),
    ("structured_outputs.json", {"structured_outputs": {"json": "{"}}),
    ("response_format", {"response_format": schema({}), "structured_outputs": {"regex": "a"}}),
    ("response_format", {"response_format": {"type": "regex", "regex": "a"}, "tools": TOOLS}),
    ("tool_choice", {"tool_choice": "required"}),
    ("tool_choice", {"tools": TOOLS, "tool_choice": NAMED}),
    ("tool_choice", {"tools": TOOLS, "tool_choice": CANARY}),
    ("tool_choice", {"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}}),
    ("tools", {"tools": [NAMED, NAMED]}),
    ("tools", {"tools": [NAMED] * 129}),
    ("tools[0]", {"tools": [{"type": CANARY}]}),
    ("tools[0].function.name", {"tools": [{"type": "function", "function": {"name": f"{CANARY} "}}]}),
    ("tools[0].function.parameters", {"tools": [{"function": {"name": "a", "parameters": [CANARY]}}]}),
    ("tools[0].function.parameters", {"tools": [{"function": {"name": "a", "parameters": {"type": "string"}}}]}),
    ("tools[0].function.parameters", {"tools": [{"function": {"name": "a", "parameters": DEEP}}]}),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refused(case):
    """What is malformed, too large, too deep or elsewhere is refused, naming its field and repeating nothing (S22,
    S23)."""
    param, fields = REFUSED[case]
    assert refusal(**fields).param == param


def test_a_template_without_tools():
    """Tools for a model that knows none are refused, and not silently left out."""
    assert refusal(template="{{ messages }}", tools=TOOLS).param == "tools"
    assert refusal(template=None, tools=TOOLS).param == "tools"


def test_many_tools():
    """Their descriptions count for nothing, their schemas only so far."""
    many = [
        {"type": "function", "function": {"name": f"f{n}", "strict": True, "parameters": PERSON}} for n in range(128)
    ]
    long = [{**tool, "function": {**tool["function"], "parameters": {"description": "a" * 9000}}} for tool in many[:9]]
    assert len(constraint_of(asked(tools=long), TEMPLATE)["grammar"]) < 4000
    wide = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(100)}}
    many = [{**tool, "function": {**tool["function"], "parameters": wide}} for tool in many]
    assert refusal(tools=many).param == "tools"


COMPILED = [
    ("response_format", {"response_format": schema({"not": {"type": CANARY}})}, "uses not, which cannot be held to"),
    ("response_format", {"response_format": schema({"type": CANARY})}, "a type is not known"),
    ("response_format", {"response_format": schema({"$ref": f"#/$defs/{CANARY}"})}, "a $ref points to nothing"),
    ("response_format", {"response_format": schema({"allOf": [{"const": CANARY}, {"const": 1}]})}, ""),
    ("response_format", {"response_format": {"type": "regex", "regex": f"({CANARY}"}}, "unclosed group"),
    ("response_format", {"response_format": {"type": "regex", "regex": f"(?={CANARY})"}}, "look-around"),
    ("structured_outputs", {"structured_outputs": {"regex": f"\\p{{{CANARY}}}"}}, "Unicode property not found"),
    (
        "structured_outputs",
        {"structured_outputs": {"grammar": f"start: {CANARY}"}},
        "it names a rule that there is not",
    ),
    ("structured_outputs", {"structured_outputs": {"grammar": CANARY}}, "cannot be compiled"),
    (
        "tools",
        {"tools": [{"function": {"name": "a", "strict": True, "parameters": {"not": {"const": CANARY}}}}]},
        "not",
    ),
]


def test_refused_by_an_engine(tokenizer):
    """What only the compiler of grammars finds is said in the request's terms, without a word of the grammar; after
    each the next good one is compiled (S22, S23)."""
    from instar.infer import constrain

    for param, fields, said in COMPILED:
        fields = constraint_of(asked(**fields), TEMPLATE), asked(**fields)
        with pytest.raises(InputError) as caught:
            constrain.compile(tokenizer, SamplingOptions(**fields[0]), tokenizer.vocab_size)
        (name,) = fields[0]
        told = in_its_terms(bad(str(caught.value), name), fields[1])
        assert (told.status, told.param) == (400, param)
        assert said in told.message
        assert CANARY not in told.message
        assert field_of(fields[1]) == param
        good = constraint_of(asked(response_format=schema(PERSON)))
        assert constrain.compile(tokenizer, SamplingOptions(**good), tokenizer.vocab_size) is not None
    other = bad("temperature is below 0", "temperature")
    assert in_its_terms(other, asked()) is other


@pytest.mark.slow
def test_bombs(tokenizer):
    """What would take hours, or more stack than there is, ends a process of its own within two seconds (S22)."""
    from instar.infer import constrain

    chain = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(1500)} | {"a1500": {"type": "null"}}
    hours = "start: A\nA: " + " & ".join(f"/.*a.{{{n}}}b.*/" for n in range(10, 40))
    for fields in ({"response_format": schema({"$defs": chain, "$ref": "#/$defs/a0"})},
                   {"response_format": {"type": "grammar", "grammar": hours}}):  # fmt: skip
        with pytest.raises(InputError) as caught:
            constrain.compile(tokenizer, SamplingOptions(**constraint_of(asked(**fields))), tokenizer.vocab_size)
        assert "write it s" in plain(str(caught.value))


KEYS = (
    "type function name parameters json_schema schema regex choice grammar json tools mode allowed_tools strict $ref "
    f"properties {CANARY}"
).split()
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70_000) | st.sampled_from([CANARY, "auto", "function", "\ud800", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("response_format", "structured_outputs", "tools", "tool_choice", "parallel_tool_calls")


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JUNK)))
def test_junk(fields):
    """Whatever stands in these fields, it becomes one constraint or none, or is refused as 400 without being repeated
    (S8, S23)."""
    found, error = {}, None
    try:
        found = constraint_of(asked(**fields), TEMPLATE)
    except Refusal as refusal:
        error = refusal
    assert error is None or (error.status == 400 and CANARY not in json.dumps(error.body))
    assert len(found) <= 1
    SamplingOptions(**found)
