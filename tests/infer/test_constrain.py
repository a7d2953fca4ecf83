"""Constraints: every answer obeys, a bad grammar is refused and ends nothing, a failure stays with its request."""

import gc
import json
import os
import re
import sys
import threading
import time

import pytest
import torch

from instar.config import Failed, InputError
from instar.config.options import SamplingOptions
from instar.infer import constrain, grammars, trial
from instar.infer.constrain import Masks
from instar.infer.trial import Words
from instar.text.tokenizer import Tokenizer

pytest.importorskip("llguidance")

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
CHINESE = {
    "type": "object",
    "properties": {"颜色": {"enum": ["红色", "绿色"]}, "名字": {"type": "string", "pattern": "^[王李][明红]{1,2}$"}},
    "required": ["颜色", "名字"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"leaf": {"type": "boolean"}, "next": {"$ref": "#/$defs/node"}},
            "required": ["leaf"],
            "additionalProperties": False,
        }
    },
    "anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}, {"const": "球"}],
}
NUMBERS = {"type": "array", "items": {"type": "number", "minimum": -1, "maximum": 1}, "minItems": 2, "maxItems": 2}
SCHEMAS = [PERSON, CHINESE, TREE, NUMBERS]
KINDS = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}


def valid(value, schema, root=None):
    """Whether a value is what a schema says, for the keywords used here."""
    root = root or schema
    if "$ref" in schema:
        return valid(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    if "anyOf" in schema:
        return any(valid(value, option, root) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    if schema["type"] == "null":
        return value is None
    if not isinstance(value, KINDS[schema["type"]]) or (schema["type"] != "boolean" and isinstance(value, bool)):
        return False
    if isinstance(value, dict):
        known = schema["properties"]
        return (
            set(schema["required"]) <= set(value) <= set(known)
            and all(valid(inner, known[key], root) for key, inner in value.items())
        )  # fmt: skip
    if isinstance(value, list):
        fits = schema.get("minItems", 0) <= len(value) <= schema["maxItems"]
        return fits and all(valid(inner, schema["items"], root) for inner in value)
    if isinstance(value, str):
        fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 99)
        return fits and re.search(schema.get("pattern", ""), value) is not None
    return isinstance(value, bool) or schema["minimum"] <= value <= schema["maximum"]


def compiled(tokenizer, **rules):
    return constrain.compile(tokenizer, SamplingOptions(**rules), tokenizer.vocab_size)


def answer(model, tokenizer, started, steps=300):
    """What a random model says under constraints, drawn from its own distribution -> ids of each, without stops."""
    masks, luck = Masks(tokenizer.vocab_size), torch.Generator().manual_seed(0)
    said, left = [[0] * 4 for _ in started], list(range(len(started)))
    for _ in range(steps):
        handle = masks.begin([started[row] for row in left])
        with torch.inference_mode():
            logits = model(torch.tensor([said[row][-4:] for row in left]))[:, -1]
        chances = logits.masked_fill(~handle.result(), -torch.inf).softmax(-1)
        for row, id in zip(left, torch.multinomial(chances, 1, generator=luck).flatten().tolist()):
            started[row].advance(id)
            assert started[row].error is None
            said[row].append(id)
        left = [row for row in left if said[row][-1] not in tokenizer.stops]
        if not left:
            return [tokenizer.decode(ids[4:-1], continues=True) for ids in said]
    raise AssertionError(f"{len(left)} answers have not ended: {tokenizer.decode(said[left[0]])!r}")


@pytest.fixture
def model(make_model, tokenizer):
    return make_model(tokenizer.vocab_size)


def test_schemas(model, tokenizer):
    """100 of 100 answers of a random model validate, in two languages; different constraints share a step."""
    started = [compiled(tokenizer, json_schema=json.dumps(schema)).start() for schema in SCHEMAS for _ in range(25)]
    texts = answer(model, tokenizer, started)
    assert all(valid(json.loads(text), SCHEMAS[n // 25]) for n, text in enumerate(texts))
    assert len(set(texts)) > 50
    assert not any(valid(json.loads(text), SCHEMAS[1 - n // 25]) for n, text in enumerate(texts[:50]))


PATTERNS = [
    r"[a-z]{3,6}@(ball|red)\.com",
    r"(王明|李红)有[一二三]个(红|绿)色的球。",
    r"[\u4e00-\u9fff]{2,4}|[0-9]{4}-[0-9][0-9]",
    "^(a|é|😀){1,3}$",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_regular_expressions(model, tokenizer, pattern):
    """Whole answers match, though a character is several tokens."""
    texts = answer(model, tokenizer, [compiled(tokenizer, regex=pattern).start() for _ in range(25)])
    assert [text for text in texts if not re.fullmatch(pattern, text)] == []
    assert len(set(texts)) > 3


def test_choices(model, tokenizer):
    """Answers are the choices, to the letter, and each is said; what means something in patterns is plain text."""
    choice = ("red", "red ball", "红色的球", "a.b|c\\/\"'\n\t\0", "😀", "é")
    texts = answer(model, tokenizer, [compiled(tokenizer, choice=choice).start() for _ in range(100)])
    assert set(texts) == set(choice)


def test_grammars(model, tokenizer):
    """Sentences of a grammar that no regular expression can say."""
    lark = 'start: sum\nsum: item ("+" item){0,2}\nitem: DIGIT | "(" sum ")" | "球"\nDIGIT: /[1-9]/'
    texts = answer(model, tokenizer, [compiled(tokenizer, grammar=lark).start() for _ in range(25)], 2000)
    for text in texts:
        assert re.fullmatch("[1-9+()球]+", text)
        assert isinstance(eval(text.replace("球", "1")), int)  # noqa: S307
    assert any("(" in text for text in texts)


def test_masks_are_exact(tokenizer):
    """Against all words of a small language: what is allowed leads to one of them, and only a whole one may end."""
    words = ("red ball", "red balloon", "王明", "王红", "a")
    raw = [word.encode() for word in words]
    grammar, seen = compiled(tokenizer, choice=words), set()
    masks, todo = Masks(tokenizer.vocab_size), [[]]
    while todo:
        said = todo.pop()
        constraint = grammar.start()
        for id in said:
            constraint.advance(id)
        (row,) = masks.of([constraint])
        before = b"".join(map(tokenizer.token_bytes, said))
        allowed = row.nonzero().flatten().tolist()
        assert allowed
        assert {id for id in allowed if id in tokenizer.stops} == (set(tokenizer.stops) if before in raw else set())
        assert constraint.ended == (set(allowed) == set(tokenizer.stops))
        seen |= {before} & set(raw)
        onward = [id for id in allowed if id not in tokenizer.stops]
        for id in onward:
            assert tokenizer.token_bytes(id)
            assert any(word.startswith(before + tokenizer.token_bytes(id)) for word in raw)
        nexts = {word[len(before) :][:1] for word in raw if word.startswith(before) and word != before}
        assert nexts == {tokenizer.token_bytes(id)[:1] for id in onward}
        todo += [[*said, id] for id in onward]
    assert seen == set(raw)


def test_rows_without_a_constraint_say_anything(tokenizer):
    """None allows every row of the model, beside a row that allows two tokens."""
    masks = Masks(tokenizer.vocab_size)
    rows = masks.begin([None, compiled(tokenizer, regex="[xy]").start(), None]).result()
    assert rows.shape == (3, tokenizer.vocab_size)
    assert rows.dtype == torch.bool
    assert rows.sum(1).tolist() == [tokenizer.vocab_size, 2, tokenizer.vocab_size]
    assert masks.of([None]).all()
    assert masks.of([]).shape == (0, tokenizer.vocab_size)
    assert compiled(tokenizer) is None


def test_masks_are_made_in_a_thread(tokenizer, monkeypatch):
    """`begin` returns while the work is still to be done."""
    masks, gate, names = Masks(tokenizer.vocab_size), threading.Event(), []

    def slow(constraints, bits):
        gate.wait(5)
        names.append(threading.current_thread().name)

    monkeypatch.setattr(masks, "_fill", slow)
    handle = masks.begin([compiled(tokenizer, regex="[xy]").start()])
    assert not handle.done()
    gate.set()
    handle.result()
    assert names[0].startswith("masks")


def test_control_tokens_are_never_allowed(tokenizer):
    """Where anything may follow, that is text and a stop; a model may have more rows than its tokenizer."""
    options = SamplingOptions(regex="(.|\\n)*", stop_ids=(7,))
    constraint = constrain.compile(tokenizer, options, tokenizer.vocab_size + 61).start()
    allowed = set(Masks(tokenizer.vocab_size + 61).of([constraint])[0].nonzero().flatten().tolist())
    assert allowed & set(tokenizer.specials.values()) == set(tokenizer.stops)
    assert max(allowed) < tokenizer.vocab_size
    assert 7 in allowed
    said = compiled(tokenizer, regex='a"<\\|im_start\\|>').start()
    for _ in range(40):
        (row,) = Masks(tokenizer.vocab_size).of([said])
        if said.ended:
            break
        assert not set(row.nonzero().flatten().tolist()) & set(tokenizer.specials.values())
        said.advance(int(row.nonzero()[0]))
    assert said.ended


def test_a_grammar_cannot_ask_for_a_control_token(tokenizer):
    """By name it is unknown, by number nothing can follow: at the start a refusal, later a failure of the request."""
    pad = tokenizer.specials["<|pad|>"]
    with pytest.raises(InputError, match="unknown special token"):
        compiled(tokenizer, grammar="start: <|pad|>")
    with pytest.raises(InputError, match="no token of this vocabulary can follow"):
        compiled(tokenizer, grammar=f"start: <[{pad}]>")
    constraint = compiled(tokenizer, grammar=f'start: "x" <[{pad}]>').start()
    constraint.advance(tokenizer.encode("x")[0])
    assert Masks(tokenizer.vocab_size).of([constraint]).all()
    assert constraint.error == "constraint: no token of this vocabulary can follow"


def test_a_tag_that_is_shown_is_text(tokenizer):
    """A control token that decoding shows, as Qwen's <tool_call>, is how a grammar's text is said; one that decoding
    leaves out stays forbidden, also where the grammar spells it."""
    spec = dict(tokenizer.vocabulary.spec)
    first = tokenizer.vocabulary.size
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": first + n, "content": text, **flags, "special": False} for n, text in enumerate(("<call>", "<c"))]
    spec["added_tokens"] = [*spec["added_tokens"], *added]
    tagged = Tokenizer(spec, {**tokenizer.config, "instar": None}, tokenizer.template)
    assert tagged.encode("<call>") != [first]
    constraint = compiled(tagged, grammar='start: "<call>" /[a-z]/').start()
    (row,) = Masks(tagged.vocab_size).of([constraint])
    assert row.nonzero().flatten().tolist() == [first]
    constraint.advance(first)
    (row,) = Masks(tagged.vocab_size).of([constraint])
    assert tagged.encode("x")[0] in row.nonzero().flatten().tolist()
    hidden = compiled(tagged, grammar='start: "<|im_end|>"').start()
    (row,) = Masks(tagged.vocab_size).of([hidden])
    assert not set(row.nonzero().flatten().tolist()) & set(tokenizer.specials.values())


def test_stops_of_a_request(tokenizer):
    """An ordinary token that stops is allowed at an end and nowhere else; other requests say it as text."""
    x, y = (tokenizer.encode(text)[0] for text in "xy")
    mine = compiled(tokenizer, regex="y(x?)", stop_ids=(x,)).start()
    other = compiled(tokenizer, regex="y(x?)").start()
    masks = Masks(tokenizer.vocab_size)
    for constraint in (mine, other):
        constraint.advance(y)
    rows = masks.of([mine, other])
    assert {int(id) for id in rows[0].nonzero()} == {x, *tokenizer.stops} == {int(id) for id in rows[1].nonzero()}
    assert mine.ended
    assert not other.ended
    early = compiled(tokenizer, regex="(x|y)y", stop_ids=(x,)).start()
    assert {int(id) for id in masks.of([early])[0].nonzero()} == {y}
    early.advance(x)
    assert early.error == "constraint: the answer was stopped before it satisfied its constraint"


@pytest.fixture
def sentencepiece():
    """A vocabulary with byte fallback whose encoder puts a blank before every text, and one that lacks the bytes."""

    def make(first_byte=0):
        pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(first_byte, 256)), "▁", "a", "b", "▁a"]
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        normal = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        spec = {
            "version": "1.0",
            "added_tokens": [{"id": n, "content": pieces[n], **flags, "special": True} for n in range(2)],
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, normal]},
            "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
            "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True,
                      "vocab": {piece: n for n, piece in enumerate(pieces)}, "merges": [["▁", "a"]]},
        }  # fmt: skip
        return Tokenizer(spec, {"eos_token": "</s>"})

    return make


def test_bytes_and_blanks_of_other_vocabularies(sentencepiece, make_model):
    """Where the encoder puts a blank before a text the answer has none that the grammar does not ask for."""
    foreign, choice = sentencepiece(), ("a b", " a", "世界", "aaa</s>b", "\n\na")
    model = make_model(foreign.vocab_size)
    assert answer(model, foreign, [compiled(foreign, choice=(text,)).start() for text in choice]) == list(choice)
    assert set(answer(model, foreign, [compiled(foreign, choice=choice).start() for _ in range(60)])) <= set(choice)


def test_a_vocabulary_must_spell_every_byte(sentencepiece):
    """One that cannot would leave an answer where no token follows."""
    with pytest.raises(InputError, match="has no token for 9 bytes, such as 00; a constraint needs"):
        compiled(sentencepiece(9), regex="a")


def test_an_answer_needs_an_end(tokenizer):
    """A tokenizer without an end of text is refused, and so is a stop that the model has no row for."""
    endless = Tokenizer(tokenizer.vocabulary.spec, tokenizer.config | {"eos_token": None})
    with pytest.raises(InputError, match=r"needs a token that ends the answer.*found none"):
        compiled(endless, regex="a")
    assert compiled(endless, regex="a", stop_ids=(5,)).stops == {5}
    with pytest.raises(InputError, match=f"below {tokenizer.vocab_size}"):
        compiled(tokenizer, regex="a", stop_ids=(tokenizer.vocab_size,))


DEEP = '{"items":' * 33 + "{}" + "}" * 33
REFUSED = {
    "half": ({"json_schema": '{"type":'}, "json_schema is no JSON"),
    "no object": ({"json_schema": "true"}, 'is true, wanted an object; any object is {"type":"object"}'),
    "abyss": ({"json_schema": "[" * 60_000}, "json_schema is no JSON: maximum recursion"),
    "deep": ({"json_schema": DEEP}, "nested 34 deep, wanted at most 32"),
    "large schema": ({"json_schema": json.dumps({"enum": ["x" * 2**16]})}, "has 65,550 bytes, wanted at most 65,536"),
    "fetch": ({"json_schema": '{"items":[{"$ref":"http://a.test/b"}]}'}, "refers to 'http://a.test/b'; nothing is"),
    "self": ({"json_schema": '{"$ref":"#"}'}, "json_schema: no answer satisfies it"),
    "lost": ({"json_schema": '{"$ref":"#/$defs/a"}'}, "Pointer '/$defs/a' does not exist"),
    "unknown": ({"json_schema": '{"not":{"type":"string"}}'}, 'Unimplemented keys: ["not"]'),
    "lenient": ({"json_schema": '{"x-guidance":{"lenient":true},"not":{}}'}, 'Unimplemented keys: ["not"]'),
    "type": ({"json_schema": '{"type":"colour"}'}, "Invalid type: colour"),
    "empty": ({"json_schema": '{"type":"integer","minimum":3,"maximum":2}'}, "minimum (3) is greater than maximum (2)"),
    "group": ({"regex": "(a"}, "unclosed group"),
    "look": ({"regex": "(?=a)b"}, "look-ahead and look-behind, is not supported"),
    "again": ({"regex": r"(a)\1"}, "backreferences are not supported"),
    "nothing": ({"regex": r"[^\x00-\U0010FFFF]"}, "regex: no answer satisfies it"),
    "long": ({"regex": "a" * 513}, "has 513 characters, wanted at most 512"),
    "half a character": ({"regex": "\ud800"}, "half of a surrogate pair"),
    "many": ({"choice": tuple(map(str, range(4097)))}, "choice has 4097 texts, wanted at most 4096"),
    "rule": ({"grammar": "start: colour"}, 'unknown name: "colour"'),
    "no start": ({"grammar": 'a: "x"'}, "no start rule found"),
    "quote": ({"grammar": 'start: "a'}, "lexer error"),
    "large grammar": ({"grammar": "start: " + '"a" ' * 20000}, "has 80,007 bytes, wanted at most 65,536"),
    "two": ({"regex": "a", "grammar": 'start: "a"'}, "regex and grammar, wanted at most one"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tokenizer, case):
    """What is malformed, too large or satisfied by nothing is refused at once, with what to change."""
    rules, message = REFUSED[case]
    begun = time.perf_counter()
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        compiled(tokenizer, **rules)
    assert time.perf_counter() - begun < 2
    assert len(str(caught.value)) < 500


CHAIN = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(1500)} | {"a1500": {"type": "null"}}
BOMBS = {
    "hours": ({"grammar": "start: A\nA: " + " & ".join(f"/.*a.{{{n}}}b.*/" for n in range(10, 40))}, "more than 1.5 s"),
    "stack": ({"json_schema": json.dumps({"$defs": CHAIN, "$ref": "#/$defs/a0"})}, "lead too deep"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_the_library_cannot_bear(tokenizer, bomb):
    """A grammar that takes hours, and one that overflows the stack, end their trial; the next one is compiled."""
    rules, message = BOMBS[bomb]
    begun = time.perf_counter()
    with pytest.raises(InputError, match=message):
        compiled(tokenizer, **rules)
    assert time.perf_counter() - begun < 4  # 2 on an idle machine
    assert compiled(tokenizer, regex=f"good after {bomb}") is not None


@pytest.mark.parametrize(
    "pattern", ["(a{1,1000}){1,1000}", "((x+x+)+y)+", "(.*a.{500}b|.*c.{500}d)+", "(a|b)*a(a|b){20}"]
)
def test_patterns_that_blow_up_elsewhere(model, tokenizer, pattern):
    """What backtracking takes for ever over, or a table of states has no room for, costs milliseconds a token."""
    constraint = compiled(tokenizer, regex=pattern).start()
    masks, luck = Masks(tokenizer.vocab_size), torch.Generator().manual_seed(1)
    begun = time.perf_counter()
    for _ in range(40):
        (row,) = masks.of([constraint])
        assert constraint.error is None
        token = int(torch.multinomial(row.double(), 1, generator=luck))
        if token in tokenizer.stops:
            break
        constraint.advance(token)
    assert time.perf_counter() - begun < 2


def test_a_failure_stays_with_its_request(tokenizer):
    """A token that its grammar does not allow fails one request: it says why, its row is open, the others go on."""
    grammar = compiled(tokenizer, regex="[xy]{3}")
    x, z = (tokenizer.encode(text)[0] for text in "xz")
    good, bad = grammar.start(), grammar.start()
    good.advance(x)
    bad.advance(z)
    assert 'token "z" doesn\'t satisfy the grammar' in bad.error
    assert "non-verbose" not in bad.error
    bad.advance(x)
    rows = Masks(tokenizer.vocab_size).of([bad, good])
    assert rows[0].all()
    assert rows[1].sum() == 2
    assert good.error is None


def test_a_fault_of_the_library_stays_with_its_request(tokenizer, monkeypatch):
    """Where filling all rows at once fails, each is filled alone, and only those fail that cannot be."""
    masks, grammar = Masks(tokenizer.vocab_size), compiled(tokenizer, regex="[xy]{3}")
    good, bad = grammar.start(), grammar.start()

    class Broken:
        def unsafe_compute_mask_ptr(self, *rest):
            raise RuntimeError("broken")

        def is_error(self):
            return False

    monkeypatch.setattr(bad, "matcher", Broken())
    rows = masks.of([bad, good, None])
    assert bad.error == "constraint: the library failed: broken"
    assert rows.sum(1).tolist() == [tokenizer.vocab_size, 2, tokenizer.vocab_size]
    assert good.error is None


def test_a_matcher_that_fails_while_a_mask_is_made(tokenizer, monkeypatch):
    """A limit that is reached in the middle of an answer fails it, and the grammar serves those who come after."""
    monkeypatch.setitem(trial.LIMITS, "max_lexer_states", 600)
    masks, luck = Masks(tokenizer.vocab_size), torch.Generator().manual_seed(0)
    unlucky, other = compiled(tokenizer, regex="(a|b)*a(a|b){14}").start(), compiled(tokenizer, regex="[xy]{3}").start()
    for _ in range(600):
        rows = masks.of([unlucky, other])
        if unlucky.error is not None:
            break
        unlucky.advance(int(torch.multinomial(rows[0].double(), 1, generator=luck)))
        unlucky.ended = False
    assert "too many states" in unlucky.error
    assert rows.sum(1).tolist() == [tokenizer.vocab_size, 2]
    after = compiled(tokenizer, regex="(a|b)*a(a|b){14}").start()
    assert masks.of([after]).sum() < tokenizer.vocab_size
    assert after.error is None


def test_a_failed_grammar_is_compiled_anew(tokenizer, monkeypatch):
    """Copies of a matcher share its states: when these reach their limit every copy fails, so none is made after."""
    first = compiled(tokenizer, regex="[xy]{4}")
    assert compiled(tokenizer, regex="[xy]{4}").compiled is first.compiled
    first.start().fail("too many states")
    second = compiled(tokenizer, regex="[xy]{4}")
    assert second.compiled is not first.compiled
    monkeypatch.setattr(constrain, "MOST_TOKENS", 2)
    said = second.start()
    for _ in range(3):
        said.advance(tokenizer.encode("x")[0])
    assert said.error is None
    assert compiled(tokenizer, regex="[xy]{4}").compiled is not second.compiled


def test_the_cache_is_bounded(tokenizer, monkeypatch):
    """Compiled grammars hold so many bytes together; the one that was not asked for longest goes first."""
    monkeypatch.setattr(constrain, "CACHE", 300_000)
    grammar = [compiled(tokenizer, regex=f"cache {n}").compiled for n in range(3)]
    assert compiled(tokenizer, regex="cache 0").compiled is grammar[0]
    compiled(tokenizer, regex="cache 3")
    cache = constrain._compiler(tokenizer, tokenizer.vocab_size).cache
    assert sum(entry.weight for entry in cache.values()) <= 300_000
    assert compiled(tokenizer, regex="cache 0").compiled is grammar[0]
    assert compiled(tokenizer, regex="cache 1").compiled is not grammar[1]


def test_what_belongs_to_a_tokenizer_goes_with_it(tokenizer):
    """The process that tries its grammars ends, and nothing of the library is kept."""
    own = Tokenizer(tokenizer.vocabulary.spec, tokenizer.config)
    compiled(own, regex="a")
    process = constrain._compiler(own, own.vocab_size).trial._process
    assert process.poll() is None
    del own
    gc.collect()
    assert process.poll() is not None


def test_without_the_library(tokenizer, monkeypatch):
    """The remedy is named."""
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(InputError, match=re.escape('pip install "instar[constrain]"')):
        compiled(tokenizer, regex="a")


def test_without_a_process(tokenizer, monkeypatch):
    """Where no process can be started that is the fault of no grammar, and none is compiled untried; no path is
    named."""
    own = Tokenizer(tokenizer.vocabulary.spec, tokenizer.config)
    monkeypatch.setattr(sys, "executable", os.devnull)
    with pytest.raises(Failed, match=r"^a grammar could not be tried$"):
        compiled(own, regex="a")


def test_any_object(model, tokenizer):
    """The plain JSON mode: an object whatever is in it, and no blanks between its parts."""
    grammar = compiled(tokenizer, json_schema='{"type":"object"}')
    constraint = grammar.start()
    for id in tokenizer.encode('{"a":[1,{"b":null}],"球":""}'):
        (row,) = Masks(tokenizer.vocab_size).of([constraint])
        assert row[id]
        constraint.advance(id)
    assert constraint.ended
    constraint = grammar.start()
    constraint.advance(tokenizer.encode("{")[0])
    (row,) = Masks(tokenizer.vocab_size).of([constraint])
    assert not row[tokenizer.encode(" ")[0]]


def test_words_spell_exactly():
    """What the encoder makes of a text is taken where it is that text, and the longest pieces where it is not."""
    pieces = [b"a", b"b", b" a", b"ab", b"", b"\n"]
    made = {"ab": [3], "\naba": [5, 0, 1, 0], "\nba": [5, 1, 0], "ba": [1, 2], "aab": [2, 1], "\naab": [5, 1]}
    words = Words(pieces, lambda text: made.get(text, []))
    assert words(b"ab") == [3]
    assert words(b"ba") == [1, 0]
    assert words(b"aba") == [0, 1, 0]
    assert words(b"aab") == [0, 3]
    assert words(b"") == []
    assert words(b"a?b") == [0]


def test_references_in_values_are_values():
    """What a schema compares with may look like a reference."""
    schema = {"const": {"$ref": "http://a.test"}, "properties": {"$ref": {"type": "null"}}, "allOf": [{"$ref": "#/a"}]}
    assert list(grammars.references(schema)) == ["#/a"]
