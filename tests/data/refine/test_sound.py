"""Texts that Gopher's filters would certainly let go on."""

import random

import pytest

pytest.importorskip("datatrove")
from datatrove.data import Document
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter

from instar.data.refine.sound import runs_are_sound, words_are_sound
from instar.data.refine.words import Words

PROSE = (
    "The old man had a boat and a net, and he went to the sea with the boy that morning. "
    "They wanted to be alone with the birds, far from the harbour, where water turns green.\n"
    "Next week it rained on every single day, so nobody rowed out; instead people mended sails, told long stories, "
    "drank tea with honey and waited. At last wind and clouds left them in peace. Nobody asked where fish might be."
)
SPICE = ["...", "#", "…\n", "\n- ", "\n• ", "17 = 4;", "a boat and a net,", "the the the", "\n\nBuy now.\n\nBuy now.",
         "\nx\n", "extraordinarily" * 3, "\n", "I", "。"]  # fmt: skip


def texts():
    """Good prose, spoilt a little, a little more, and much: on both sides of every limit."""
    rng = random.Random(0)
    for number in range(400):
        words = PROSE.split(" ")
        much, few = rng.choice(SPICE), rng.random() < 0.5
        for _ in range(rng.randint(0, 3 * (number % 20))):
            words.insert(rng.randrange(len(words)), much if few else rng.choice(SPICE))
        yield " ".join(words[: rng.randint(1, len(words))] if number % 5 == 0 else words)


@pytest.mark.parametrize(
    ("sound", "limits"),
    [
        (words_are_sound, GopherQualityFilter(language=Words())),
        (words_are_sound, GopherQualityFilter(30, 0, 0, 0, 0.1, 0.1, 0.05, 0.3, 0, language=Words())),
        (runs_are_sound, GopherRepetitionFilter(language=Words())),
        (runs_are_sound, GopherRepetitionFilter(0, 0, 0, 0, (), ((3, 0.1),), language=Words())),
    ],
)
def test_sound_texts_are_those_that_datatrove_lets_go_on(sound, limits):
    """What is sound is kept by the filter, always; and most of what it keeps is sound, or nothing would be gained."""
    kept = found = 0
    for text in texts():
        lets = limits.filter(Document(text=text, id="")) is True
        sure = sound(text, limits)
        assert lets or not sure, text
        kept += lets
        found += sure
    assert 20 < kept < 390
    assert found > 0.6 * kept


def test_nothing_is_not_sound():
    """A text without words is left to the filter."""
    assert not words_are_sound("", GopherQualityFilter(language=Words()))
    assert not words_are_sound("...", GopherQualityFilter(0, language=Words()))
    assert not runs_are_sound("", GopherRepetitionFilter(language=Words()))
    assert runs_are_sound("one", GopherRepetitionFilter(language=Words()))
