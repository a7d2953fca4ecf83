"""The report of verdicts: JSON, and a page in each language."""

import json

import pytest

from instar.config import InputError
from instar.eval.claims import Claim, Finding, check
from instar.eval.claims.report import page, write
from instar.eval.claims.verdict import curves_of, worded
from instar.probe.panel import Bars, Unfit, Words

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def verdicts(case):
    bars = Bars(
        Words("Shares", "比例"),
        [*worded(["one"], {"one": "其一"}), EVIL],
        {"share": [0.2, 0.4]},
        low=[0.1, 0.3],
        high=[0.3, 0.5],
    )
    found = Finding(
        "holds", 0.4951, Words(f"Found {EVIL}", "结果"), (0.4, 0.6), 0.25, 7, Words("How", "方法"), [bars],
        {"nan": float("nan")},
    )  # fmt: skip
    words = Words("Title", "标题"), Words("of them", "其中"), Words("It is said", "据说"), Words("The rule", "规则")

    def refuse(case):
        raise InputError("there is no head")

    return check(case(), [Claim("one", *words, lambda case: found), Claim("two", *words, refuse)])


def test_a_page_shows_each_verdict_with_its_figure(case, verdicts, page_of):
    """Figure, interval, chance, how many texts, the textbook's sentence and the rule; nothing of a script."""
    text = page(case(), f"m {EVIL}", verdicts)
    seen = page_of(text)
    for word in ("0.495", "0.4 – 0.6", "chance 0.25", "texts 7", "It is said", "The rule", "How", "there is no head"):
        assert word in seen.text, word
    assert "<img" not in text
    assert not seen.all("script")
    assert len(seen.all("article")) == 2
    assert {tag["class"] for tag in seen.all("article")} == {"claim holds", "claim unclear"}
    assert seen.all("svg")


def test_the_languages_name_each_other(case, verdicts, page_of):
    """Each page links the other, and says everything in its own."""
    one, other = (page_of(page(case(), "m", verdicts, language)) for language in ("en", "zh"))
    assert "claims.zh.html" in {tag["href"] for tag in one.all("a")}
    assert "claims.html" in {tag["href"] for tag in other.all("a")}
    assert "据说" in other.text
    assert "其一" in other.text
    assert "It is said" not in other.text
    assert "成立" in other.text
    assert "不明确" in other.text


def test_files_are_whole(case, verdicts, tmp_path):
    """Three files; JSON knows no NaN; a file in the place of the folder is an error."""
    files = write(tmp_path / "new" / "report", case(), "m", verdicts)
    assert [file.name for file in files] == ["claims.json", "claims.html", "claims.zh.html"]
    found = json.loads(files[0].read_text(), parse_constant=pytest.fail)
    assert [one["verdict"] for one in found["claims"]] == ["holds", "unclear"]
    assert found["claims"][0]["data"] == {"nan": None}
    assert found["claims"][0]["said"]["zh"] == "据说"
    with pytest.raises(InputError, match="is a file"):
        write(files[0], case(), "m", verdicts)


def test_names_take_both_languages_where_they_have_them():
    """Labels and series with a Chinese name are both, others are the same in both, and values stay with their names."""
    assert worded(["one", "two"], {"one": "其一"}) == [Words("one", "其一"), "two"]
    assert curves_of({"one": [2.0], "two": [3.0]}, {"two": "其二"}) == {"one": [2.0], Words("two", "其二"): [3.0]}


def test_why_a_claim_is_not_measured_is_said_in_both_languages(case):
    """As far as the error is."""

    def refuse(case):
        raise Unfit(Words("no head says tokens", "没有能输出词元的头"))

    words = Words("a", "甲")
    (verdict,) = check(case(), [Claim("one", words, words, words, words, refuse)])
    assert verdict.found == Words("Not measured: no head says tokens.", "未能测量：没有能输出词元的头。")
