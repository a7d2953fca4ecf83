"""A capped reading sees all of the data evenly."""

import json
from collections import Counter

import pytest
import yaml
import zstandard

from instar.config import InputError
from instar.config.options import TokenizerTrainOptions
from instar.data import portion
from instar.data.corpus import is_held_out, read
from instar.data.portion import Portion
from instar.grow.tokens import train_tokenizer


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Two files: 600 short rows, then a book of about as many bytes; nothing is kept while measuring."""
    monkeypatch.setattr(portion, "HOLD", 1000)
    rows = [json.dumps({"text": f"row {n}: " + "short text " * 40}) for n in range(600)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "b.txt").write_text("".join(f"chapter {n}: {'of a book ' * 44}\n\n" for n in range(600)))
    return tmp_path


def test_a_portion_is_drawn_evenly(corpus):
    """A tenth of the bytes, at most, comes from both files and from all over them; the same in any order."""
    whole = Portion([str(corpus)], most=10**9)
    texts = list(whole)
    assert texts == [document.text for document in read([str(corpus)])]
    assert whole.bytes == whole.of == sum(map(len, texts))
    tenth = Portion([str(corpus)], most=whole.of // 10)
    some = list(tenth)
    assert whole.of / 20 < sum(map(len, some)) == tenth.bytes <= whole.of / 10
    assert tenth.of == whole.of
    kinds = Counter(text[:3] for text in some)
    assert kinds["row"] > 20
    assert len(kinds) > 1
    numbers = [int(text.split()[1][:-1]) for text in some if text.startswith("row")]
    assert min(numbers) < 150 < 450 < max(numbers)
    other = list(Portion([f"{corpus}/b.txt", f"{corpus}/a.jsonl"], most=whole.of // 10))
    assert sorted(other) == sorted(some)
    assert set(Portion([str(corpus)], most=whole.of // 20)) < set(some)


def test_a_portion_is_no_likelier_to_hold_what_is_held_out(corpus):
    """Of the rows that are drawn a fifth is of the held-out fifth, not all."""
    drawn = {*Portion([str(corpus)], most=10**5)}
    some = [document for document in read([f"{corpus}/a.jsonl"]) if document.text in drawn]
    held = sum(is_held_out(document, 0.2) for document in some)
    assert len(some) > 80
    assert 0.05 < held / len(some) < 0.4


def test_small_data_is_read_once(corpus, monkeypatch):
    """What fits into the hold is given as it is, from one reading; without a cap it is never held at all."""
    monkeypatch.setattr(portion, "HOLD", 10**9)
    calls = []
    monkeypatch.setattr(portion, "read", lambda sources: calls.append(1) or read(sources))
    assert len(list(Portion([str(corpus)], most=10**9))) == 601
    assert len(list(Portion([str(corpus)]))) == 601
    assert len(calls) == 2


def refined(out, weights):
    """A folder of refined documents of sources a and b, as many bytes each."""
    (out / "documents").mkdir(parents=True)
    for rank, name in enumerate("ab"):
        rows = [json.dumps({"text": f"{name} {n:04d}", "id": "x", "source": name}) for n in range(1000)]
        (out / "documents" / f"{rank:05d}.jsonl.zst").write_bytes(zstandard.compress("\n".join(rows).encode()))
    sources = [{"name": name, "weight": 0.0, "epochs": 1.0} | weights[name] for name in "ab"]
    (out / "recipe.yaml").write_text(yaml.safe_dump({"sources": sources}))
    for name in ("plan.json", "report.json"):
        (out / name).write_text("{}")
    return str(out)


def test_weights_and_epochs_of_a_recipe_count(tmp_path):
    """Of refined documents a source is given as often as its recipe says, with a cap in proportion."""
    epochs = refined(tmp_path / "epochs", {"a": {"epochs": 2.5}, "b": {}})
    found = Counter(Portion([epochs]))
    assert {found[f"b {n:04d}"] for n in range(1000)} == {1}
    times = Counter(found[f"a {n:04d}"] for n in range(1000))
    assert set(times) == {2, 3}
    assert times[3] == pytest.approx(500, abs=60)
    weights = refined(tmp_path / "weights", {"a": {"weight": 3.0}, "b": {"weight": 1.0}})
    for place in (weights, f"{weights}/documents"):
        some = Counter(text[0] for text in Portion([place], most=1200))
        assert some["a"] == pytest.approx(150, abs=30)
        assert some["b"] == pytest.approx(50, abs=20)


def test_a_cap_below_every_text_is_said(corpus, tmp_path):
    """Nothing is trained on nothing."""
    options = TokenizerTrainOptions(data=(f"{corpus}/a.jsonl",), out=str(tmp_path / "t"), max_bytes=5)
    with pytest.raises(InputError, match=r"max_bytes=5 is less than any text of .* bytes has"):
        train_tokenizer(options)
    report = train_tokenizer(TokenizerTrainOptions(data=(str(corpus),), out=str(tmp_path / "t"), max_bytes=50_000))
    assert report["bytes"] <= 50_000 < report["bytes_of_data"]


def test_a_damaged_recipe_is_named(tmp_path):
    """A folder whose recipe cannot be read is not taken for one without weights."""
    out = refined(tmp_path / "out", {"a": {}, "b": {}})
    (tmp_path / "out" / "recipe.yaml").write_text("sources: [{weight: 1}]")
    with pytest.raises(InputError, match=r"recipe.yaml: damaged .KeyError: 'name'"):
        Portion([out])
