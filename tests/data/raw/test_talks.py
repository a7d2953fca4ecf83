"""Dialogues of every shape become texts that show who says what."""

import json
import time

import pytest

from instar.data.raw.piece import Refused
from instar.data.raw.talks import gathered, is_turn, language_of, talk_of_log, text_of_talk


def text(record):
    return text_of_talk(record)[0]


CALL = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ({"turns": ["Hi", "Hello!"]}, "User: Hi\n\nAssistant: Hello!"),
        ({"turns": ["你好", "你好呀"]}, "用户：你好\n\n助手：你好呀"),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            "User: a\n\nAssistant: b",
        ),
        ({"turns": [{"role": "usr", "text": "找餐馆"}, {"role": "sys", "text": "好的"}]}, "用户：找餐馆\n\n助手：好的"),
        ({"prompt": "p", "completion": "c"}, "User: p\n\nAssistant: c"),
        ({"instruction": "Add", "input": "1 2", "output": "3"}, "User: Add\n\n1 2\n\nAssistant: 3"),
        ({"question": "q", "answer": "a"}, "User: q\n\nAssistant: a"),
        ({"messages": [{"role": "user", "name": "Ann", "content": "x"}]}, "Ann: x"),
        (
            {"turns": [{"speaker": "USER", "utterance": "a"}, {"speaker": "SYSTEM", "utterance": "b"}]},
            "User: a\n\nAssistant: b",
        ),
        ({"utterances": [{"speaker": "Bo", "text": "a"}, {"speaker": 2, "text": "b"}]}, "Bo: a\n\nSpeaker 2: b"),
        ({"messages": [{"message": "知道吗？"}, {"message": "知道呀"}]}, "用户：知道吗？\n\n助手：知道呀"),
        ({"dialog": ["a", "b", "c"]}, "User: a\n\nAssistant: b\n\nUser: c"),
        ({"chat_messages": [{"sender": "human", "text": "a"}]}, "User: a"),
        (
            {"messages": [{"user": "U1", "user_profile": {"real_name": "Ann Lee"}, "text": "hi", "ts": "1.0"}]},
            "Ann Lee: hi",
        ),
        ({"messages": [{"author": {"name": "ann", "nickname": "Annie"}, "content": "hey"}]}, "Annie: hey"),
        ({"messages": [{"from": "Ann", "text": ["see ", {"type": "link", "text": "x.org"}]}]}, "Ann: see x.org"),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be kind."},
                    {"role": "user", "content": "1+1?"},
                    {"role": "assistant", "content": None, "tool_calls": [CALL]},
                    {"role": "tool", "content": "2"},
                ]
            },
            'System: Be kind.\n\nUser: 1+1?\n\nAssistant: {"name": "add", "arguments": "{\\"a\\": 1}"}\n\nTool: 2',
        ),
    ],
)
def test_every_shape_shows_its_speakers(record, wanted):
    """Messages, turns, pairs and the dumps of messengers are paragraphs that begin with who speaks."""
    assert text(record) == wanted


def node(parent, role, said):
    parts = {"content_type": "text", "parts": [said, {"image": 1}]}
    return {"parent": parent, "message": {"author": {"role": role}, "content": parts}}


def test_the_current_branch_of_an_export():
    """Of OpenAI's tree the talk is the way to its current node, and a tree that goes in circles ends."""
    tree = {
        "root": {"parent": None, "message": None},
        "a": node("root", "user", "Hi"),
        "b": node("a", "assistant", "Old"),
        "c": node("a", "assistant", "New"),
    }
    record = {"title": " Greeting ", "mapping": tree, "current_node": "b"}
    assert text_of_talk(record) == ("User: Hi\n\nAssistant: Old", {"turns": 2, "speakers": 2, "title": "Greeting"})
    assert text({"mapping": tree}) == "User: Hi\n\nAssistant: New"
    tree["root"]["parent"] = "c"
    assert text({"mapping": tree, "current_node": "c"}) == "User: Hi\n\nAssistant: New"


def test_empty_turns_are_counted():
    """Turns without words go and are counted; a talk of nothing else is refused."""
    assert text_of_talk({"turns": ["a", " ", "c"]}) == (
        "User: a\n\nUser: c",
        {"turns": 2, "speakers": 1, "empty_turns": 1},
    )
    with pytest.raises(Refused) as refused:
        text_of_talk({"messages": []})
    assert refused.value.reason == "empty"


@pytest.mark.parametrize("record", [{"text": "A document."}, {"id": 3}, {"content": "words"}, {"content": [3]}])
def test_other_records_are_no_talks(record):
    """Documents, and rows that hold neither turns nor pairs, are left to other readers."""
    assert text_of_talk(record) is None


@pytest.mark.parametrize("record", [{"messages": 3}, {"turns": [1, 2]}])
def test_broken_talks_are_refused(record):
    """What calls itself a talk and cannot be read says why."""
    with pytest.raises(Refused) as refused:
        text_of_talk(record)
    assert refused.value.reason == "shape"


def test_languages_of_labels():
    """Han makes a talk Chinese, kana or a few loan words do not."""
    assert [language_of(said) for said in ("我用 Python 写", "日本語です", "the 道 of tea", "123")] == [
        "zh",
        "en",
        "en",
        "en",
    ]


@pytest.mark.parametrize(
    ("log", "wanted"),
    [
        (
            "12/31/20, 10:15 - Messages are encrypted.\n12/31/20, 10:15 - Ann: hi\nagain\n"
            "12/31/20, 10:16 PM - Bo Lee: well: no\n12/31/20, 10:17 - Ann: <Media omitted>\n",
            [("", ""), ("Ann", "hi\nagain"), ("Bo Lee", "well: no"), ("Ann", "")],
        ),
        ("[31.12.20, 10:15:02] Ann: hi\n\u200e[31.12.20, 10:15:09] Bo: ho", [("Ann", "hi"), ("Bo", "ho")]),
        ("<ann> hi\n* bob waves\n<@bob> see http://x: y", [("ann", "hi"), ("", ""), ("bob", "see http://x: y")]),
        ("10:15 <ann> hi\n10:16 -!- bob has joined\n10:17 <bob> yo", [("ann", "hi"), ("", ""), ("bob", "yo")]),
        ("[10:15] ann: hi\n[10:16] bob: yo", [("ann", "hi"), ("bob", "yo")]),
        ("2020-01-01 10:15 张三: 你好\n2020-01-01 10:16 李四：在吗", [("张三", "你好"), ("李四", "在吗")]),
        (
            "2020-01-01 10:15:20 张三(12345)\n你好\n在吗\n\n2020-01-01 10:16:20 李四(5432)\n在",
            [("张三", "你好\n在吗"), ("李四", "在")],
        ),
    ],
)
def test_logs(log, wanted):
    """Logs of WhatsApp, IRC and QQ have speakers, words over several lines, and notices that nobody says."""
    assert [(turn["speaker"], turn["text"]) for turn in talk_of_log(log)] == wanted


def test_a_log_as_text():
    """Turns of a log are a talk like any other, with the names of those who speak."""
    turns = talk_of_log("<ann> hi\n* bob waves\n<bob> yo")
    assert text_of_talk({"turns": turns}) == ("ann: hi\n\nbob: yo", {"turns": 2, "speakers": 2, "empty_turns": 1})


@pytest.mark.parametrize(
    "prose",
    ["It was: the best\nof times.", "At 10:15 he said: hi\n" * 3, "<b> bold\n" + "words\n" * 5, "", "10:15 Ann: hi"],
)
def test_prose_is_no_log(prose):
    """Texts with a time or a colon here and there have no turns."""
    assert talk_of_log(prose) is None


def test_rows_that_are_turns():
    """A message of a dump is known from a dialogue and from a document."""
    assert is_turn({"user": "U1", "text": "hi", "ts": "1"})
    assert is_turn({"author": {"name": "ann"}, "content": "hi", "timestamp": "2020"})
    assert not is_turn({"author": "Ann", "content": "A page.", "title": "T"})
    assert not is_turn({"messages": [], "user": "a", "text": "b", "ts": 1})
    assert not is_turn("hi")


def test_files_of_dumps(read_file):
    """A list of messages and a log are one document each, other rows and texts are what they are."""
    rows = [{"user": "ann", "text": "hi", "ts": "1"}, {"user": "bo", "text": "ho", "ts": "2"}, {"turns": ["a", "b"]}]
    pytest.importorskip("orjson")
    found = read_file("a.json", json.dumps(rows).encode(), kind="dialogues")
    assert found.texts == ["ann: hi\n\nbo: ho", "User: a\n\nAssistant: b"]
    assert read_file("a.txt", b"<ann> hi\n<bo> ho", kind="dialogues").texts == ["ann: hi\n\nbo: ho"]
    assert read_file("a.txt", b"Once upon a time.", kind="dialogues").texts == ["Once upon a time."]
    assert [len(talk["messages"]) for talk in gathered(rows[:1] * 25_000)] == [10_000, 10_000, 5_000]


def test_long_talks_are_linear():
    """A log of one speaker's endless lines, a tree of a hundred thousand nodes and deep content cost their size."""
    begun = time.process_time()
    assert len(talk_of_log("10:15 <a> x\n" * 2 + "2020-01-01 10:15 b\n" + "line\n" * 30_000) or []) == 0
    turns = talk_of_log("2020-01-01 10:15 张三: 你\n" + "2020-01-01 10:15 李四\n行\n" * 10_000)
    assert len(turns) == 10_001
    tree = {str(n): node(str(n - 1), ("user", "assistant")[n % 2], "x") for n in range(20_000)}
    assert text_of_talk({"mapping": tree})[1]["turns"] == 20_000
    deep = "x"
    for _ in range(50_000):
        deep = [deep]
    with pytest.raises(Refused):
        text_of_talk({"messages": [{"speaker": "a", "text": deep}]})
    assert time.process_time() - begun < 4


@pytest.mark.parametrize("name", ["crosswoz_zh", "kdconv_zh", "sgd_en", "taskmaster4_en"])
def test_real_dialogues(shared, name):
    """Every row of four corpora is a talk of two who take turns."""
    rows = shared / "dialogue" / f"{name}.jsonl"
    if not rows.is_file():
        pytest.skip("no dialogues here")
    user, assistant = ("用户：", "助手：") if name.endswith("zh") else ("User: ", "Assistant: ")
    for line in rows.read_text(encoding="utf-8").splitlines()[:100]:
        read, meta = text_of_talk(json.loads(line))
        assert meta["speakers"] == 2
        assert f"\n\n{assistant}" in read
        assert user in read
