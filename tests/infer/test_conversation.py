"""History as plain messages: what is kept of an answer, whole or interrupted."""

from contextlib import closing

import pytest

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.infer.conversation import Conversation

GREEDY = SamplingOptions(strategy="greedy", max_new_tokens=40)


@pytest.fixture
def talk(tokenizer, script):
    """talk(answer, system, ...) -> a conversation in which the model's first answer is this one."""

    def make(answer, system="", options=GREEDY, **changes):
        asked = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": "Hello"}]
        ids = tokenizer.chat(asked, add_generation_prompt=True).ids
        return Conversation(script(answer, ids, **changes), tokenizer, options, system=system)

    return make


def said(role, content):
    return {"role": role, "content": content}


def test_an_answer_joins_the_history(talk):
    """Pieces joined are the answer; both messages are remembered, and the next prompt holds them."""
    conversation = talk("Tom had a 球.", system="Be kind.")
    assert "".join(conversation.answer("Hello")) == "Tom had a 球."
    assert conversation.messages == [
        said("system", "Be kind."), said("user", "Hello"), said("assistant", "Tom had a 球."),
    ]  # fmt: skip
    conversation.reset()
    assert conversation.messages == [said("system", "Be kind.")]


def test_an_interrupted_answer_is_kept_as_far_as_it_came(talk):
    """Closing the iterator stops the model at once and keeps what was shown."""
    conversation = talk("Tom had a ball.")
    with closing(conversation.answer("Hello")) as pieces:
        shown = next(pieces) + next(pieces)
    passes = conversation.model.passes
    assert conversation.messages == [said("user", "Hello"), said("assistant", shown)]
    assert passes <= 4


def test_a_message_stopped_before_any_answer_is_forgotten(talk):
    """Nothing was said, so nothing is remembered."""
    conversation = talk("Tom")
    conversation.answer("Hello").close()

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    conversation.model.hidden = interrupt
    with pytest.raises(KeyboardInterrupt):
        list(conversation.answer("Hello"))
    assert conversation.messages == []


def test_an_empty_answer_is_an_answer(talk):
    """A model that ends at once has answered with nothing; the question stays in the history."""
    conversation = talk("")
    assert list(conversation.answer("Hello")) == []
    assert conversation.messages == [said("user", "Hello"), said("assistant", "")]


def test_an_answer_takes_no_more_than_the_room_that_is_left(talk, tokenizer):
    """Near the end of the context the answer is cut; behind it the message is refused with a way out, and forgotten."""
    used = len(tokenizer.chat([said("user", "Hello")], add_generation_prompt=True).ids)
    conversation = talk("Tom had a red ball." * 3, max_positions=used + 4)
    assert len(tokenizer.encode("".join(conversation.answer("Hello")))) == 5
    before = list(conversation.messages)
    with pytest.raises(InputError, match=r"the conversation has \d+ tokens and the model reads \d+; say /reset"):
        list(conversation.answer("And then?"))
    assert conversation.messages == before


def test_turns_draw_anew_and_a_conversation_can_be_repeated(tokenizer, make_model):
    """Same seed, same conversation; another seed, another; the second turn does not draw like the first."""
    model = make_model(vocab_size=tokenizer.vocab_size, max_positions=400)
    options = SamplingOptions(max_new_tokens=12)

    def hold(seed):
        conversation = Conversation(model, tokenizer, options, seed=seed)
        return ["".join(conversation.answer(text)) for text in ("Hello", "Hello")]

    assert hold(1) == hold(1)
    assert hold(1)[0] != hold(2)[0]


def test_the_next_turn_reads_only_what_is_new(talk):
    """The keys of the conversation so far are known: of the second prompt only the last block and what follows is read,
    and the answer is that of an engine that has seen nothing."""
    conversation = talk("Tom had a ball, and Anna had a red kite. " * 2)
    "".join(conversation.answer("Hello"))
    engine = conversation.speaker.engine
    asked = []
    real = engine.submit
    engine.submit = lambda *args, **more: asked.append(real(*args, **more)) or asked[-1]
    second = "".join(conversation.answer("And then?"))
    (request,) = asked
    assert conversation.speaker.engine is engine
    assert request.cached >= 16 * ((len(request.prompt) - 40) // 16) > 0
    fresh = Conversation(conversation.model, conversation.tokenizer, GREEDY)
    fresh.messages = conversation.messages[:2]
    assert "".join(fresh.answer("And then?")) == second


def test_a_conversation_that_outgrows_its_room(talk, monkeypatch):
    """It goes on in a larger one."""
    monkeypatch.setattr("instar.infer.conversation.ROOM", 64)
    conversation = talk("Tom had a ball.")
    for _ in range(3):
        "".join(conversation.answer("Hello, and what did Tom have, and who gave it to him?"))
    assert conversation.speaker.engine.capacity >= 128
