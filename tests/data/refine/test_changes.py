"""What a rule changed in a text: marked where it was, whole, and cheap to find."""

import random
import time

import pytest

from instar.data.refine.changes import IN, ODD, OUT, SAME, changes, seen, shortened

PAIRS = [
    ("", "a"), ("a", ""), ("", ""), ("same", "same"), ("call 555 now", "call 000 now"), ("a\r\nb", "a\nb"),
    ("电话13812345678，好。", "电话13800000000，好。"), ("x" * 3000, "y" * 3000), ("a\nb\nc\n", "c\nb\na\n"),
]  # fmt: skip


def sides(parts):
    return "".join(text for mark, text in parts if mark != IN), "".join(text for mark, text in parts if mark != OUT)


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_both_texts_can_be_read_back(before, after):
    """What is the same and what goes out is the text before; what is the same and what comes in is the one after."""
    assert sides(changes(before, after)) == (before, after)


def test_random_texts_can_be_read_back():
    """So it is with any texts, of few letters, many lines, blanks and Chinese."""
    draw = random.Random(3)
    for alphabet in ("ab", "ab \n", "a,b\n", "天地。，\n ", "\t\r\n x"):
        for _ in range(40):
            before, after = ("".join(draw.choices(alphabet, k=draw.randint(0, 60))) for _ in range(2))
            assert sides(changes(before, after)) == (before, after)


def test_only_what_differs_is_marked():
    """A number in a sentence is marked, not the sentence; an address is one change, not one for each of its signs."""
    assert changes("call 555 now", "call 000 now") == [(SAME, "call "), (OUT, "555"), (IN, "000"), (SAME, " now")]
    assert changes("mail a.b@c.de, please", "mail x@y.com, please")[1:3] == [(OUT, "a.b@c.de"), (IN, "x@y.com")]
    lines = [f"line {number} of many" for number in range(100)]
    gone = changes("\n".join(lines), "\n".join(lines[:40] + lines[41:]))
    assert [part for part in gone if part[0] != SAME] == [(OUT, "line 40 of many\n")]


def test_strange_texts_cost_little():
    """Two thousand characters of two letters, or of as many lines, take an instant."""
    draw = random.Random(5)
    started = time.process_time()
    for alphabet in ("ab", "a,", "a\n", "ab \n", "a,b.\n"):
        changes("".join(draw.choices(alphabet, k=2000)), "".join(draw.choices(alphabet, k=2000)))
        changes("\n".join(draw.choices("abcdef", k=310)), "\n".join(draw.choices("abcdef", k=310)))
    assert time.process_time() - started < 0.5


def test_what_has_too_many_parts_is_marked_as_a_whole():
    """Two thousand characters without a sign between them are not compared one by one, but for their ends."""
    draw = random.Random(6)
    one, other = ("甲" + "".join(draw.choices("天地人和", k=2000)) + "乙" for _ in range(2))
    marks = [mark for mark, _ in changes(one, other)]
    assert [mark for mark in marks if mark != SAME] == [OUT, IN]


def test_the_end_of_a_cut_text_says_nothing():
    """Of texts that were cut at the same length, the last words of the longer one are no change."""
    assert changes("one two three", "one two", cut=True) == [(SAME, "one two")]
    assert changes("one two three", "one two") == [(SAME, "one two"), (OUT, " three")]


def test_what_is_long_and_the_same_is_counted():
    """Around a change some characters stay; the rest is a number, and none is lost."""
    parts = changes("a" * 500 + " 1 " + "b" * 500, "a" * 500 + " 2 " + "b" * 500)
    short = shortened(parts, around=10)
    assert short[0] == (None, 491)
    assert short[1] == (SAME, "a" * 9 + " ")
    assert sum(text if mark is None else len(text) for mark, text in short) == sum(len(text) for _, text in parts)


def test_what_is_not_seen_is_spelt_out():
    """Controls, blanks without width, marks that turn the direction of a text and halves of characters."""
    assert seen("a\x1bb") == [(SAME, "a"), (ODD, "U+001B"), (SAME, "b")]
    for sign in "\x00\x7f\x85\u200b\u202e\u2066\ufeff\ud800\u2028\ue000":
        assert seen(sign) == [(ODD, f"U+{ord(sign):04X}")]
    assert seen("a b\n\tc 字é👍🏽") == [(SAME, "a b\n\tc 字é👍🏽")]


def test_joiners_are_spelt_out_where_they_were_changed():
    """They shape letters and emoji, so elsewhere they stay."""
    assert seen("می\u200cخواهم") == [(SAME, "می\u200cخواهم")]
    assert seen("a\u200cb", OUT) == [(OUT, "a"), (ODD, "U+200C"), (OUT, "b")]


def test_blanks_of_a_change_are_seen():
    """Trailing blanks that were removed have a picture, those that are the same have none."""
    assert seen(" \n", OUT) == [(OUT, "·⏎\n")]
    assert seen(" \n") == [(SAME, " \n")]
