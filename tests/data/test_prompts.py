"""Prompts for reinforcement learning: spelt as serving spells them, records kept whole, bad ones counted."""

import pytest

from instar.config import InputError
from instar.data.prompts import asked_of, load_prompts
from instar.data.sources import Document
from instar.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(talker):
    return Tokenizer.load(talker / "model")


def documents(*records):
    return [Document(record, "some.jsonl", number) for number, record in enumerate(records, 1)]


def test_they_are_spelt_as_chat_is_served(tokenizer):
    """A text, messages, and a dialogue without its last answer are one prompt, up to where an answer begins; the record
    stays whole."""
    said = [{"role": "user", "content": "Who?"}]
    records = [
        {"prompt": "Who?", "answer": "Ada", "more": [1]}, {"prompt": said},
        {"messages": [*said, {"role": "assistant", "content": "Ada"}]},
    ]  # fmt: skip
    prompts, counts = load_prompts(documents(*records), tokenizer, longest=64)
    wanted = tokenizer.chat(said, add_generation_prompt=True).ids
    assert [prompt.ids for prompt in prompts] == [wanted] * 3
    assert [prompt.record for prompt in prompts] == records
    assert counts == {"prompts": 3, "kept": 3, "too_long": 0, "tokens": 3 * len(wanted)}


def test_tools_are_told(tokenizer):
    """A record with tools is rendered with them, by itself."""
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    prompts, _ = load_prompts(documents({"prompt": "Who?", "tools": tools}, {"prompt": "Who?"}), tokenizer, longest=400)
    wanted = tokenizer.chat([{"role": "user", "content": "Who?"}], add_generation_prompt=True, tools=tools).ids
    assert prompts[0].ids == wanted
    assert prompts[0].tools == tools


def test_without_a_chat_template_a_prompt_is_its_text(tokenizer, monkeypatch):
    """A base model continues it."""
    monkeypatch.setattr(tokenizer, "template", None)
    prompts, _ = load_prompts(documents({"prompt": "Who?"}), tokenizer, longest=64)
    assert prompts[0].ids == tokenizer.prompt("Who?")


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"prompt": "  "}, "empty"), ({"prompt": 3}, "list of messages"), ({"text": "a"}, "keys text"),
        ({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "ends with an answer"),
    ],
)  # fmt: skip
def test_what_is_no_prompt(record, why):
    """Each is named."""
    with pytest.raises(InputError, match=why):
        asked_of(record)


def test_one_bad_record_is_left_out_and_many_are_an_error(tokenizer):
    """Counted by reason and told; above the share an error that names the first."""
    good = [{"prompt": f"Who is {n}?"} for n in range(30)]
    told = []
    prompts, counts = load_prompts(
        documents(*good, {"prompt": ""}), tokenizer, longest=64, bad_records=0.05, say=told.append
    )
    assert (len(prompts), counts["empty"]) == (30, 1)
    assert "record 31" in told[0]
    with pytest.raises(InputError, match=r"3 of 33 records.*record 31"):
        load_prompts(documents(*good, *[{"prompt": ""}] * 3), tokenizer, longest=64)


def test_what_leaves_no_room_for_an_answer(tokenizer):
    """It is left out and counted; where nothing is left, an error says what to do."""
    records = [{"prompt": "Who?"}, {"prompt": "Who? " * 50}]
    prompts, counts = load_prompts(documents(*records), tokenizer, longest=30)
    assert (len(prompts), counts["too_long"]) == (1, 1)
    with pytest.raises(InputError, match=r"2 are longer than the 3 tokens .* train\.context"):
        load_prompts(documents(*records), tokenizer, longest=3)


def test_the_same_texts_are_held_out(tokenizer):
    """By the hash of what is asked, whatever else the record holds."""
    records = [{"prompt": f"Who is {n}?"} for n in range(60)]
    prompts, _ = load_prompts(documents(*records), tokenizer, longest=64)
    more, _ = load_prompts(documents(*[{**record, "x": 1} for record in records[::-1]]), tokenizer, longest=64)
    learnt, held = prompts.split(0.3)
    assert 5 < len(held) < 35
    assert len(learnt) + len(held) == 60
    assert {p.key for p in held} == {p.key for p in more.split(0.3)[1]}
