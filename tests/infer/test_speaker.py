"""A model that speaks: one engine from question to question, and what answers are computed with."""

import json

import pytest

from instar.config import InputError
from instar.config.options import EngineOptions, SamplingOptions
from instar.infer.engine import Engine
from instar.infer.speaker import Speaker
from instar.infer.text import engine_options, generate, stream

GREEDY = SamplingOptions(strategy="greedy", max_new_tokens=12)


def test_an_engine_stays(tokenizer, make_model):
    """The same engine answers again where it has room, and a prompt that it has read is known."""
    model = make_model(vocab_size=tokenizer.vocab_size, max_positions=128)
    speaker = Speaker(model, tokenizer, reserve=100)
    text = "Anna had a red ball. " * 4
    first = speaker.complete([text], GREEDY)
    engine = speaker.engine
    assert speaker.complete([text], GREEDY) == first
    assert speaker.engine is engine
    speaker.complete([text, text], GREEDY)  # more rows than it had
    assert speaker.engine is not engine
    engine.pages.check()


def test_each_prompt_may_draw_with_a_seed_of_its_own(tokenizer, make_model):
    """One prompt asked with many seeds is answered as by each seed alone, and one seed draws the same everywhere; any
    other number of seeds is an error."""
    model = make_model(vocab_size=tokenizer.vocab_size, max_positions=128)
    speaker = Speaker(model, tokenizer, reserve=100)
    drawn = SamplingOptions(max_new_tokens=12)
    alone = [speaker.complete(["Anna had"], drawn, seed=seed)[0].text for seed in (5, 9, 2)]
    assert [one.text for one in speaker.complete(["Anna had"] * 3, drawn, seed=[5, 9, 2])] == alone
    assert len(set(alone)) == 3
    assert [one.text for one in speaker.complete(["Anna had"] * 3, drawn, seed=9)] == [alone[1]] * 3
    with pytest.raises(InputError, match="found 2 seeds for 3 prompts"):
        speaker.complete(["Anna"] * 3, drawn, seed=[1, 2])


def test_answers_that_overlap(tokenizer, make_model):
    """Two streams that take turns, and a question in the middle of one: each gets all of its own answer."""
    model = make_model(vocab_size=tokenizer.vocab_size, max_positions=128)
    texts = ["Anna had a red ball.", "Tom", "从前，花园里"]
    wanted = generate(model, tokenizer, texts, max_new_tokens=12)
    speaker = Speaker(model, tokenizer, EngineOptions(slots=1), reserve=100)
    first, second = (speaker.stream(text, GREEDY) for text in texts[:2])
    said = [next(first), next(second), next(first)]
    assert speaker.complete([texts[2]], GREEDY)[0].text == wanted[2]
    rest = ["".join(first), "".join(second)]
    assert [said[0] + said[2] + rest[0], said[1] + rest[1]] == wanted[:2]
    assert not speaker._answers


def test_what_fails_half_way_leaves_nothing_behind(tokenizer, make_model, monkeypatch):
    """A prompt that is refused takes those beside it along, and so does Ctrl-C; the next question is answered alone."""
    model = make_model(vocab_size=tokenizer.vocab_size, max_positions=128)
    speaker = Speaker(model, tokenizer, reserve=100)
    wanted = speaker.complete(["Anna"], GREEDY)
    for trouble in (InputError, KeyboardInterrupt):
        submit, calls = Engine.submit, []

        def second_fails(*given, trouble=trouble, submit=submit, calls=calls, **more):
            calls.append(given)
            if len(calls) == 2:
                raise trouble("no")
            return submit(*given, **more)

        monkeypatch.setattr(Engine, "submit", second_fails)
        with pytest.raises(trouble):
            speaker.complete(["Tom", "Anna"], GREEDY)
        monkeypatch.setattr(Engine, "submit", submit)
        assert not speaker.engine.busy
        assert not speaker._answers
        assert speaker.complete(["Anna"], GREEDY) == wanted


def test_what_answers_are_computed_with_changes_none(tokenizer, make_model):
    """In small chunks, in little memory, bit for bit, guessed ahead, two at a time: the same answers."""
    model = make_model(vocab_size=tokenizer.vocab_size, max_positions=128)
    texts = ["Anna had a red ball. Tom had", "Tom", "从前，花园里有一只", "Anna had a red ball. Anna"]
    wanted = generate(model, tokenizer, texts, max_new_tokens=20)
    for how in ({"chunk": 7}, {"kv_budget": 1}, {"deterministic": True}, {"speculate": "ngram"}, {"slots": 2}):
        assert generate(model, tokenizer, texts, max_new_tokens=20, **how) == wanted
        assert "".join(stream(model, tokenizer, texts[0], max_new_tokens=20, **how)) == wanted[0]


def test_what_is_wrong_with_it(tokenizer, make_model):
    """Figures out of range, and two that exclude each other, are refused before any work."""
    model = make_model(vocab_size=tokenizer.vocab_size)
    for how, words in (
        ({"slots": 0}, "engine.slots=0, wanted a whole number from 1"),
        ({"chunk": 0}, "engine.chunk=0"),
        ({"kv_budget": -1}, "engine.kv_budget=-1"),
        ({"deterministic": True, "compile": True}, "leave one out"),
    ):
        with pytest.raises(InputError, match=words):
            generate(model, tokenizer, "Anna", **how)
    with pytest.raises(InputError, match="chnk"):
        generate(model, tokenizer, "Anna", chnk=3)
    rules = {"chunk": 3, "top_k": 2}
    assert engine_options(rules) == EngineOptions(chunk=3)
    assert rules == {"top_k": 2}


def test_answers_under_a_constraint(tokenizer, make_model):
    """One keyword: what comes back is JSON of the schema, one of the choices, or matches; each of n for itself."""
    pytest.importorskip("llguidance")
    model = make_model(vocab_size=tokenizer.vocab_size, max_positions=128)
    schema = {"type": "object", "properties": {"ball": {"enum": ["red", "蓝"]}}, "required": ["ball"]}
    schema["additionalProperties"] = False
    answers = generate(model, tokenizer, "Anna", json_schema=schema, temperature=1.0, n=6, max_new_tokens=60)
    assert all(json.loads(answer)["ball"] in ("red", "蓝") for answer in answers)
    assert generate(model, tokenizer, ["Anna", "Tom"], choice=["kite", "球"], max_new_tokens=30) in (
        [[one, other] for one in ("kite", "球") for other in ("kite", "球")]
    )
    assert "".join(stream(model, tokenizer, "Anna", regex="[ab]{3}", max_new_tokens=9)) in generate(
        model, tokenizer, "Anna", regex="[ab]{3}", max_new_tokens=9
    )
    with pytest.raises(InputError, match="regex is text and needs a tokenizer"):
        generate(model, None, [[1, 2]], regex="a")
    with pytest.raises(InputError, match="at most one"):
        generate(model, tokenizer, "Anna", regex="a", choice="b")
