"""Records of every shape become texts and messages, and what is wrong is named."""

import contextlib

import pytest

from instar.config import InputError
from instar.data.records import apart, as_messages, is_dialogue, taught_of, text_of, texts_of, tools_of

ASKED = {"role": "user", "content": "Who?"}
SAID = {"role": "assistant", "content": "Anna."}


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [ASKED, SAID]},
        {"turns": ["Who?", "Anna."]},
        {"turns": [{"role": "usr", "text": "Who?"}, {"role": "sys", "text": "Anna."}]},
        {"turns": [{"role": "user", "content": "Who?"}, {"role": "system", "content": "Anna."}]},
        {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Anna."}]},
        {"messages": [{"role": "User", "content": [{"type": "text", "text": "Who?"}]}, SAID]},
        {"prompt": "Who?", "completion": "Anna."},
        {"prompt": [ASKED], "completion": [SAID]},
        {"prompt": "Who?", "response": "Anna."},
        {"instruction": "Who?", "input": " ", "output": "Anna."},
        {"instruction": "Who?", "instances": [{"input": "", "output": "Anna."}]},
        {"question": "Who?", "answer": "Anna."},
        {"question": "Who?", "std_answer": "Anna."},
    ],
    ids=lambda record: "+".join(record),
)
def test_every_dialogue_shape_gives_the_same_messages(record):
    """One question and its answer, in the shapes that data sets use, come out alike."""
    assert as_messages(record) == [ASKED, SAID]
    assert is_dialogue(record)
    assert text_of(record) == "Who?\nAnna."


def test_questions_on_a_text_are_dialogues_that_begin_with_it():
    """As SQuAD has them; read as one text they follow each other."""
    qas = [{"question": "Who?", "answers": [{"text": "Anna."}]}, {"question": "When?", "answer": "Now."}]
    record = {"context": "Anna did it.", "qas": qas}
    first, second = apart(record)
    assert as_messages(first) == [{"role": "user", "content": "Anna did it.\nWho?"}, SAID]
    assert as_messages(second)[0]["content"] == "Anna did it.\nWhen?"
    assert is_dialogue(record)
    assert text_of(record) == "Anna did it.\nWho?\nAnna.\nWhen?\nNow."
    assert taught_of(record) == [False, True, False, True]


@pytest.mark.parametrize(
    ("qas", "wrong"),
    [
        ([], 'and "qas" list of 0; wanted'),
        ("Who?", 'and "qas" str .*; wanted a string and a list'),
        (["Who?"], r'"qas"\[0\] is str'),
        ([{"question": "Who?"}], r'"qas"\[0\] has the keys question; wanted answer or answers'),
        ([{"question": "Who?", "answers": []}], r'"qas"\[0\] asks str .*and answers list of 0, wanted two strings'),
        ([{"question": 1, "answer": "Anna."}], r'"qas"\[0\] asks int .*, wanted two strings'),
    ],
)
def test_a_question_without_an_answer_is_named(qas, wrong):
    """Which of them it is, and what was found there."""
    with pytest.raises(InputError, match=wrong):
        apart({"context": "Anna did it.", "qas": qas})


def test_alpaca_input_follows_the_instruction():
    """What a task is about stands below the task."""
    (asked, _) = as_messages({"instruction": "Translate.", "input": "cat", "output": "chat"})
    assert asked["content"] == "Translate.\n\ncat"


def test_a_system_message_stays_one():
    """Only in task dialogues without an assistant is the system the one who answers."""
    told = {"role": "system", "content": "Be brief."}
    assert as_messages({"messages": [told, ASKED, SAID]})[0] == told
    assert as_messages({"turns": [told, ASKED, SAID]})[0] == told


def test_a_text_of_its_own_wins():
    """A document that also has a question is still a document to pretraining."""
    record = {"text": "A story.", "question": "Who?", "answer": "Anna."}
    assert text_of(record) == "A story."
    assert not is_dialogue(record)


def test_function_calls_and_observations_become_tool_calls_and_tools():
    """ShareGPT's tool turns reach the template in the shape that it knows."""
    record = {
        "conversations": [
            {"from": "human", "value": "Add."},
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
            {"from": "observation", "value": "2"},
        ],
        "tools": '[{"name": "add"}]',
    }
    _, call, result = as_messages(record)
    assert call["tool_calls"] == [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
    assert (call["role"], result["role"]) == ("assistant", "tool")
    assert tools_of(record) == [{"name": "add"}]
    assert text_of(record) == 'Add.\n{"name": "add", "arguments": {"a": 1}}\n2'


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"body": "x", "id": 3}, r'keys body, id; wanted one of \{"text"\}'),
        ({}, r"keys \(none\)"),
        ({"messages": "hello"}, r'"messages" is str .*wanted a list of messages'),
        ({"messages": [{"role": "user"}]}, r'"messages"\[0\] has the keys role; wanted content or value or text'),
        ({"messages": [{"role": "asistant", "content": ""}]}, "did you mean assistant?"),
        ({"messages": [{"role": "user", "content": 5}]}, r"says int \('5'\), wanted a string"),
        ({"messages": [3]}, r'"messages"\[0\] is int'),
        ({"prompt": 1, "completion": "x"}, r'"prompt" is int'),
        ({"messages": [{"role": "user", "content": "", "tool_calls": "x"}]}, "wanted a list of objects"),
        ({"conversations": [{"from": "function_call", "value": "add("}]}, "function_call is not JSON"),
    ],
)
def test_a_record_of_another_shape_names_what_was_found_and_wanted(record, message):
    """Story: a misnamed field that trains on nothing. Every mistake is an InputError that names keys or values."""
    with pytest.raises(InputError, match=message):
        as_messages(record)


@pytest.mark.parametrize(
    ("record", "message"),
    [({"text": None}, '"text" is null'), ({"text": "a\ud800b"}, r"character 2 is U\+D800, half of a surrogate pair")],
)
def test_a_text_that_is_none_is_refused(record, message):
    """A null field and half a character are the data's mistakes, not a crash in the tokenizer."""
    with pytest.raises(InputError, match=message):
        text_of(record)


@pytest.mark.parametrize("tools", ["[", '{"a": 1}', 7])
def test_tools_must_be_a_list(tools):
    """Tools are a list, or its JSON."""
    with pytest.raises(InputError, match='"tools" is'):
        tools_of({"tools": tools})


def test_a_tokenizer_learns_from_each_message_by_itself():
    """No template writes a line's end between messages, so a token must not hold one with the mark before it."""
    said = {"messages": [ASKED, SAID, {"role": "assistant", "content": ""}]}
    assert texts_of(said) == [ASKED["content"], SAID["content"]]
    assert texts_of({"text": "one\ntwo"}) == ["one\ntwo"]
    with pytest.raises(InputError, match="half of a surrogate"):
        texts_of({"prompt": "\ud83d", "response": "a"})


@pytest.mark.parametrize(
    "record",
    [
        {"turns": []}, {"messages": [{"role": ["user"], "content": "x"}]}, {"text": "x", "tools": "9" * 5000},
        {"messages": [{"from": "function_call", "value": "9" * 5000}]}, {"tools": "[" * 100_000, "messages": []},
    ],
)  # fmt: skip
def test_strange_values_are_read_or_refused(record):
    """Numbers without end, lists for words, nothing at all: never another error than ours."""
    for read in (as_messages, text_of, tools_of):
        with contextlib.suppress(InputError):
            read(record)


def test_what_cannot_be_spelt_out_is_not():
    """YAML writes a list of a billion words in ten lines; the error about it is short and comes at once."""
    many = ["a"]
    for _ in range(40):
        many = [many, many]
    with pytest.raises(InputError, match=r'"text" is list of 2'):
        text_of({"text": many})
    with pytest.raises(InputError, match="role"):
        as_messages({"messages": [{"role": many, "content": "x"}]})
    with pytest.raises(InputError, match="function_call"):
        as_messages({"messages": [{"from": "function_call", "value": many}]})


def test_both_sides_of_a_pair_teach_a_tokenizer():
    """Source and target, or whatever keys are named; a key that is not there is told."""
    assert texts_of({"source": "a dog", "target": "狗", "lang": "en"}) == ["a dog", "狗"]
    assert texts_of({"en": "a dog", "de": "ein Hund"}, ("en", "de")) == ["a dog", "ein Hund"]
    with pytest.raises(InputError, match='found the keys en, wanted a string under "de"'):
        texts_of({"en": "a dog"}, ("en", "de"))


@pytest.mark.parametrize(("record", "taught"), [
    ({"messages": [ASKED, SAID, ASKED, SAID]}, [False, True, False, True]),
    ({"messages": [ASKED, SAID | {"weight": 0}, ASKED, SAID | {"weight": 1}]}, [False, False, False, True]),
    ({"messages": [ASKED | {"train": False}, SAID | {"train": False}, ASKED, SAID]}, [False, False, False, True]),
    ({"messages": [ASKED, SAID | {"train": True, "weight": 0}]}, [False, False]),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "train": False}]}, [False] * 2),
    ({"prompt": "Who?", "completion": "Anna."}, [False, True]),
    ({"prompt": [ASKED, SAID, ASKED], "completion": [SAID]}, [False, False, False, True]),
    ({"prompt": [ASKED, SAID | {"train": True}, ASKED], "completion": "b"}, [False, True, False, True]),
    ({"turns": ["Who?", "Anna.", "Where?"]}, [False, True, False]),
    ({"messages": [ASKED, SAID, {"role": "tool", "content": "3"}, SAID]}, [False, True, False, True]),
])  # fmt: skip
def test_which_messages_may_teach(record, taught):
    """Replies do, unless they are marked; of a prompt and a completion the completion; tools and users never."""
    assert taught_of(record) == taught


@pytest.mark.parametrize(("mark", "words"), [
    ({"weight": 0.5}, '"weight" of message 1 is float .*, wanted true or false, 1 or 0'),
    ({"train": "no"}, '"train" of message 1 is str'),
])  # fmt: skip
def test_a_mark_is_yes_or_no(mark, words):
    """A weight between, which nothing here heeds, is refused rather than rounded; so is a user who is to teach."""
    with pytest.raises(InputError, match=words):
        taught_of({"messages": [ASKED, SAID | mark]})
    with pytest.raises(InputError, match='"train": true marks message 0, which user says; only replies teach'):
        taught_of({"messages": [ASKED | {"train": True}, SAID]})
