"""Refined documents of a task -> its shard."""

import json
import os

import pytest
import zstandard

from instar.data import corpus
from instar.data.corpus import load_tokens
from instar.data.refine.tokens import Tokenize, stored, threads, tokenize
from instar.data.shards import SUFFIX, Shards, shard_facts
from instar.text.tokenizer import Tokenizer


def write(out, rank, texts, source="web"):
    """The documents of one task, as the phase before leaves them."""
    (out / "documents").mkdir(exist_ok=True)
    rows = [{"text": text, "id": f"a#{n}", "source": source} for n, text in enumerate(texts, 1)]
    raw = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    (out / "documents" / f"{rank:05d}.jsonl.zst").write_bytes(zstandard.compress(raw))


TEXTS = ["One text.", "\u2028 and\x85 line ends of Unicode\n", "人咬狗。", " \n"]


def test_a_shard_holds_the_documents_of_its_task(tmp_path, tokenizer):
    """The same tokens as tokenising the texts in memory, with the source in the header; no draft is left."""
    write(tmp_path, 3, TEXTS)
    flow = tokenize(tmp_path, 3, tokenizer).sources["web"].flow["tokens"]
    store = Shards(tmp_path, tokenizer.fingerprint)
    assert [store.tokens(n).tolist() for n in range(len(store))] == [tokenizer.document(t) for t in TEXTS[:3]]
    size = sum(len(text.encode()) for text in TEXTS[:3])
    assert (flow.documents, flow.bytes, flow.tokens()) == ([4, 3], [size + 2, size], [size + 3, size + 3])
    assert (flow.estimated, flow.reasons["empty"].documents, flow.reasons["empty"].bytes) == (False, 1, 2)
    assert shard_facts(tmp_path / f"00003{SUFFIX}") == {
        "file": f"00003{SUFFIX}", "source": "web", "documents": 3, "tokens": size + 3, "bytes": size,
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"00003{SUFFIX}", "documents", "work"]
    assert not list((tmp_path / "work").iterdir())


def test_the_same_documents_make_the_same_bytes(tmp_path, tokenizer, monkeypatch):
    """Whenever and however they are read: a shard written again is the shard."""
    write(tmp_path, 0, ["word " * 4000, *TEXTS] * 3)
    tokenize(tmp_path, 0, tokenizer)
    first = (tmp_path / f"00000{SUFFIX}").read_bytes()
    monkeypatch.setattr(corpus, "CHUNK", 100)
    (left := tmp_path / "work" / f"00000{SUFFIX}.1.draft").write_bytes(b"of a task that was killed")
    tokenize(tmp_path, 0, tokenizer)
    assert (tmp_path / f"00000{SUFFIX}").read_bytes() == first
    assert list((tmp_path / "work").iterdir()) == [left]


@pytest.mark.parametrize("texts", [[], [" \n", ""]])
def test_a_task_without_text_has_no_shard(tmp_path, tokenizer, texts):
    """Nothing survived the rules: no empty shard, and none of an earlier run stays."""
    write(tmp_path, 0, texts)
    (tmp_path / f"00000{SUFFIX}").write_bytes(b"earlier")
    ledger = tokenize(tmp_path, 0, tokenizer)
    assert [account.flow["tokens"].documents for account in ledger.sources.values()] == [[2, 0]] * bool(texts)
    assert [path.name for path in tmp_path.iterdir()] == ["documents"]


def test_a_killed_task_leaves_no_shard(tmp_path, tokenizer, monkeypatch):
    """Stopped in the middle, there is nothing under the shard's name."""
    write(tmp_path, 0, ["text"] * 50)
    monkeypatch.setattr(corpus, "CHUNK", 20)
    calls = iter(range(4))

    def stopped(self, texts):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return [list(text.encode()) for text in texts]

    monkeypatch.setattr(type(tokenizer), "encode_batch", stopped)
    with pytest.raises(KeyboardInterrupt):
        tokenize(tmp_path, 0, tokenizer)
    assert not list(tmp_path.glob(f"*{SUFFIX}"))


def test_documents_are_tokenised_as_they_come(tmp_path, tokenizer, monkeypatch):
    """Memory stays flat: sections are written before the last document has been read."""
    monkeypatch.setattr(corpus, "CHUNK", 100)
    write(tmp_path, 0, [f"document number {number}" for number in range(50)])
    seen = []
    documents = (seen.append("read") or document for document in stored(tmp_path / "documents" / "00000.jsonl.zst"))
    for _ in corpus.encode(documents, tokenizer, corpus.Tally()):
        seen.append("section")
    assert seen.index("section") < 10
    assert seen.count("read") == seen.count("section") == 50


def test_a_long_line_is_read_whole(tmp_path):
    """A book is one line, longer than any block that is read at a time."""
    text = "A line.\n" * 400_000
    write(tmp_path, 0, [text])
    (document,) = stored(tmp_path / "documents" / "00000.jsonl.zst")
    assert document.text == text


def test_the_step_runs_as_datatrove_runs_it(tmp_path):
    """A step with a real tokenizer in its folder, then the folder as training data."""
    trained = Tokenizer.train(TEXTS, 320)
    trained.save(tmp_path / "tokenizer")
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", 1, TEXTS)
    step = Tokenize(str(tmp_path / "tokenizer"), str(tmp_path / "out"))
    assert list(step.run(None, 1, 2)) == []
    ledger = json.loads((tmp_path / "out" / "work" / "ledger" / "tokens-00001.json").read_text())
    assert ledger["sources"]["web"]["flow"]["tokens"]["documents"] == [4, 3]
    store, counts = load_tokens([str(tmp_path / "out")], trained)
    assert (counts["shards"], counts["documents"]) == (1, 3)
    assert trained.decode(store.tokens(2)) == TEXTS[2]


def test_threads_are_lent(monkeypatch):
    """A worker among others has one thread of the library; afterwards the user's own setting stands again."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "yes")
    with threads(False):
        assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "yes"
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    with threads(True):
        assert os.environ["TOKENIZERS_PARALLELISM"] == "true"
    assert "TOKENIZERS_PARALLELISM" not in os.environ
