"""Documents become tokens: cut, held out by hash, tokenised in chunks, prepared once."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.config import InputError
from instar.data import corpus
from instar.data.corpus import Tally, divide, encode, is_held_out, load_tokens, read, sections
from instar.data.memory import store_in_memory
from instar.data.shards import SUFFIX, Shards, ShardWriter
from instar.data.sources import Document

PARAGRAPH = "All happy families are alike; each unhappy family is unhappy in its own way. "


def book(paragraphs):
    """A long text whose paragraphs differ."""
    return "".join(f"{number}. {PARAGRAPH * (number % 7 + 1)}\n\n" for number in range(paragraphs))


def texts(store):
    return [bytes(token for token in store.tokens(n).tolist() if token < 256).decode() for n in range(len(store))]


@given(
    st.lists(st.sampled_from(["word ", "句子。", "\n", "\n\n", "x" * 3000, "End. "]), max_size=40).map("".join),
)
def test_sections_give_the_text_back(text):
    """Whatever the text, its sections joined are the text, none is empty or much longer than wanted."""
    parts = sections(text)
    assert "".join(parts) == text
    assert all(parts) or text == ""
    assert all(len(part) <= 2 * corpus.SECTION for part in parts)


def test_a_text_is_cut_at_the_end_of_a_paragraph():
    """A section of a book ends where a paragraph does."""
    parts = sections(book(200))
    assert len(parts) > 10
    assert all(part.endswith("\n\n") for part in parts)


def test_the_same_text_is_held_out_everywhere(document, tokenizer):
    """By the documents' own texts and by the prepared tokens the same ones are held out, in any order."""
    documents = [document(f"text number {number}", number) for number in range(300)] + [document(book(300))]
    held = {part.text for part, out in divide(documents, 0.1) if out}
    assert held == {part.text for part, out in divide(reversed(documents), 0.1) if out}
    assert held >= {document.text for document in documents[:300] if is_held_out(document, 0.1)}
    train, out = store_in_memory(encode(documents, tokenizer, Tally()), tokenizer.vocab_size).split(0.1)
    assert set(texts(out)) == held
    assert not held & set(texts(train))
    assert 15 < len(held) < 60


def test_a_larger_share_holds_out_more_of_the_same(document):
    """A share only adds to a smaller one; nothing is held out at 0 and everything at 1."""
    documents = [document(f"text number {number}") for number in range(200)]
    few, many = ({d.text for d in documents if is_held_out(d, share)} for share in (0.1, 0.4))
    assert few < many
    assert not any(is_held_out(d, 0.0) for d in documents)
    assert all(is_held_out(d, 1.0) for d in documents)
    with pytest.raises(InputError, match=r"held_out=1.5 is outside \[0, 1\]"):
        is_held_out(documents[0], 1.5)


def test_a_part_of_one_book_is_held_out_and_the_rest_stays_whole(document, tokenizer):
    """A single book has a held-out part; between two held-out sections the training text is one document."""
    text = book(600)
    store = store_in_memory(encode([document(text)], tokenizer, Tally()), tokenizer.vocab_size)
    train, held = store.split(0.1)
    assert len(store) == 1
    assert len(held) >= 3
    assert len(train) <= len(held) + 1
    assert train.total + held.total == store.total == len(text.encode()) + 1
    assert train.bytes + held.bytes == store.bytes == len(text.encode())
    runs = [part.text for part, out in divide([document(text)], 0.1) if not out]
    assert texts(train) == runs


def test_a_document_has_one_end_however_many_sections(document, tokenizer):
    """The end of the document stands once, after its last section; empty documents are counted and left out."""
    tally = Tally()
    documents = [document("short"), document(" \n"), document(book(200))]
    found = list(encode(documents, tokenizer, tally))
    ids = [token for section in found for token in section.ids]
    assert ids == tokenizer.document("short") + tokenizer.document(book(200))
    assert [section.continues for section in found] == [False] + [True] * (len(found) - 2) + [False]
    assert (tally.documents, tally.empty, tally.sections, tally.tokens) == (3, 1, len(found), len(ids))


def test_a_begin_that_is_the_end_too_is_put_on_both_sides(document, tokenizer, monkeypatch):
    """Where a tokenizer writes the same id before and after a document, each document gets exactly both."""
    monkeypatch.setattr(type(tokenizer), "document", lambda self, text: [256, *text.encode(), 256])
    (section,) = encode([document("aa")], tokenizer, Tally())
    assert list(section.ids) == [256, 97, 97, 256]


@pytest.fixture
def source(tmp_path):
    """A folder of a book and some rows, as a source."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "book.txt").write_text(book(100))
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(50)))
    return str(folder)


def write_shards(sources, tokenizer, folder, tokens=10**9):
    """The documents as shards of about so many tokens; how many there are."""
    folder.mkdir()
    writers = [ShardWriter(folder / f"00000{SUFFIX}", tokenizer.vocab_size, tokenizer.fingerprint)]
    for section in encode(read(sources), tokenizer, Tally()):
        writers[-1].add(section)
        if writers[-1].total >= tokens and not section.continues:
            path = folder / f"{len(writers):05d}{SUFFIX}"
            writers.append(ShardWriter(path, tokenizer.vocab_size, tokenizer.fingerprint))
    for writer in writers:
        writer.close()
    return len(writers)


def test_shards_and_memory_hold_the_same(source, tokenizer, tmp_path):
    """What lies in shards, however many, is what tokenising into memory gives; also what is held out."""
    shards = write_shards([source], tokenizer, tmp_path / "out", 200)
    here, counts = load_tokens([source], tokenizer)
    there, found = load_tokens([str(tmp_path / "out")], tokenizer)
    assert shards == found["shards"] > 1
    assert [*here.lengths] == [*there.lengths]
    assert all(np.array_equal(here.tokens(n), there.tokens(n)) for n in range(len(here)))
    assert (found["tokens"], found["documents"]) == (there.total, 51) == (counts["tokens"], counts["documents"])
    assert texts(here.split(0.2)[1]) == texts(there.split(0.2)[1])
    assert here.bytes == there.bytes


def test_no_text_at_all_is_an_error(tokenizer, tmp_path):
    """Empty files are no data."""
    (tmp_path / "a.txt").write_text("\n\n")
    with pytest.raises(InputError, match=r"no text in .*: all of its 1 documents are empty"):
        load_tokens([str(tmp_path / "a.txt")], tokenizer)


def test_shards_and_texts_do_not_mix(source, tokenizer, tmp_path):
    """Prepared and unprepared data together is an error, and shards are no documents."""
    write_shards([source], tokenizer, tmp_path / "out")
    with pytest.raises(InputError, match="cannot be mixed"):
        load_tokens([str(tmp_path / "out"), source], tokenizer)
    with pytest.raises(InputError, match="token shards, which are read by pretrain"):
        list(read([str(tmp_path / "out")]))


def test_documents_of_a_dialogue_are_never_cut(document):
    """A dialogue is held out whole, by what was said in it."""
    long = document({"turns": [book(100), book(90)]})
    assert [part for part, _ in divide([long], 0.5)] == [long]


def test_held_out_is_frozen():
    """The choice is part of the format: old runs and new ones hold out the same texts."""
    held = [n for n in range(100) if is_held_out(Document({"text": f"document {n}"}, "here", n), 0.05)]
    assert held == [21, 22, 55, 59, 75, 80, 94]


def test_shards_open_without_a_fingerprint(source, tokenizer, tmp_path):
    """A folder can be looked at without its tokenizer."""
    write_shards([source], tokenizer, tmp_path / "out")
    assert len(Shards(tmp_path / "out")) == 51
