"""Bytes -> text, whatever encoding a stranger wrote them in.

UTF-8 comes before what is declared: text in another encoding is hardly ever UTF-8 by chance, while pages that declare
GB2312 or ISO-8859-1 and are UTF-8 are common. Text that is UTF-8 but for some bytes keeps them as U+FFFD and is never
read as another encoding, which would spoil all the rest.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from itertools import pairwise

from .piece import Refused

DAMAGED = " with errors"  # follows the name of an encoding where some bytes became U+FFFD
SAMPLE = 1 << 18  # bytes that a guess looks at
MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
# what some files are that are no text, by how they begin
FILES = {
    b"%PDF-": "a PDF file", b"PK\x03\x04": "a zip archive", b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture", b"\x7fELF": "a program", b"MZ\x90": "a program", b"PAR1": "a Parquet table",
    b"\xd0\xcf\x11\xe0": "an old Office file", b"SQLite format 3": "a database",
}  # fmt: skip
# bytes that text does not hold: controls without tab, line ends, form feed, backspace and escape
CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b")) + b"\x7f"
HIGH = re.compile(rb"[\x80-\xff]")
# what is called so in the wild is one of its supersets (https://encoding.spec.whatwg.org/#names-and-labels)
WIDER = {
    "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "cp950": "big5hkscs", "shift_jis": "cp932",
    "euc_kr": "cp949", "iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874",
    "tis-620": "cp874",
}  # fmt: skip
LATIN, CYRILLIC = ("LATIN",), ("CYRILLIC",)
# encodings that are looked for -> the scripts that their letters must be of
SCRIPTS = {
    "gb18030": ("CJK", "FULLWIDTH"), "big5hkscs": ("CJK", "FULLWIDTH"),
    "cp932": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "FULLWIDTH"),
    "euc_jp": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "FULLWIDTH"),
    "cp949": ("HANGUL", "FULLWIDTH"),
    "cp1251": CYRILLIC, "koi8-r": CYRILLIC, "koi8-u": CYRILLIC, "cp866": CYRILLIC, "iso8859-5": CYRILLIC,
    "mac-cyrillic": CYRILLIC,
    "cp1253": ("GREEK",), "iso8859-7": ("GREEK",), "cp1255": ("HEBREW",), "iso8859-8": ("HEBREW",),
    "cp1256": ("ARABIC",), "iso8859-6": ("ARABIC",), "cp874": ("THAI",),
    "cp1250": LATIN, "cp1252": LATIN, "cp1254": LATIN, "cp1257": LATIN, "cp1258": LATIN, "iso8859-2": LATIN,
    "iso8859-15": LATIN, "mac-roman": LATIN,
}  # fmt: skip
# Hangul stands where Chinese has common characters, so that Korean is asked first
FALLBACK = ("cp949", "gb18030", "big5hkscs", "cp932", "euc_jp", "cp1251", "koi8-r", "cp1252")


def decode(data: bytes, said: str = "") -> tuple[str, str]:
    """The text, and the name of its encoding, "... with errors" where some bytes became U+FFFD. said: the encoding that
    a header or the file itself declares, which is heeded where it can be true.

    Raises Refused: "binary" for what is no text, "encoding" for text that no encoding makes plausible.
    """
    for mark, name in MARKS:
        if data.startswith(mark):
            return _marked(data[len(mark) :], name)
    if wide := _unmarked_wide(data):
        return _marked(data, wide)
    _check_text(data)
    if b"\x1b$" in data[:SAMPLE]:  # of seven bits, so that it would pass as UTF-8
        return _read(data, "iso2022_jp_2")
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    sample = _sample(data)
    if _mostly_utf8(sample):
        return _read(data, "utf-8")
    for name in _candidates(sample, _codec(said)):
        if plausible(sample.decode(name, "replace"), name):
            return _read(data, name)
    found = sample[:6].hex(" ")
    raise Refused("encoding", f"found the bytes {found}, which are plausible neither as UTF-8 nor in another encoding")


def plausible(text: str, codec: str) -> bool:
    """Whether text that came of bytes by this codec is what people write: characters that exist, letters of its
    scripts, and for Latin no runs of accents, for Chinese no crowd of rare characters."""
    foreign = [character for character in text if character > "\x7f"]
    odd = sum(character == "\ufffd" or unicodedata.category(character) in ODD for character in foreign)
    if odd * 50 > len(foreign):
        return False
    letters = [character for character in foreign if character.isalpha()]
    own = sum(unicodedata.name(character, " ").split(" ", 1)[0] in SCRIPTS[codec] for character in letters)
    if own * 10 < len(letters) * 9:
        return False
    marks = sum(unicodedata.category(character)[0] in "PZ" for character in foreign)
    if (len(letters) + marks) * 5 < len(foreign) * 4:
        return False
    if SCRIPTS[codec] == LATIN:
        runs = sum(map(len, re.findall(r"[^\x00-\x7f]{3,}", text)))
        return runs * 3 <= len(foreign)
    if codec in COMMON and not _common(letters, codec):
        return False
    if SCRIPTS[codec] == CYRILLIC and sum(map(str.islower, letters)) * 2 < len(letters):
        return False  # KOI8-R and windows-1251 have the small letters of each other's capitals
    # capitals in the middle of words, which the other alphabets of the same script make of small letters
    return sum(a.islower() and b.isupper() for a, b in pairwise(text)) * 20 <= len(letters)


ODD = frozenset({"Cc", "Cn", "Co", "Cs"})  # controls beyond ASCII, unassigned, private, halves
# Chinese standards put the characters in use before the rare ones: the last first byte of those
COMMON = {"gb18030": (("gb2312", 0xD7), ("big5", 0xC6)), "big5hkscs": (("big5", 0xC6),)}


def _common(letters: list[str], codec: str) -> bool:
    han = [character for character in letters if "一" <= character <= "鿿"]
    usual = sum(any(_first_byte(character, name) <= last for name, last in COMMON[codec]) for character in han)
    return usual * 4 >= len(han) * 3


def _first_byte(character: str, codec: str) -> int:
    try:
        return character.encode(codec)[0]
    except UnicodeEncodeError:
        return 256


def _marked(data: bytes, name: str) -> tuple[str, str]:
    text, encoding = _read(data, name)
    sample = text[:SAMPLE]
    odd = sum(unicodedata.category(character) in ODD and character not in "\t\n\r\f" for character in sample)
    if (odd + sample.count("\ufffd")) * 20 > len(sample):
        raise Refused("binary", f"begins as {name} does and is no text")
    return text, encoding


def _unmarked_wide(data: bytes) -> str:
    """UTF-16 without a mark: of Western text every second byte is zero."""
    sample = data[:4096]
    if sample.count(0) * 5 <= len(sample) * 2 or len(data) % 2 or data.startswith(tuple(FILES)):
        return ""
    even, odd = sample[::2], sample[1::2]
    if even.count(0) == 0:
        return "utf-16-le"
    return "utf-16-be" if odd.count(0) == 0 else ""


def _check_text(data: bytes) -> None:
    """Raises Refused ("binary"): more than 1 % of controls, or zeros anywhere but for one in a thousand bytes."""
    for start, name in FILES.items():
        if data.startswith(start):
            raise Refused("binary", f"it is {name}, wanted text")
    zeros = data.count(0)
    sample = data[:BLOCK]
    controls = len(sample) - len(sample.translate(None, CONTROLS))
    if controls * 100 > len(sample) or zeros * 1000 > len(data):
        raise Refused(
            "binary", f"{controls:,} control characters in the first {len(sample):,} bytes and {zeros:,} zeros in all"
        )


BLOCK = 1 << 20


def _sample(data: bytes) -> bytes:
    """Whole lines, if there are any, from the first byte on that is not ASCII."""
    first = HIGH.search(data)
    start = first.start() if first else 0
    sample = data[start : start + SAMPLE]
    return sample[: sample.rfind(b"\n") + 1] or sample if len(sample) == SAMPLE else sample


def _mostly_utf8(sample: bytes) -> bool:
    """Whether at least as many characters beyond ASCII are right as are broken. Of Chinese in GB18030 one in ten is."""
    text = sample.decode("utf-8", "replace")
    bad = text.count("\ufffd") - sample.count("\ufffd".encode())
    right = len(text) - len(text.encode("ascii", "ignore")) - text.count("\ufffd")
    return right >= bad


def _candidates(sample: bytes, said: str) -> list[str]:
    """Encodings to try in order: the declared one, the detected one, the common ones."""
    import cchardet

    few = len(HIGH.findall(sample)) < 8  # too little to tell: single accents and quotation marks of Western Europe
    detected = _codec(cchardet.detect(sample)["encoding"] or "")
    names = dict.fromkeys((said, "cp1252" if few else detected, detected, *FALLBACK))
    return [name for name in names if name in SCRIPTS]


def _codec(said: str) -> str:
    """Python's name of an encoding, of its superset where the wild means that; "" for one unknown."""
    try:
        name = codecs.lookup(said.strip()).name if said.isascii() else ""
    except (LookupError, ValueError):
        return ""
    return WIDER.get(name, name)


def _read(data: bytes, name: str) -> tuple[str, str]:
    try:
        return data.decode(name), name
    except UnicodeDecodeError:
        return data.decode(name, "replace"), name + DAMAGED
