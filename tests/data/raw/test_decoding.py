"""Text comes out of whatever encoding it was written in, and nothing comes out as mojibake."""

import random

import pytest

from instar.data.raw.decoding import WIDER, decode, plausible
from instar.data.raw.piece import Refused

pytest.importorskip("cchardet")

CHINESE = "春天来了，花园里的花都开了。孩子们在树下读书，老人们在河边散步，大家都觉得今年的天气比去年好得多。\n"
TRADITIONAL = "春天來了，花園裡的花都開了。孩子們在樹下讀書，老人們在河邊散步，大家都覺得今年的天氣比去年好得多。\n"
JAPANESE = "春が来て、庭の花がみんな咲きました。子どもたちは木の下で本を読み、お年寄りは川辺を散歩しています。\n"
KOREAN = "봄이 와서 정원의 꽃이 모두 피었습니다. 아이들은 나무 아래에서 책을 읽고 노인들은 강가를 걷습니다.\n"
RUSSIAN = "Пришла весна, и в саду распустились все цветы. Дети читают под деревом, старики гуляют у реки.\n"
GREEK = "Ήρθε η άνοιξη και στον κήπο άνθισαν όλα τα λουλούδια. Τα παιδιά διαβάζουν κάτω από το δέντρο.\n"
GERMAN = "Der Frühling ist da, im Garten blühen die Blumen. Die Kinder hören zu, die Älteren genießen die Größe.\n"
POLISH = "Przyszła wiosna i w ogrodzie zakwitły wszystkie kwiaty. Dzieci czytają pod drzewem, źdźbła trawy rosną.\n"
ENGLISH = "“Spring is here,” she said — and the café’s garden was in bloom again, wasn’t it?\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "gb18030"), (TRADITIONAL, "big5"), (JAPANESE, "shift_jis"), (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"), (KOREAN, "euc_kr"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (GREEK, "cp1253"),
        (GERMAN, "latin-1"), (GERMAN, "cp1252"), (ENGLISH, "cp1252"), (POLISH, "cp1250"), (CHINESE, "utf-8"),
        (CHINESE, "utf-8-sig"), (CHINESE, "utf-16"), (ENGLISH, "utf-16-le"), (ENGLISH, "utf-16-be"),
        (RUSSIAN, "utf-32"),
    ],
)  # fmt: skip
def test_every_usual_encoding_is_read_without_being_told(text, encoding):
    """The same text back, from a long and from a short one."""
    assert decode((text * 40).encode(encoding))[0] == text * 40
    assert decode(text.encode(encoding))[0] == text


def test_the_encoding_is_named():
    """By Python's name, that of the superset."""
    assert decode((CHINESE * 9).encode("gb2312"))[1] == "gb18030"
    assert decode(CHINESE.encode())[1] == "utf-8"


def test_a_false_declaration_is_not_heeded():
    """UTF-8 that declares GB2312 or ISO-8859-1 stays UTF-8; GB18030 that declares UTF-8 is read as what it is."""
    assert decode(CHINESE.encode(), "gb2312") == (CHINESE, "utf-8")
    assert decode(ENGLISH.encode(), "ISO-8859-1") == (ENGLISH, "utf-8")
    assert decode(CHINESE.encode("gb18030"), "utf-8")[0] == CHINESE
    assert decode(CHINESE.encode("gb18030"), "no such thing")[0] == CHINESE


def test_a_true_declaration_decides_short_text():
    """Two accents are of no encoding that could be found out."""
    text = "Dvořák, žluťoučký kůň"
    assert decode(text.encode("cp1250"), "windows-1250")[0] == text


@pytest.mark.parametrize("text", [CHINESE * 20, ENGLISH * 20 + GERMAN, RUSSIAN * 20], ids=["zh", "en", "ru"])
def test_damaged_utf8_stays_utf8(text):
    """Story: one byte that a disk lost made a whole page mojibake. Broken characters become U+FFFD, the others stay."""
    data = bytearray(text.encode())
    random.seed(1)
    places = [place for place, byte in enumerate(data) if byte > 0x7F]
    for place in random.sample(places, 3):
        data[place] = 0xFF
    found, encoding = decode(bytes(data))
    assert encoding == "utf-8 with errors"
    assert 3 <= found.count("\ufffd") <= 9
    assert sum(a == b for a, b in zip(found[:40], text[:40])) > 20
    assert len(set(found) - set(text) - {"\ufffd"}) == 0


def test_text_cut_inside_a_character_is_utf8():
    """A file that was split by bytes."""
    assert decode(CHINESE.encode()[:-2]) == (CHINESE[:-2] + "\ufffd", "utf-8 with errors")


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"%PDF-1.7 text", "a PDF file"),
        (b"PK\x03\x04mimetype", "a zip archive"),
        (random.Random(2).randbytes(4000), "control characters"),
        (bytes(random.Random(2).choices(range(1, 256), k=4000)), "control characters"),
        (b"abc\0def", "1 zeros in all"),
        (b"\xff\xfe" + random.Random(3).randbytes(4000), "begins as utf-16-le does"),
        (bytes(1000), "zeros"),
    ],
)
def test_what_is_no_text_is_binary(data, detail):
    """Named where it is a known kind of file."""
    with pytest.raises(Refused, match=detail) as caught:
        decode(data)
    assert caught.value.reason == "binary"


def test_bytes_of_no_encoding_are_refused():
    """High bytes at random make no plausible text."""
    data = bytes(random.Random(4).choices(range(0x80, 0xFF), k=2000))
    with pytest.raises(Refused) as caught:
        decode(data)
    assert caught.value.reason == "encoding"


@pytest.mark.parametrize(
    ("text", "written", "read"),
    [
        (TRADITIONAL, "big5", "gb18030"), (CHINESE, "gb18030", "cp949"), (CHINESE, "gb18030", "cp1252"),
        (RUSSIAN, "cp1251", "cp1252"), (RUSSIAN, "cp1251", "koi8-r"), (RUSSIAN, "koi8-r", "cp1251"),
        (POLISH, "cp1250", "cp1252"), (JAPANESE, "shift_jis", "gb18030"), (CHINESE, "gb18030", "cp1251"),
    ],
)  # fmt: skip
def test_mojibake_is_not_plausible(text, written, read):
    """What these bytes are in their own encoding is plausible, in the other not."""
    data = (text * 9).encode(written)
    assert plausible(data.decode(WIDER.get(written, written)), WIDER.get(written, written))
    assert not plausible(data.decode(read, "replace"), read)


def test_one_zero_in_a_long_text_is_forgiven():
    """It is a control character like others, which repair takes out."""
    text = ENGLISH * 20
    assert decode((text + "\0").encode())[0] == text + "\0"


def test_nothing_is_nothing():
    """Neither an error nor a guess."""
    assert decode(b"") == ("", "utf-8")
