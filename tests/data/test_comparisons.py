"""Every shape that preference data comes in says the same: one prompt and two answers."""

import pytest

from instar.config import InputError
from instar.data.comparisons import Comparison, comparison_of, is_comparison
from instar.data.faults import Fault

ASK = {"role": "user", "content": "Who?"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("Anna.", "Go away."))
RULES = {"role": "system", "content": "Be kind."}
WANTED = Comparison([ASK], GOOD, BAD)


@pytest.mark.parametrize("record", [
    {"prompt": "Who?", "chosen": "Anna.", "rejected": "Go away."},
    {"prompt": [ASK], "chosen": "Anna.", "rejected": [BAD]},
    {"prompt": [ASK], "chosen": GOOD, "rejected": BAD},
    {"prompt": "Who?", "chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
    {"chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
    {"chosen": "\n\nHuman: Who?\n\nAssistant: Anna.", "rejected": "\n\nHuman: Who?\n\nAssistant: Go away."},
    {"prompt": "\n\nHuman: Who?\n\nAssistant:", "chosen": "Anna.", "rejected": "Go away."},
    {"conversations": [{"from": "human", "value": "Who?"}], "chosen": {"from": "gpt", "value": "Anna."},
     "rejected": {"from": "gpt", "value": "Go away."}},
    {"instruction": "Who?", "input": "", "chosen": "Anna.", "rejected": "Go away."},
    {"question": "Who?", "chosen": "Anna.", "rejected": "Go away."},
])  # fmt: skip
def test_shapes(record):
    """Strings, messages, whole conversations, hh-rlhf's spelling, and the keys of other data sets."""
    assert is_comparison(record)
    assert comparison_of(record) == WANTED


def test_the_rest_of_a_record():
    """A margin and tools are kept; conversations share all that was said before the answers."""
    record = {"chosen": [RULES, ASK, GOOD, ASK, GOOD], "rejected": [RULES, ASK, GOOD, ASK, BAD], "margin": 2}
    found = comparison_of(record | {"tools": '[{"name": "add"}]'})
    assert found == Comparison([RULES, ASK, GOOD, ASK], GOOD, BAD, [{"name": "add"}], 2.0)
    assert found.text == "Be kind.\nWho?\nAnna.\nWho?"


@pytest.mark.parametrize(("record", "reason", "words"), [
    ({"prompt": "Who?", "chosen": "a"}, "malformed", "the keys are prompt, chosen; wanted"),
    ({"prompt": "Who?", "chosen": "a", "rejected": "a"}, "identical", "the same answer"),
    ({"chosen": [ASK, GOOD], "rejected": [ASK, GOOD]}, "identical", "the same answer"),
    ({"prompt": "Who?", "chosen": "a", "rejected": " \n"}, "empty", '"rejected" is empty'),
    ({"prompt": "Who?", "chosen": [], "rejected": "a"}, "empty", '"chosen" has no message'),
    ({"chosen": "a", "rejected": "b"}, "malformed", "do not begin alike"),
    ({"chosen": [ASK, GOOD, ASK, GOOD], "rejected": [ASK, BAD]}, "malformed", "assistant, user, assistant; wanted one"),
    ({"prompt": [ASK, GOOD], "chosen": "a", "rejected": "b"}, "malformed", "the prompt ends with an answer"),
    ({"prompt": "Who?", "chosen": [ASK], "rejected": "b"}, "malformed", '"chosen" holds user; wanted one answer'),
    ({"prompt": "Who?", "chosen": "a", "rejected": "b", "margin": -1}, "malformed", "the margin is -1"),
    ({"prompt": "Who?", "chosen": "a", "rejected": "b", "margin": "1"}, "malformed", "the margin is '1'"),
])  # fmt: skip
def test_what_is_no_pair_is_told_by_its_reason(record, reason, words):
    """Each kind of bad record has a word of its own, and a sentence."""
    with pytest.raises(Fault, match=words) as caught:
        comparison_of(record)
    assert caught.value.reason == reason


@pytest.mark.parametrize(("record", "words"), [
    ({"prompt": 3, "chosen": "a", "rejected": "b"}, '"prompt" is int'),
    ({"prompt": [ASK], "chosen": [{"role": "teacher", "content": "a"}], "rejected": "b"}, 'role in "chosen"'),
    ({"prompt": "Who?", "chosen": "a", "rejected": None}, '"rejected" is null'),
])  # fmt: skip
def test_what_cannot_be_read_is_told_by_its_key(record, words):
    """A value of another kind is named with the key that it stood under."""
    with pytest.raises(InputError, match=words):
        comparison_of(record)


def test_a_call_is_an_answer():
    """An answer that only calls a tool is not empty."""
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add"}}]}
    assert comparison_of({"prompt": "Who?", "chosen": [call], "rejected": "b"}).chosen["tool_calls"]


def test_a_prompt_gives_up_whole_turns_from_the_front():
    """What a system says stays, a turn goes with all that followed it, and the last question is never given up."""
    tool = {"role": "tool", "content": "3"}
    later = {"role": "user", "content": "And now?"}
    comparison = Comparison([RULES, ASK, GOOD, tool, GOOD, ASK, BAD, later], GOOD, BAD)
    assert [shorter.prompt for shorter in comparison.shortened()] == [[RULES, ASK, BAD, later], [RULES, later]]
    assert list(WANTED.shortened()) == []
