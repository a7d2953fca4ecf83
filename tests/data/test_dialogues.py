"""Dialogues become tokens of which the replies teach; what does not fit is cut, counted, reported."""

import pytest

from instar.batch import IGNORE
from instar.config import InputError
from instar.data.collate import Collate
from instar.data.dialogues import load_dialogues
from instar.data.packing import best_fit

END = 259
TALK = {"turns": ["Who?", "Anna.", "Where?", "Home."]}  # 6 + 7 + 8 + 7 = 28 tokens


def load(documents, tokenizer, context=64, **options):
    return load_dialogues(documents, tokenizer, context=context, **options)


def live(store, context=64):
    """What the targets of all rows spell, END as |."""
    rows = best_fit(store.lengths, context)
    targets = Collate(store, context)(list(rows)).targets
    return "".join("|" if token == END else chr(token) for token in targets[targets != IGNORE].tolist())


def test_replies_and_their_ends_teach(document, tokenizer):
    """Of a dialogue of two turns exactly the replies and the ends of replies are targets."""
    store, counts = load([document(TALK)], tokenizer)
    assert live(store) == "Anna.|Home.|"
    assert (counts["dialogues"], counts["kept"], counts["replies"], counts["truncated"]) == (1, 1, 2, 0)
    assert (counts["tokens"], counts["teaching"], counts["bytes"]) == (28, 12, 10)


def test_all_tokens_teach_when_asked(document, tokenizer):
    """teach=all leaves out only the first token, which nothing predicts."""
    store, counts = load([document(TALK)], tokenizer, teach="all")
    assert counts["teaching"] == 27
    assert store.teaches(0, 0, 3).tolist() == [False, True, True]
    with pytest.raises(InputError, match="unknown value for teach: assistent; did you mean assistant"):
        load([document(TALK)], tokenizer, teach="assistent")


@pytest.mark.parametrize(("context", "taught", "cut"), [(28, "Anna.|Home.|", 0), (27, "Anna.|", 1), (13, "Anna.|", 1)])
def test_a_long_dialogue_ends_with_the_last_reply_that_fits(document, tokenizer, context, taught, cut):
    """Every reply that is kept is learnt to its end, and the cut is counted."""
    store, counts = load([document(TALK)], tokenizer, context)
    assert live(store) == taught
    assert (counts["truncated"], counts["replies_cut"], counts["too_long"]) == (cut, cut, 0)


def test_what_cannot_be_kept_is_counted(document, tokenizer):
    """Too long before the first reply ends, and never answered: left out, each under its own name."""
    talks = [TALK, {"turns": ["x" * 90, "y"]}, {"turns": ["Hello?"]}, {"prompt": "a", "completion": "b"}]
    store, counts = load([document(talk) for talk in talks], tokenizer)
    assert len(store) == 2
    assert (counts["dialogues"], counts["kept"], counts["too_long"], counts["unanswered"]) == (4, 2, 1, 1)


def test_tools_are_shown_to_the_template(document, tokenizer):
    """Dialogues with tools keep their place among those without."""
    talks = [TALK, TALK | {"tools": '[{"name": "add"}]'}, TALK]
    store, counts = load([document(talk) for talk in talks], tokenizer)
    assert store.lengths.tolist() == [28, 28 + 9, 28]
    assert counts["kept"] == 3


def test_a_record_the_template_refuses_is_named(document, tokenizer, monkeypatch):
    """Foreign templates refuse some dialogues; which one is said, also out of many."""

    def chat(self, messages, tools=None):
        raise InputError("roles must alternate")

    monkeypatch.setattr(type(tokenizer), "chat", chat)
    with pytest.raises(InputError, match="here, record 7: roles must alternate"):
        load([document(TALK, 7)], tokenizer)


def test_a_document_is_no_dialogue(document, tokenizer):
    """SFT on plain texts says what it found and where."""
    with pytest.raises(InputError, match="here, record 1: a record with the keys text; wanted one of"):
        load([document("A story.")], tokenizer)


def test_the_same_dialogue_is_held_out_as_a_record_and_as_tokens(document, tokenizer):
    """The hash is of what was said, whatever the shape of the record."""
    from instar.data.corpus import is_held_out

    talks = [document({"turns": [f"question {n}", f"answer {n}"]}) for n in range(200)]
    store, _ = load(talks, tokenizer)
    assert len(store.split(0.2)[1]) == sum(is_held_out(talk, 0.2) for talk in talks)
