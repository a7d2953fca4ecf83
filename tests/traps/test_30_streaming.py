"""Trap 30: a stream that is not the text. ggml-org/llama.cpp#9867 (the last character was lost, only when streaming),
#10720 (a stop string that is split over tokens was shown before it was known).

Oracles: joined pieces are the text that is not streamed; with stops, they are the text without stops, cut where the
first of them begins; and at no moment has anything been shown that the final text does not begin with.
"""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from instar.config import ModelConfig
from instar.config.options import SamplingOptions
from instar.infer.text import complete, generate, stream
from instar.model.transformer import Transformer
from instar.text.stops import Stops
from instar.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    """Bytes and a few merges: every Chinese character and every emoji is several tokens."""
    return Tokenizer.train(["the cat sat on the mat. " * 8], 320)


class Recited(Transformer):
    """After one token of prompt it says what it is told, then the end."""

    def __init__(self, ids, tokenizer):
        shape = dict(d_model=2, layers=1, heads=1, max_positions=256)
        super().__init__(ModelConfig(vocab_size=tokenizer.vocab_size, **shape))
        self.said = torch.tensor([*ids, tokenizer.eos])
        self.heads["lm"] = torch.nn.Identity()
        self.passes = 0

    def hidden(self, tokens, *, cache=None, **rest):
        self.passes += 1
        places = cache.positions(tokens.shape[1])
        cache.extend(tokens.shape[1])
        return 30 * torch.nn.functional.one_hot(self.said[places], self.config.vocab_size).float()


TEXTS = ["the cat sat on the mat. 王明有一个红色的球。", "👩‍👩‍👧 नमस्ते é 🇨🇳", "a\n\nb", "x", ""]


@pytest.mark.parametrize("text", TEXTS)
def test_joined_pieces_are_the_text(tokenizer, text):
    """Nothing is lost at the end, and no piece holds half a character."""
    ids = tokenizer.encode(text)
    model = Recited(ids, tokenizer)
    pieces = list(stream(model, tokenizer, [0]))
    assert "".join(pieces) == text == generate(model, tokenizer, [[0]])[0]
    assert all(pieces)
    assert "�" not in "".join(pieces)
    assert len(pieces) > 1 or len(ids) < 2


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_a_character_that_is_cut_off_is_marked_once(tokenizer, cut):
    """Where the length ends inside a character, the rest of it is one U+FFFD, in the stream and in the text."""
    ids = tokenizer.encode("球👩")
    model = Recited(ids, tokenizer)
    text = generate(model, tokenizer, [[0]], max_new_tokens=cut)[0]
    assert text == tokenizer.decode(ids[:cut], continues=True)
    assert "".join(stream(model, tokenizer, [0], max_new_tokens=cut)) == text
    assert text.count("�") == (cut % 3 > 0)


@settings(max_examples=60, deadline=None)
@given(ids=st.lists(st.integers(0, 255), max_size=24))
def test_any_bytes_are_streamed_as_they_are_decoded(tokenizer, ids):
    """Random bytes, most of them no UTF-8: the pieces joined are the decoding of all of them."""
    model = Recited(ids, tokenizer)
    wanted = tokenizer.decode(ids, continues=True)
    assert "".join(stream(model, tokenizer, [0])) == wanted == generate(model, tokenizer, [[0]])[0]


def cut_at(text, stops):
    """The text up to where the first stop begins."""
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]


@settings(max_examples=400, deadline=None)
@given(
    chunks=st.lists(st.text("ab", max_size=4), max_size=8),
    stops=st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
)
@example(chunks=["ab", "a"], stops=["b", "aba"])  # the longer began earlier, and comes true
@example(chunks=["ab", "b"], stops=["b", "aba"])  # or does not
@example(chunks=["ab"], stops=["b", "aba"])
def test_stops_cut_where_the_first_begins(chunks, stops):
    """Overlapping stops, split in any way: cut at the oracle's place, and nothing behind it was ever shown."""
    watch = Stops(stops)
    wanted = cut_at("".join(chunks), stops)
    shown = ""
    for chunk in chunks:
        shown += watch.push(chunk)
        assert wanted.startswith(shown)
    shown += watch.end()
    assert shown == wanted
    assert watch.hit == (wanted != "".join(chunks))


@settings(max_examples=100, deadline=None)
@given(chunks=st.lists(st.text("abc", max_size=3), max_size=8), stop=st.text("ab", min_size=1, max_size=3))
def test_no_more_is_held_back_than_could_become_a_stop(chunks, stop):
    """What is held is a beginning of the stop: a reader never waits for text that is certain."""
    watch = Stops([stop])
    for chunk in chunks:
        watch.push(chunk)
        assert stop.startswith(watch.held)
        assert len(watch.held) < len(stop)


@pytest.mark.parametrize(
    "stops",
    [
        ["at on"],
        ["cat sat on the mat"],
        ["t"],
        ["mat. 王明有", "zzz"],
        ["色"],
        ["色的", "红色的球"],
        ["nowhere"],
        ["球。"],
    ],
)
@pytest.mark.parametrize("n", [1, 3])
def test_answers_stop_at_a_text(tokenizer, stops, n):
    """Inside a token or over many, several stops at once, n > 1: streamed or not, cut as the oracle cuts."""
    model = Recited(tokenizer.encode(TEXTS[0]), tokenizer)
    wanted = cut_at(TEXTS[0], stops)
    options = SamplingOptions(strategy="greedy", stop=tuple(stops))
    answers = complete(model, tokenizer, [[0]], options, n=n)
    assert {(answer.text, answer.finish) for answer in answers} == {(wanted, "stop")}
    shown = ""
    for piece in stream(model, tokenizer, [0], options=options):
        shown += piece
        assert wanted.startswith(shown)
    assert shown == wanted


def test_a_stop_text_ends_the_work(tokenizer):
    """The answer ends with the token that completes the stop; the model is not asked for another, streamed or not."""
    model = Recited(tokenizer.encode(TEXTS[0]), tokenizer)
    (answer,) = complete(model, tokenizer, [[0]], SamplingOptions(strategy="greedy", stop=("sat",)))
    assert tokenizer.decode(answer.ids) in {"the cat sat", "the cat sat "}
    assert model.passes == len(answer.ids)
    model.passes = 0
    assert "".join(stream(model, tokenizer, [0], stop="sat")) == "the cat "
    assert model.passes == len(answer.ids)
