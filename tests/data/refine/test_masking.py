"""Rule "personal"."""

import time

import pytest

from instar.config.data import PersonalOptions
from instar.data.refine.masking import REPLACEMENTS, Personal, chosen

MASK = Personal(chosen(PersonalOptions()))


def masked(text):
    return MASK(text, {}).text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Write to jane.doe+list@mail.uni-x.ac.uk.", "Write to email@example.com."),
        ("邮箱abc_9@qq.com请联系", "邮箱email@example.com请联系"),
        ("<mailto:a@b.org>", "<mailto:email@example.com>"),
        ("from 203.208.60.1:8080 on", "from 192.0.2.1:8080 on"),
        ("http://123.125.114.144/x", "http://192.0.2.1/x"),
        ("at 2400:3200:baba::1, yes", "at 2001:db8::1, yes"),
        ("电话13800138000。", "电话000-0000-0000。"),
        ("手机：138 0013 8000", "手机：000-0000-0000"),
        ("+86 138-0013-8000", "000-0000-0000"),
        ("电话：010-62345678，传真（0571）87654321", "电话：000-0000-0000，传真000-0000-0000"),
        ("Call +44 20 7946 0958 now", "Call 000-0000-0000 now"),
        ("call (415) 555-2671 or 415-555-2671.", "call 000-0000-0000 or 000-0000-0000."),
        ("tel +1 (415) 555-2671", "tel 000-0000-0000"),
        ("+49 (0)30 901820", "000-0000-0000"),
        ("+49 (0)40 / 49 07 11 06", "000-0000-0000"),
        ("身份证11010519491231002X，", "身份证000000190001010000，"),
        ("card 4111 1111 1111 1111", "card 0000 0000 0000 0000"),
        ("card 4111111111111111.", "card 0000 0000 0000 0000."),
        ("amex 3782 822463 10005", "amex 0000 0000 0000 0000"),
        ("卡号6225880000000001，", "卡号0000 0000 0000 0000，"),
        ("git clone https://me:s3cret@host.org/x.git", "git clone https://user:password@host.org/x.git"),
        ("postgres://admin:p4ss@db:5432/x", "postgres://user:password@db:5432/x"),
    ],
)
def test_personal_data_is_replaced_by_its_kind(text, wanted):
    """Each kind in the shapes people write, between Chinese characters too; once more changes nothing."""
    assert masked(text) == wanted
    assert masked(wanted) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4 and v10.15.7.21", "release 203.0.113.77.2", "Chrome/91.0.4472.124", "Firefox/150.0.212.112",
        "192.168.1.1 127.0.0.1 10.200.3.4 203.0.113.5", "section 4.3.2.1", "specs 8.2.4.44 Bogus",
        "0001 0010 0011 0100 0101", "999.300.1.1", "版本号：64.112.7.9",
        "ISBN 978-3-16-148410-0", "ISBN 0-306-40615-2", "2026-11-26 12:34:56", "20261126123456",
        "2003/12/24-2004/01/06",
        "arXiv:2103.01234v2", "doi:10.1000/182.555-2671", "pi = 3.14159265358979", "+1.23456789 -0.4155552671",
        "x = 12345678901234567890", "1732612345678", "0xdeadbeef13800138000", "e3b0c44298fc1c149afb",
        "a1b2:c3d4", "std::dead::beef", "ab::cd", "12:34:56:78", "2001:db8::7", "2400:3200:baba::1z",
        "x2400:3200:baba::1", "1 2 3 4 5 6 7 8 9 10 11 12",
        "+1 0 1 1 0 0 1 1 0", "110105194912310021", "4111 1111 1111 1112", "1234 5678 9012 3456", "138001380001",
        "git@github.com:a/b.git", "logo@2x.png", "@app.route('/x')", "user@host", "a @ b.com", "react@18.2.0",
        "http://host/a:b@c", "1,380,013,800", "1999-2000 2001-2002", "100-200-3000", "00-11-22",
        "www.x.com/138001380001/",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_stays(text):
    """Versions, private addresses, dates, ISBN, arXiv, decimals, long numbers, hashes, times, failed check digits."""
    verdict = MASK(text, {})
    assert (verdict.text, verdict.count) == (text, 0)


def test_the_verdict_counts_by_kind():
    """The report names what was masked and in how many places."""
    verdict = MASK("a@b.org, c@d.org, 13800138000 and 203.208.60.1, 2400:3200:baba::1", {})
    assert verdict.reason == "masked"
    assert verdict.count == 5
    assert verdict.detail == "e-mail addresses: 2, telephone numbers: 1, IP addresses: 2"


def test_kinds_can_be_left_out():
    """What options leave out stays; of programs only addresses and passwords are asked."""
    text = "a@b.org 13800138000"
    assert Personal(chosen(PersonalOptions(emails=False)))(text, {}).text == "a@b.org 000-0000-0000"
    assert Personal(chosen(PersonalOptions(), code=True))(text, {}).text == "email@example.com 13800138000"
    assert Personal(("emails",))("https://me:s3cret@host.org", {}).count == 0
    assert Personal(())(text, {}).text == text


def test_no_replacement_is_a_match():
    """Masking is idempotent because the examples belong to nobody."""
    for example in REPLACEMENTS.values():
        assert masked(f"x {example} y") == f"x {example} y"


@pytest.mark.parametrize(
    "line", ["1" * 300_000, "1-" * 150_000, "a@" * 150_000, "a" * 300_000 + "@", "1.1.1." * 50_000, "2001:" * 60_000,
             "://a:" * 60_000, "+1" * 150_000, "138 0013 " * 33_000],
    ids=["digits", "dashes", "ats", "letters", "dots", "colons", "schemes", "pluses", "groups"],
)  # fmt: skip
def test_a_long_line_takes_linear_time(line):
    """Whatever it is made of, no place is looked at more often than a fixed number of times."""
    start = time.process_time()
    masked(line)
    assert time.process_time() - start < 2
