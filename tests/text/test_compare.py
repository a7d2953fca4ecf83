"""What a larger vocabulary buys."""

import random

import pytest

from instar.config import InputError
from instar.text import Tokenizer
from instar.text.compare import compare, is_held_out, script

DRAW = random.Random(0)
ENGLISH = [" ".join("".join(DRAW.choices("aeioukstmnrl", k=3)) for _ in range(12)) for _ in range(80)]
CHINESE = ["".join(DRAW.choices("王明在花园里把球给了李华天地之间看见猴子红色", k=20)) for _ in range(80)]


def test_larger_vocabularies_need_fewer_tokens():
    """Bytes per token grow with the size, on text not trained on, for each script by itself."""
    rows = compare([*ENGLISH, *CHINESE], [448, 320, 384], held_out=0.2)
    assert [(row.name, row.script) for row in rows] == [
        (name, script) for name in ("320", "384", "448") for script in ("Han", "Latin")
    ]
    for wanted in ("Han", "Latin"):
        ratios = [row.bytes_per_token for row in rows if row.script == wanted]
        assert ratios == sorted(ratios)
        assert ratios[-1] > ratios[0] > 1


def test_each_size_is_what_training_gives():
    """The row of a size is that of a tokenizer trained at that size on the same part."""
    texts = [*ENGLISH, *CHINESE]
    taught = [text for text in texts if not is_held_out(text, 0.2)]
    alone = Tokenizer.train(taught, 320)
    rows = compare(texts, [320, 448], held_out=0.2, others={"alone": alone})
    numbers = {row.name: [r.tokens for r in rows if r.name == row.name] for row in rows}
    assert numbers["320"] == numbers["alone"]


def test_numbers_are_exact():
    """Bytes and tokens are those of the held-out texts."""
    kept = [text for text in ENGLISH if is_held_out(text, 0.5)]
    plain = Tokenizer.train([], 320)
    (row,) = compare(ENGLISH, [], held_out=0.5, others={"bytes": plain})
    assert (row.name, row.script, row.texts, row.vocab_size, row.used) == ("bytes", "Latin", len(kept), 320, 260)
    assert row.bytes == row.tokens == sum(map(len, kept))


def test_one_side_empty_is_an_error():
    """Nothing to measure, or nothing to learn from, is said with both counts."""
    for share in (0.0, 1.0):
        with pytest.raises(InputError, match="held out"):
            compare(ENGLISH, [320], held_out=share)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("The ball.", "Latin"), ("球在 garden 里面的地方", "Han"), ("мяч", "other"), ("123 !?", "other"), ("", "other"),
     ("A long English sentence with one 球.", "Latin")],
)  # fmt: skip
def test_script(text, wanted):
    """Three Chinese letters in ten make a text Chinese."""
    assert script(text) == wanted
