"""BLEU and chrF are sacrebleu's, with the tokenizer that the language wants; translations are asked for in batches."""

import sys

import pytest

from instar.config import InputError
from instar.config.options import SamplingOptions
from instar.data.corpus import divide
from instar.data.sources import Document
from instar.eval import translation
from instar.eval.translation import Reference, bleu, reference_of, translate, words_of
from instar.infer.text import Completion, complete

ENGLISH = ["The red ball is in the garden.", "Anna gave Tom a blue lamp, and he was happy."]
CHINESE = ["红色的球在花园里。", "安娜给了汤姆一盏蓝色的灯。"]


def references(targets, **groups):
    return [Reference("x", target, groups) for target in targets]


def test_figures_are_those_of_sacrebleu():
    """Its own functions on the same texts, and its signatures."""
    sacrebleu = pytest.importorskip("sacrebleu")
    said = ["The red ball is in a garden.", "Anna gave Tom the blue lamp, and he was glad."]
    found = bleu(said, references(ENGLISH))
    assert found["bleu"] == sacrebleu.corpus_bleu(said, [ENGLISH]).score
    assert 20 < found["bleu"] < 90
    assert found["chrf"] == sacrebleu.corpus_chrf(said, [ENGLISH]).score
    assert found["bleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert found["chrf_signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
    assert (found["records"], found["exact"]) == (2, 0.0)


def test_the_tokenizer():
    """Chinese references by characters, unless another is asked for: one wrong character leaves some BLEU, where 13a
    sees one wrong word and no other."""
    sacrebleu = pytest.importorskip("sacrebleu")
    said = ["红色的球在果园里。", "安娜给了汤姆一盏红色的灯。"]
    found = bleu(said, references(CHINESE))
    assert "|tok:zh|" in found["bleu_signature"]
    assert found["bleu"] == sacrebleu.corpus_bleu(said, [CHINESE], tokenize="zh").score > 30
    assert bleu(said, references(CHINESE), "13a")["bleu"] < 5
    assert words_of([*CHINESE, "球 is a ball"]) == "zh"
    assert words_of([*ENGLISH, "球"]) == words_of(["..."]) == "13a"


def test_each_language_by_itself():
    """A record that says which language it is translated from is counted with its like, by the tokenizer of those."""
    pytest.importorskip("sacrebleu")
    both = references(ENGLISH, lang="zh") + references(CHINESE, lang="en")
    found = bleu([*ENGLISH, "球", CHINESE[1] + " "], both)
    parts = found["groups"]["lang"]
    assert (parts["zh"]["bleu"], parts["zh"]["exact"]) == (pytest.approx(100.0), 1.0)
    assert "tok:zh" in parts["en"]["bleu_signature"]
    assert "tok:13a" in parts["zh"]["bleu_signature"]
    assert parts["en"]["records"] == 2


def test_without_sacrebleu(monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(InputError, match=r"pip install instar\[eval\]"):
        bleu(ENGLISH, references(ENGLISH))


def test_translations_are_the_models(tokenizer, model):
    """What `complete` says of each source, without blanks round it, in order; progress adds up."""
    options = SamplingOptions(strategy="greedy", max_new_tokens=6)
    sources = ["Anna had" + "?" * n for n in range(11)]
    done = []
    said = translate(model, tokenizer, sources, options, batch=1, each=done.append)
    assert said == [answer.text.strip() for answer in complete(model, tokenizer, sources, options)]
    assert sum(done) == 11


def test_blanks_round_a_translation(monkeypatch):
    """Are no part of it; the options are handed on."""
    heard = []

    def answer(model, tokenizer, prompts, options, **rest):
        heard.append((prompts, options, rest["slots"]))
        return [Completion(f" {prompt}\n", [], [], "stop") for prompt in prompts]

    monkeypatch.setattr(translation, "complete", answer)
    options = SamplingOptions(strategy="beam", beams=4)
    assert translate(None, None, list("abc"), options, batch=2) == list("abc")
    assert heard == [(list("abc"), options, 2)]


def test_the_keys_of_a_record():
    """By name, also inside "translation"; the language is kept."""
    assert reference_of({"source": "a", "target": "b", "lang": "en"}) == Reference("a", "b", {"lang": "en"})
    assert reference_of({"en": "a", "de": "b"}, "en", "de") == Reference("a", "b", {})
    for record, message in (
        ({"en": "a", "de": "b"}, "the keys are en, de.*--source-key and --target-key"),
        ({"source": "a", "target": " "}, "\"target\" is ' ', wanted a text"),
        ({"source": "a", "target": 3}, '"target" is int'),
    ):
        with pytest.raises(InputError, match=message):
            reference_of(record)


def test_what_training_held_out():
    """The share by the hash of the source, as documents are divided."""
    sources = [f"Anna had {n} balls." for n in range(60)]
    held = [document.text for document, kept in divide([Document({"text": s}, "x", 1) for s in sources], 0.2) if kept]
    assert [s for s in sources if Reference(s, "y", {}).is_kept(0.2)] == held
    assert 2 < len(held) < 30
    assert all(Reference(s, "y", {}).is_kept(None) for s in sources)
