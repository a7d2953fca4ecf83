"""Rule "repair"."""

import codecs
import random
import re
import time
import unicodedata

import pytest

pytest.importorskip("ftfy")
from ftfy.badness import BADNESS_RE, MOJIBAKE_CATEGORIES

from instar.data.refine.repair import SUSPECT, Repair

CHINESE = "他说：“我们走吧！”（ＡＢＣ，１２３）——《红楼梦》……"


def fixed(text, **options):
    return Repair(**options)(text, {})


@pytest.mark.parametrize(
    "text", ["Plain words.\n\n\tIndented, don’t “worry”.", CHINESE, "naïve café ½ × °C", "a < b &amp; c", ""[:0] + "x"]
)
def test_good_text_is_left_alone(text):
    """Curly quotes, full-width letters and signs, accents and tabs are no damage."""
    verdict = fixed(text)
    assert (verdict.text, verdict.reason, verdict.count) == (text, "", 0)


@pytest.mark.parametrize(
    ("text", "wanted", "said"),
    [
        ("The Mona Lisa doesnÃ¢â‚¬â„¢t have eyebrows.", "The Mona Lisa doesn’t have eyebrows.", "encoding: 1"),
        ("æˆ‘ä»¬å\x8e»å…¬å›\xad", "我们去公园", "encoding: 1"),
        ("“ＡＢＣ，１２３” &amp; x", "“ＡＢＣ，１２３” & x", "encoding: 1"),
        ("fish &amp; chips &#39;hot&#39;", "fish & chips 'hot'", "encoding: 1"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour", "line ends: 3"),
        ("a\x00b\x07c\ufeffd\u200be\u00adf", "abcdef", "unseen characters: 5"),
        ("e\u0301a", "éa", "composed letters: 1"),
        ("one  \ntwo\u3000\nthree\t", "one\ntwo\nthree", "trailing blanks: 3"),
        ("one\n\n\n\n\n\ntwo", "one\n\n\ntwo", "empty lines: 1"),
        ("a \ud83d\ude00 b", "a 😀 b", "surrogates: 1"),
        ("\x1b[31mred\x1b[0m", "red", "encoding: 1"),
    ],
)
def test_damage_is_repaired_and_counted(text, wanted, said):
    """Each kind of damage is put right, and the verdict says of which kind how many places were."""
    verdict = fixed(text)
    assert verdict.text == wanted
    assert verdict.reason == "repaired"
    assert said in verdict.detail
    assert verdict.count >= int(said[-1])
    assert fixed(verdict.text).reason == "", "repaired text is repaired again"


def test_utf8_read_as_gbk_and_gbk_read_as_latin():
    """The two accidents of Chinese text that ftfy does not know."""
    text = "我们的生活，一天比一天好。大家都这么说！"
    codecs.register_error("as-windows", lambda error: ("€", error.start + 1))
    wrong = text.encode().decode("gb18030", "as-windows")
    assert "紝" in wrong
    assert fixed("Title\n" + wrong).text == "Title\n" + text
    assert fixed(text.encode("gb18030").decode("latin-1")).text == text
    assert fixed("àéîõüàéîõü").text == "àéîõüàéîõü"
    assert fixed("пинок".encode().decode("latin-1")).text == "пинок"


def test_no_sign_of_wrong_decoding_is_missed_by_the_quick_look():
    """Whatever ftfy calls bad, in runs of the characters that it knows, is also suspect."""
    rng = random.Random(0)
    known = re.compile("[" + "".join(MOJIBAKE_CATEGORIES.values()) + "]")
    letters = [chr(code) for code in range(0x80, 0x10000) if known.match(chr(code))]
    bad = 0
    for _ in range(60_000):
        text = "".join(rng.choice(letters if rng.random() < 0.6 else "aZ 0,") for _ in range(3))
        if BADNESS_RE.search(text):
            bad += 1
            assert SUSPECT.search(text), ascii(text)
    assert bad > 10_000


def test_joiners_stay_where_scripts_need_them():
    """Emoji, Persian, Hindi and Thai are written with characters of no width."""
    for text in (
        "👩\u200d🔬 👨\u200d👩\u200d👧",
        "می\u200cخواهم",
        "क्\u200dष",
        "ภาษา\u200bไทย",
        "❤️\u200d🔥",
        "שלום\u200f!",
    ):
        assert fixed(text).text == text
    assert fixed("a\u200cb\u200dc\u200ed").text == "abcd"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("锟斤拷", "锟斤拷: 30"),
        ("\ufffd", "\ufffd: 10"),
        ("烫烫烫烫烫烫", "烫烫烫: 60"),
        ("鐨勬槸銆", "UTF-8 as GBK: 60"),
    ],
)
def test_too_much_broken_text_is_dropped(damage, said):
    """What cannot be repaired is counted, and above the share that is allowed the document goes."""
    good = "这是一个很好的句子，没有什么问题" * 2
    verdict = fixed((damage + "\n" + good[:20] + "\n") * 10)
    assert verdict.text is None
    assert verdict.reason == "broken"
    assert said in verdict.detail
    assert "at most 1 % wanted" in verdict.detail
    assert fixed(damage + good * 100).text == damage + good * 100
    assert fixed((damage + good) * 10, most=1.0).text


def test_nothing_left_is_dropped():
    """A text of blanks and controls is no document."""
    assert fixed(" \x00\ufeff\r\n ").reason == "empty"
    assert fixed("").text is None


def test_programs_keep_their_letters():
    """In code only line ends and control characters are touched: entities and blanks may be meant."""
    code = 'x = "&amp;" + "e\u0301"   \n\n\n\n\ny = 1'
    assert fixed(code, plain=True).text == code
    assert fixed("a\r\nb\x00", plain=True).text == "a\nb"
    assert fixed("\ufffd" * 5 + "x", plain=True).reason == "broken"


def test_surrogates_can_be_written_afterwards():
    """Half a character, as a JSON file may hold it, does not stop the writer."""
    text = fixed("good text " * 50 + "\ud800").text
    assert text.endswith("\ufffd")
    assert text.encode()
    assert unicodedata.is_normalized("NFC", text)


@pytest.mark.parametrize(
    "text",
    [" " * 300_000 + "x \ny", "\u00e9" * 300_000, "&" * 300_000, "\u200d" * 300_000 + "x"],
    ids=["blanks", "accents", "signs", "joiners"],
)
def test_a_long_line_takes_linear_time(text):
    """No run of signs is tried from each of its places."""
    start = time.process_time()
    fixed(text)
    assert time.process_time() - start < 2
