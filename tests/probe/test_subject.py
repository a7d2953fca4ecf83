"""Texts as a model reads them: each token with its characters, also where bytes are no text, and none too many."""

from itertools import pairwise

import pytest

from instar.config import InputError
from instar.probe import subject as module
from instar.probe.subject import read, read_ids


def test_each_token_has_its_characters(subject_of, splitting, monkeypatch):
    """Tokens: of what a model says, found by the bytes before it; bytes that are no text stand for their U+FFFD."""
    whole = splitting.encode("王 had 球")
    (first, *rest) = splitting.encode("🙂")
    said = [*whole, first, *splitting.encode("Tom")]  # a character that breaks off
    assert rest, "the character is one token and cannot break off"
    monkeypatch.setattr(module, "_answer", lambda *_: said)
    model = subject_of("encoder-decoder").model
    found = read(model, splitting, "Anna")
    assert found.text == splitting.decode(said)
    assert "\ufffd" in found.text
    tokens = [token for token in found.tokens if not token.control]
    for token in tokens:
        covered = found.text[token.start : token.end]
        assert covered
        assert token.raw.decode(errors="replace").strip("\ufffd") in covered
    assert found.text[tokens[len(whole)].start : tokens[len(whole)].end] == "\ufffd"
    assert found.text[tokens[-1].start : tokens[-1].end].endswith(tokens[-1].piece)
    assert tokens[-1].end == len(found.text)


def test_where_characters_begin():
    """Each slice of the bytes says its character alone, of text and of what is none."""
    for raw in ("a球🙂".encode(), b"\xe7\x90a\xff\xed\xa0\xc3\x80\xf0\x9f\x98", b""):
        starts, text = module._starts(raw), raw.decode(errors="replace")
        slices = [raw[start:end].decode(errors="replace") for start, end in pairwise(starts)]
        assert slices == list(text)


@pytest.mark.parametrize(
    ("shape", "more"), [("decoder", {}), ("encoder", {}), ("encoder-decoder", {"target": "a " * 99})]
)
def test_too_much_is_refused_before_it_is_placed(subject_of, splitting, monkeypatch, shape, more):
    """A text that is too long costs nothing but its ids."""
    model = subject_of(shape).model
    monkeypatch.setattr(module, "_name", lambda tokenizer, id: "")
    monkeypatch.setattr(module, "_token", lambda *_: pytest.fail("tokens of a text that is too long"))
    if more:
        monkeypatch.setattr(module, "_document", lambda *_: ())
    with pytest.raises(InputError, match="at most 64 can be looked at"):
        read(model, splitting, "a" if more else "a " * 99, **more)
    with pytest.raises(InputError, match="is empty"):
        read_ids(model, [])
