"""The view of tokens."""

from dataclasses import replace

import pytest

from instar.config.options.inspecting import InspectOptions
from instar.probe.look import Look
from instar.probe.panel import Strip, Table
from instar.probe.views.tokens import parts_of, tokens

TEXT = "Anna had a 球 \N{FAMILY}.\n"


@pytest.mark.parametrize("shape", ["decoder", "encoder", "encoder-decoder"])
def test_byte_true(subject_of, shape):
    """Tokens: joined bytes = input; no U+FFFD; a character that is split is shown once, whole."""
    subject = subject_of(shape, TEXT)
    panel = tokens(Look(subject, InspectOptions()))
    assert [check.name for check in panel.checks] == ["bytes", "characters"]
    assert panel.green, panel.checks
    read = panel.data["source" if shape == "encoder-decoder" else "tokens"]
    assert bytes.fromhex("".join(token["bytes"] for token in read)).decode() == TEXT
    whole = next(f for f in panel.figures if isinstance(f, Strip) and "Whole" in f.title.en)
    assert "\N{FAMILY}" in whole.tokens
    assert max(whole.values) >= 2


def test_parts_of_characters(subject_of):
    """Each token of a split character says which part it is; the others are whole."""
    subject = subject_of(text="a\N{FAMILY}b")
    parts = [part for token, part in zip(subject.tokens, parts_of(subject.tokens)) if not token.control]
    split = len(parts) - 2
    assert split > 1
    assert parts == [(1, 1), *((n + 1, split) for n in range(split)), (1, 1)]


def test_merges_end_in_the_tokens(subject_of):
    """The last step of every word is its tokens, and the table shows the word that was asked about."""
    subject = subject_of()
    panel = tokens(Look(subject, InspectOptions(at=1)))
    assert panel.data["words"]
    for word in panel.data["words"]:
        if word["merges"]:
            assert word["merges"][-1]["pieces"] == [subject.tokens[place].piece for place in word["places"]]
    table = [figure for figure in panel.figures if isinstance(figure, Table)][-1]
    assert "Anna" in table.title.en
    assert table.rows[-1][-1].startswith("Anna")


def test_chat_and_ids(subject_of, talker):
    """A rendered message is shown with its control tokens; without a tokenizer there are ids."""
    from instar import load
    from instar.probe.subject import read

    model, tokenizer = load(talker / "model")
    panel = tokens(Look(read(model, tokenizer, "Who likes Ada?", chat=True), InspectOptions()))
    assert panel.green
    assert any(token["control"] for token in panel.data["tokens"])
    panel = tokens(Look(subject_of(ids=[3], vocab_size=9), InspectOptions()))
    assert panel.data["tokens"][0]["id"] == 3
    assert not panel.checks
    assert "No tokenizer" in panel.notes[0].en


def test_lost_bytes_are_red(subject_of):
    """A token whose bytes are not those of the text is seen; so is a piece that lost its character."""
    subject = subject_of(text="Anna 球")
    first = next(n for n, token in enumerate(subject.tokens) if token.raw)
    wrong = list(subject.tokens)
    wrong[first] = wrong[first]._replace(raw=b"x" + wrong[first].raw[1:], piece="\N{REPLACEMENT CHARACTER}")
    panel = tokens(Look(replace(subject, tokens=tuple(wrong)), InspectOptions()))
    assert [check.gap for check in panel.checks] == [1.0, 1.0]
    assert not panel.green


def test_a_tokenizer_that_loses_letters(shared):
    """TinyStories knows no Chinese: that is said, and bytes are not called equal; of a text that it can spell they
    are."""
    from instar import load
    from instar.probe.subject import read

    model, tokenizer = load(shared / "weights" / "TinyStories-656K")
    lost = tokens(Look(read(model, tokenizer, "A ball 球"), InspectOptions()))
    assert "bytes" not in {check.name for check in lost.checks}
    assert any("not give this text back" in note.en for note in lost.notes)
    kept = tokens(Look(read(model, tokenizer, "Once upon a time"), InspectOptions()))
    assert kept.green
    assert "bytes" in {check.name for check in kept.checks}
