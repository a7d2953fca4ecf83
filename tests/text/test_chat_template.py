"""Messages, templates and the sandbox."""

import json

import pytest

from instar.config import InputError
from instar.text import Tokenizer
from instar.text.template import MAX_OUTPUT, MAX_SOURCE, REST, TEACH, render

ASK = {"role": "user", "content": "Where?"}
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]


def with_template(tokenizer, template):
    return Tokenizer(tokenizer.vocabulary.spec, tokenizer.config, template)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "found 0 messages"),
        (["Where?"], r"messages\[0\]: found str"),
        ([ASK, {"content": "a"}], r"unknown role in messages\[1\]: None"),
        ([ASK, {"role": "user"}], r"the content of messages\[1\]: found NoneType"),
        ([{"role": "user", "content": ["a"]}], r"the content of messages\[0\]: found list"),
        ([ASK, ASK, {"role": "user", "content": "\ud83d"}], r"messages\[2\] holds U\+D83D"),
        ([ASK, {"role": "asistant", "content": "a"}], "did you mean assistant"),
        ([{**ASK, "tool_calls": "f"}], r"the tool_calls of messages\[0\]: found f, wanted a list of objects"),
        ([{**ASK, "tool_calls": ["f"]}], r"the tool_calls of messages\[0\]"),
        ([{**ASK, "reasoning_content": 1}], r"the reasoning_content of messages\[0\]: found int"),
        ([{**ASK, "name": 1}], r"the name of messages\[0\]: found int"),
        ([{**ASK, "name": "\ud83d"}], r"the name of messages\[0\] holds U\+D83D"),
        ("Where?", "found str, wanted a list"),
        (ASK, "found dict, wanted a list"),
    ],
)
def test_malformed_messages_are_named(tokenizer, messages, words):
    """An error tells which message is wrong and how."""
    with pytest.raises(InputError, match=words):
        tokenizer.chat(messages, teach="all")


def test_a_system_message_is_never_invented(tokenizer):
    """Without one, the chat begins with the first message."""
    text = tokenizer.decode(tokenizer.chat([ASK], teach="all").ids, skip_special=False)
    assert text == "<|im_start|>user\nWhere?<|im_end|>\n"


def test_tools_and_calls(tokenizer):
    """Tools stand in the system message; a call and its result are turns, and the call teaches with its braces."""
    call = {"type": "function", "function": {"name": "find", "arguments": {"what": "球 & <ball>"}}}
    messages = [
        {"role": "system", "content": "Be brief."},
        ASK,
        {"role": "assistant", "content": None, "tool_calls": [call, call]},
        {"role": "tool", "name": "find", "content": "garden"},
    ]
    chat = tokenizer.chat(messages, tools=TOOLS)
    text = tokenizer.decode(chat.ids, skip_special=False)
    said = '<tool_call>{"name": "find", "arguments": {"what": "球 & <ball>"}}</tool_call>'
    assert text.startswith("<|im_start|>system\nBe brief.\n\nTools:\n" + json.dumps(TOOLS[0]))
    assert text.count("Be brief.") == 1
    assert "<|im_start|>tool find\ngarden<|im_end|>\n" in text
    taught = [id for id, teaches in zip(chat.ids, chat.teaches) if teaches]
    assert tokenizer.decode(taught, skip_special=False) == f"{said}\n{said}<|im_end|>"


def test_a_call_teaches_in_a_foreign_template(tokenizer):
    """Without generation blocks an answer that only calls a tool teaches from the prompt's end to the turn's end."""
    foreign = with_template(
        tokenizer,
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
        "[{{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    )
    call = {"function": {"name": "find", "arguments": {"what": "ball"}}}
    chat = foreign.chat([ASK, {"role": "assistant", "content": "", "tool_calls": [call]}, ASK])
    taught = [id for id, teaches in zip(chat.ids, chat.teaches) if teaches]
    assert foreign.decode(taught, skip_special=False) == '[find {"what": "ball"}]<|im_end|>'


def test_the_end_of_a_turn_is_read_off_the_template(tokenizer):
    """A template that ends turns with another token makes that token a stop."""
    foreign = with_template(tokenizer, "{% for m in messages %}{{ m.content }}<|pad|>{% endfor %}")
    assert foreign.stops == (tokenizer.pad, tokenizer.eos)
    assert with_template(tokenizer, None).stops == (tokenizer.eos,)
    assert with_template(tokenizer, "{% broken").stops == (tokenizer.eos,)


def test_a_template_that_leaves_a_message_out_is_an_error(tokenizer):
    """A dropped message is never silent."""
    foreign = with_template(
        tokenizer, "{% for m in messages if m.role == 'user' %}{{ m.content }}<|im_end|>{% endfor %}"
    )
    with pytest.raises(InputError, match=r"leaves out messages\[1\], whose role is assistant"):
        foreign.chat([ASK, {"role": "assistant", "content": "There."}])


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ 'long' if m.content | length > 5 else m.content }}<|im_end|>{% endfor %}",
        "{% for m in messages %}{{ m.content[:3] }}{{ m.content[3:] }}{{ m.content[0] }}<|im_end|>{% endfor %}",
    ],
)
def test_a_template_that_measures_messages_is_an_error(tokenizer, template):
    """What the marks would change is refused, never guessed."""
    with pytest.raises(InputError, match="chat template"):
        with_template(tokenizer, template).chat([ASK], teach="all")


def test_any_character_may_be_content(tokenizer):
    """The marks that are put around messages may also stand inside one, for our template and for a foreign one."""
    text = "".join(chr(0xFDD0 + n) for n in range(32)) + "\U000f0000\U000f0001<"
    foreign = with_template(
        tokenizer,
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
        "{{ '\n' }}{% endfor %}",
    )
    talk = [{"role": role, "content": text} for role in ("user", "assistant")]
    wanted = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role in ("user", "assistant"))
    for either in (tokenizer, foreign):
        assert either.decode(either.chat(talk).ids, skip_special=False) == wanted


def test_no_template_is_an_error(tokenizer):
    """A vocabulary without a chat template says so, and still serves text."""
    plain = with_template(tokenizer, None)
    with pytest.raises(InputError, match="no chat template"):
        plain.chat([ASK])
    assert plain.document("a")[-1] == plain.eos


def test_batch_equals_single(tokenizer):
    """Many conversations at once give the chat of each alone."""
    talks = [[ASK, {"role": "assistant", "content": "球" * n}] for n in range(6)]
    assert tokenizer.chat_batch(talks) == [tokenizer.chat(talk) for talk in talks]


def test_tokens_may_swallow_blanks(tokenizer, tmp_path):
    """A control token with rstrip takes the blanks after it, as in the stock library."""
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    spec["added_tokens"][3]["rstrip"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    talk = [ASK, {"role": "assistant", "content": "There."}]
    stock = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(talk, return_dict=True)["input_ids"]
    assert Tokenizer.load(tmp_path).chat(talk).ids == stock != tokenizer.chat(talk).ids


def test_generation_blocks_are_marked():
    """What a block encloses stands between the marks; its variables stay inside."""
    source = "a{% set x = 1 %}{% generation %}b{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}"
    assert render(source, {}) == f"a{TEACH}b2{REST}1"


BOMBS = {
    "file": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__['json'] }}",
    "mutation": "{{ messages.append(1) }}",
    "width": "{{ '%999999999d' % 1 }}",
    "width filter": "{{ '%999999999d' | format(1) }}",
    "width method": "{{ '{:999999999}'.format(1) }}",
    "padding": "{{ 'a'.ljust(999999999) }}",
    "centring": "{{ 'a' | center(999999999) }}",
    "repetition": "{{ 'a' * 999999999 }}",
    "list": "{{ ([0] * 999999999) | length }}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "indent": "{{ messages | tojson(indent=999999999) }}",
    "endless": "{% for a in range(99999) %}{% for b in range(99999) %}aaaaaaaaaa{% endfor %}{% endfor %}",
    "range": "{{ range(999999999) | list }}",
    "doubling": "{% set n = namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "doubling by ~": "{% set n = namespace(s='aaaa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "rounds": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "rounds over a text": "{% set s = 'a' * 999999 %}{% for a in s %}{% for b in s %}{% endfor %}{% endfor %}",
    "calls": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "tree": "{% for x in [[[]] * 1000] * 1000 recursive %}{{ loop(x) }}{{ loop(x) }}{% endfor %}",
    "replacement": "{{ ('a' * 999999) | replace('a', 'b' * 999999) | length }}",
    "replacement method": "{{ ('a' * 999999).replace('a', 'b' * 999999) | length }}",
    "empty replacement": "{{ ('a' * 999999) | replace('', 'b' * 999999) | length }}",
    "joint": "{{ (['a'] * 1000) | join('b' * 999999) | length }}",
    "joint method": "{{ ('b' * 999999).join(['a'] * 1000) | length }}",
    "translation": "{{ ('a' * 999999).translate({97: 'b' * 999999}) | length }}",
    "block": "{% set s = 'a' * 999999 %}{% set t %}{% for i in range(99999) %}{{ s }}{% endfor %}{% endset %}",
    "block of text": "{% set t %}{% for i in range(99999) %}" + "a" * 9999 + "{% endfor %}{% endset %}",
    "lists of lists": "{% set a = ['x'] %}" + "{% set a = [a, a] %}" * 40 + "{{ a }}",
    "lists of lists as JSON": "{% set a = ['x'] %}" + "{% set a = [a, a] %}" * 40 + "{{ a | tojson | length }}",
    "lists of lists as text": "{% set a = ['x'] %}" + "{% set a = [a, a] %}" * 40 + "{{ (a ~ '') | length }}",
    "copies": "{% set n = namespace(l=[]) %}{% set s = 'a' * 999999 %}"
    "{% for i in range(300) %}{% set n.l = n.l + [s[1:]] %}{% endfor %}",
    "capitals": "{{ (['a' * 999999] * 1000) | map('upper') | list | length }}",
    "number": "{% set n = namespace(i=9) %}{% for i in range(60) %}{% set n.i = n.i * n.i %}{% endfor %}",
    "long source": "a" * (MAX_SOURCE + 1),
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "syntax": "{% if %}",
    "undefined": "{{ nothing.at.all }}",
    "refusal": "{{ raise_exception('only one system message') }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_the_sandbox_holds(name):
    """Files, Python's insides, mutation and cheap bombs end as an error about the template."""
    with pytest.raises(InputError, match="chat template"):
        render(BOMBS[name], {"messages": [1]})


# Which guard is to stop a bomb; without it, it would fill the memory first and fail for another reason.
STOPPED_BY = {
    "width method": "format is not allowed", "repetition": "a repetition is too long", "doubling": "a sum is too long",
    "doubling by ~": "a text is longer than", "replacement": "a replacement is too long", "number": "a number is too",
    "replacement method": "a replacement is too long", "joint": "a joined text is too long",
    "joint method": "a joined text is too long", "copies": "64,000,000 characters", "block": "64,000,000 characters",
    "block of text": "64,000,000 characters", "capitals": "64,000,000 characters", "rounds": "1,000,000 steps",
    "lists of lists": "a text is longer than", "lists of lists as JSON": "a text is longer than",
}  # fmt: skip


@pytest.mark.parametrize("name", STOPPED_BY)
def test_bombs_are_stopped_before_they_go_off(name):
    """Each by the guard that was made for it."""
    with pytest.raises(InputError, match=STOPPED_BY[name]):
        render(BOMBS[name], {"messages": [1]})


def test_the_output_is_bounded():
    """A million characters, not one more."""
    assert len(render("{{ text }}", {"text": "a" * MAX_OUTPUT})) == MAX_OUTPUT
    with pytest.raises(InputError, match="more than 1,000,000"):
        render("{{ text }}b", {"text": "a" * MAX_OUTPUT})


def test_deep_messages_are_an_error_not_a_crash(tokenizer):
    """Arguments nested a hundred thousand deep are refused."""
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    call = {"function": {"name": "f", "arguments": {"a": deep}}}
    with pytest.raises(InputError, match="nested too deeply"):
        tokenizer.chat([{"role": "assistant", "content": "", "tool_calls": [call]}])


def test_ordinary_arithmetic_works():
    """The sandbox does not stand in the way of what templates do."""
    source = "{{ 7 % 2 }}{{ 3 * 4 }}{{ 'a' * 3 }}{{ 'a' + 'b' }}{{ [1] + [2] }}{{ {'é': 1} | tojson }}"
    assert render(source, {}) == '112aaaab[1, 2]{"é": 1}'
