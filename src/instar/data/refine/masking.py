"""Rule "personal": e-mail and network addresses, telephone, identity and card numbers, and passwords in addresses are
replaced by examples of the same kind, which belong to nobody. The replacement is fixed, so that it depends on nothing
but the text, and none is itself a match, so that masking twice changes nothing.

Numbers are looked for only in runs of at least seven digits, each pattern tries a place once and goes no further than
a fixed length from it, and what has a check digit must pass it. So a line of megabytes takes linear time, and versions,
decimals, dates, ISBN and arXiv numbers stay.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...config.data import PersonalOptions
from .rule import Verdict

# kind -> what stands there afterwards, and what a person calls it
REPLACEMENTS = {
    "credentials": "user:password@",
    "emails": "email@example.com",  # RFC 2606 keeps the name
    "identities": "000000190001010000",  # no such region
    "cards": "0000 0000 0000 0000",  # no such issuer
    "phones": "000-0000-0000",  # no such area
    "addresses": "192.0.2.1",  # RFC 5737
    "addresses6": "2001:db8::1",  # RFC 3849
}
CALLED = {
    "credentials": "passwords in addresses",
    "emails": "e-mail addresses",
    "identities": "identity numbers",
    "cards": "card numbers",
    "phones": "telephone numbers",
    "addresses": "IP addresses",
}


class Found(NamedTuple):
    start: int
    stop: int
    kind: str


@dataclass(frozen=True)
class Personal:
    """kinds: which of REPLACEMENTS are replaced."""

    kinds: tuple[str, ...]
    name: str = "personal"

    def __call__(self, text: str, meta: dict[str, Any]) -> Verdict:
        places = find(text, self.kinds)
        if not places:
            return Verdict(text)
        parts, last = [], 0
        for start, stop, kind in places:
            parts += [text[last:start], REPLACEMENTS[kind]]
            last = stop
        counts = Counter(kind.rstrip("6") for _, _, kind in places)
        said = ", ".join(f"{CALLED[kind]}: {count}" for kind, count in counts.items())
        return Verdict("".join([*parts, text[last:]]), "masked", said, len(places))


def chosen(options: PersonalOptions, *, code: bool = False) -> tuple[str, ...]:
    """The kinds that options ask for. In programs a long number is hardly ever somebody's, so of code only addresses
    and passwords are asked."""
    kinds = [kind for kind in CALLED if getattr(options, kind)]
    return tuple(kind for kind in kinds if not code or kind in ("credentials", "emails", "addresses"))


def find(text: str, kinds: tuple[str, ...]) -> list[Found]:
    """Places in order, none over another; of two that overlap stays the one whose kind comes first in CALLED."""
    taken: list[Found] = []
    for finder in (addressed, numbered, networked):
        taken += [found for found in finder(text) if found.kind.rstrip("6") in kinds]
    order = list(REPLACEMENTS)
    kept: list[Found] = []
    for found in sorted(taken, key=lambda found: (found.start, order.index(found.kind))):
        if kept and found.start < kept[-1].stop:
            if order.index(found.kind) < order.index(kept[-1].kind):
                kept[-1] = found
            continue
        kept.append(found)
    return [found for found in kept if text[found.start : found.stop] != REPLACEMENTS[found.kind]]


# addresses with @ ---------------------------------------------------------------------------------------------------

LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-")
DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,6}([A-Za-z]{2,24})(?![A-Za-z0-9-])")
LOGIN = re.compile(r"[^\s/@:<>\"'，。]{1,64}:[^\s/@<>\"'，。]{1,128}@")
# mail@2x.png is a picture, and git@ is everybody
NO_DOMAIN = frozenset("png jpg jpeg gif svg webp bmp ico pdf js ts css html htm json yaml yml md txt py".split())
NOBODY = frozenset({"git", "hg", "svn", "ssh"})
EXAMPLES = ("example.com", "example.org", "example.net")


def addressed(text: str) -> Iterator[Found]:
    """E-mail addresses, and names with passwords before the host of an address."""
    logins: set[int] = set()
    place = text.find("://")
    while place >= 0:
        if match := LOGIN.match(text, place + 3):
            logins.add(match.end() - 1)
            yield Found(match.start(), match.end(), "credentials")
        place = text.find("://", place + 3)
    place = text.find("@")
    while place >= 0:
        start = place
        while start > 0 and text[start - 1] in LOCAL:
            start -= 1
        while start < place and text[start] in ".%+-":
            start += 1
        match = DOMAIN.match(text, place + 1) if place not in logins and 0 < place - start <= 64 else None
        if match and _personal(text[start:place], match[0].lower(), match[1].lower()):
            yield Found(start, match.end(), "emails")
        place = text.find("@", place + 1)


def _personal(local: str, domain: str, top: str) -> bool:
    return local.lower() not in NOBODY and top not in NO_DOMAIN and not domain.endswith(EXAMPLES)


# numbers ------------------------------------------------------------------------------------------------------------

# at least seven digits with at most three signs between them, and what may stand before them
RUN = re.compile(r"\d(?:[ \-.()（）/]{0,3}\d){6,}")
ID = r"[1-9]\d{5}(?:18|19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx]"
CARD = r"[3-6]\d{3}(?:(?P<s>[ -]?)\d{4}(?P=s)\d{4}(?P=s)\d{4}(?:(?P=s)\d{3})?|(?P<t>[ -]?)\d{6}(?P=t)\d{4,5})"
CHINESE_MOBILE = r"(?:(?:\+|00)?86[ -]?)?1[3-9]\d(?P<m>[ -]?)\d{4}(?P=m)\d{4}"
CHINESE_FIXED = (
    r"(?:\(0(?:10|2\d|[3-9]\d\d)\)|（0(?:10|2\d|[3-9]\d\d)）|0(?:10|2\d|[3-9]\d\d)[- ])[2-9]\d{6,7}(?:-\d{1,4})?"
)
AMERICAN = r"(?:\+?1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d(?P<a>[.-]))[2-9]\d\d(?:(?P=a)|(?(a)(?!)|[.-]))\d{4}"
WORLDWIDE = r"(?:\+|(?<![\d(（])00)[1-9](?:[ \-.()/]{0,3}\d){7,14}"
NUMBER = re.compile(
    rf"(?<![A-Za-z0-9_])(?<![\d][.\-/])(?:(?P<identities>{ID})|(?P<cards>{CARD})|(?P<mobile>{CHINESE_MOBILE})"
    rf"|(?P<fixed>{CHINESE_FIXED})|(?P<american>{AMERICAN})|(?P<worldwide>{WORLDWIDE}))(?![A-Za-z0-9_]|[.\-/]\d)"
)
WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def numbered(text: str) -> Iterator[Found]:
    """Identity cards, payment cards and telephones."""
    last = 0
    for run in RUN.finditer(text):
        # signs before the run, and as much behind it as a check digit X and the next sign take
        for match in NUMBER.finditer(text, max(run.start() - 3, last), run.end() + 3):
            kind = str(match.lastgroup)
            if CHECKS[kind](match[0]):
                yield Found(match.start(), match.end(), kind if kind in REPLACEMENTS else "phones")
        last = run.end()


def identity(number: str) -> bool:
    """Check digit of GB 11643-1999, ISO 7064 mod 11-2."""
    total = sum(int(digit) * weight for digit, weight in zip(number, WEIGHTS))
    return "10X98765432"[total % 11] == number[17].upper()


def card(number: str) -> bool:
    """An issuer with cards of this length, and the check digit of Luhn (ISO/IEC 7812)."""
    digits = re.sub(r"\D", "", number)
    if not ISSUED.fullmatch(digits):
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


# Visa, Mastercard, American Express, Discover, UnionPay, JCB, Diners
ISSUED = re.compile(
    r"4\d{15}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|6(?:011|5\d\d|4[4-9]\d)\d{12}|62\d{14}|62\d{17}|35[2-8]\d{13}|3[068]\d{12}"
)


def worldwide(number: str) -> bool:
    """Eight to fifteen digits (E.164) in groups as people write them, no decimal and no binary number."""
    groups = re.findall(r"\d+", number.replace("(0)", ""))
    digits = sum(map(len, groups))
    if re.fullmatch(r"\+\d+\.\d+", number) or set("".join(groups)) <= set("01"):
        return False
    return 8 <= digits <= 15 and digits >= 2 * len(groups)


CHECKS: dict[str, Callable[[str], bool]] = {
    "identities": identity,
    "cards": card,
    "mobile": lambda number: True,
    "fixed": lambda number: True,
    "american": lambda number: True,
    "worldwide": worldwide,
}

# network addresses --------------------------------------------------------------------------------------------------

IPV4 = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}")
IPV6 = re.compile(r"[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){3,7}")
VERSION = re.compile(r"(?:\b(?:v|ver|version|release|build|firmware)\.?|版本号?|固件)[\s:：=]{0,3}\Z", re.IGNORECASE)


def networked(text: str) -> Iterator[Found]:
    """Public IP addresses. Four small numbers are a version or a section; one address in 256 has no part above
    63, and is missed."""
    for match in IPV4.finditer(text):
        before, behind = text[max(match.start() - 16, 0) : match.start()], text[match.end() : match.end() + 2]
        parts = match[0].split(".")
        if max(map(int, parts)) < 64 or not _public(match[0]):
            continue
        if re.search(r"[A-Za-z0-9_.\-]\Z|[^/]/\Z", before) or re.match(r"\d|\.\d|[A-Za-z_]", behind):
            continue
        if not VERSION.search(before):
            yield Found(match.start(), match.end(), "addresses")
    for match in IPV6.finditer(text):
        before, behind = text[max(match.start() - 1, 0) : match.start()], text[match.end() : match.end() + 1]
        if not re.match(r"[\w:.]", before) and not re.match(r"[\w:]", behind) and _public(match[0]):
            yield Found(match.start(), match.end(), "addresses6")


def _public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:  # a part above 255, zeros before a part
        return False
