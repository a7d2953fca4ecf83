"""Exact match of greedy answers, counted by language and kind, with the guesses beside it."""

import pytest

from instar.config import InputError
from instar.data.corpus import read
from instar.data.world import CONTROLS
from instar.eval import exact
from instar.eval.exact import Asked, ask, controls, tally
from instar.infer.answer import Completion


def record(question, answer, **groups):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], **groups}


@pytest.fixture
def answering(monkeypatch):
    """Let the model answer so, in order; a pair also tells how the answer ended. Returns what is asked."""
    heard = []

    def make(*answers):
        said = iter(answers)

        def complete(model, tokenizer, prompts, options, **_):
            assert options.strategy == "greedy"
            heard.extend(prompts)
            pairs = [(text, "stop") if isinstance(text, str) else text for text in (next(said) for _ in prompts)]
            return [Completion(text, [], [], finish) for text, finish in pairs]

        monkeypatch.setattr(exact, "complete", complete)
        return heard

    return make


def test_only_blanks_round_an_answer_are_forgiven(answering):
    """Right means equal: not the case, not the full stop, not a word more."""
    answering(" Anna.\n", "anna.", "Anna", "Anna. Yes", "Anna.")
    asked = ask(None, None, [record("Who?", "Anna.")] * 5)
    assert [one.right for one in asked] == [True, False, False, False, True]


def test_the_last_answer_is_what_is_asked_for(answering):
    """Everything before it is the prompt; a record of prompt and answer is the same, by text or by messages."""
    heard = answering("b", "b", "b")
    long = {
        "messages": [
            {"role": "user", "content": "1"},
            {"role": "assistant", "content": "a"},
            *record("2", "b")["messages"],
        ]
    }
    asked = ask(None, None, [long, {"prompt": "2", "answer": "b"}, {"prompt": long["messages"][:3], "answer": "b"}])
    user = {"role": "user", "content": "2"}
    assert heard == [long["messages"][:3], [user], long["messages"][:3]]
    assert all(one.right for one in asked)


def test_tally_by_group(answering):
    """Questions, share right and share that ended by itself: for each value of a group, and for all."""
    answering("a", ("x", "length"), "a", ("a", "length"))
    records = [record("?", "a", lang=lang, kind=kind) for lang in ("en", "zh") for kind in ("who", "where")]
    asked = ask(None, None, records)
    assert tally(asked, "lang") == {
        "all": {"questions": 4, "exact": 0.75, "ended": 0.5},
        "en": {"questions": 2, "exact": 0.5, "ended": 0.5},
        "zh": {"questions": 2, "exact": 1.0, "ended": 0.5},
    }
    assert tally(asked, "kind")["where"] == {"questions": 2, "exact": 0.5, "ended": 0.0}
    assert set(tally(asked, "nothing")) == {"all"}
    assert tally([], "lang") == {}


def test_records_that_hold_no_answer(answering):
    """The error names the record and what it has."""
    answering()
    with pytest.raises(InputError, match="record 2 has text; wanted messages that end with the answer"):
        ask(None, None, [record("?", "a"), {"text": "a"}])
    with pytest.raises(InputError, match="record 1 has messages"):
        ask(None, None, [{"messages": [{"role": "user", "content": "?"}]}])


def test_asking_a_real_model(tokenizer, model):
    """The answers are the model's own greedy ones, whatever the batch, and progress adds up."""
    records = [record("Who had a ball" + "?" * n, "Anna.") for n in range(11)]
    done = []
    one = ask(model, tokenizer, records, batch=1, max_new_tokens=6, each=done.append)
    many = ask(model, tokenizer, records, batch=4, max_new_tokens=6)
    assert [x.answer for x in one] == [x.answer for x in many]
    assert len({x.answer for x in one}) > 1
    assert sum(done) == 11


def test_guesses_stand_beside_the_score(answering):
    """Each control answers the same questions and is counted like the model; the model itself is asked without the
    story, and the guesses may learn only from what was taught."""
    records = [document.record for document in read(["world:dialogues?split=test&kinds=main&count=40&seed=3"])]
    taught = [document.record for document in read(["world:dialogues?count=80"])]
    heard = answering(*[r["answer"] for r in records])
    guessed = controls(None, None, records, taught)
    assert set(guessed) == {*CONTROLS, "model without story"}
    assert [prompt[-1]["content"] for prompt in heard] == [r["question"] for r in records]
    assert all(story not in prompt[-1]["content"] for prompt, story in zip(heard, (r["story"] for r in records)))
    for asked in guessed.values():
        assert [one.wanted for one in asked] == [r["answer"] for r in records]
        assert [one.groups["lang"] for one in asked] == [r["lang"] for r in records]
    assert tally(guessed["model without story"], "")["all"]["exact"] == 1.0
    assert all(one.answer in r["candidates"] for one, r in zip(guessed["random candidate"], records))
    assert 0 < tally(guessed["random candidate"], "")["all"]["exact"] < 0.8


def test_no_guess_without_candidates(answering):
    """Plain dialogues have no story to remove: the error says what is wanted."""
    answering()
    with pytest.raises(InputError, match="record 1 lacks candidates, mentions, question, story; wanted tests of world"):
        controls(None, None, [record("?", "a")])


def test_wrong_answers_can_be_shown():
    """An Asked carries the prompt, what was wanted and what was said."""
    one = Asked([{"role": "user", "content": "Who?"}], "Anna.", "Tom.", True, {"lang": "en"})
    assert (one.right, one.prompt[-1]["content"], one.wanted, one.answer) == (False, "Who?", "Anna.", "Tom.")
