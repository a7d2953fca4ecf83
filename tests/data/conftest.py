"""A tokenizer small enough to check by eye: a byte is its own id."""

from dataclasses import dataclass

import pytest

from instar.data.sources import Document
from instar.text import Tokenizer

EOS, PAD, TURN, END = 256, 257, 258, 259


@dataclass
class Chat:
    ids: list
    teaches: list


class ByteTokenizer:
    """Documents are bytes and EOS; a turn is TURN, its bytes and END, of which a reply's bytes and END teach."""

    vocab_size = 320
    fingerprint = "b" * 64
    eos, pad = EOS, PAD
    template = "turns"
    stops = (END, EOS)

    def encode_batch(self, texts):
        return [list(text.encode()) for text in texts]

    def document(self, text):
        return [*text.encode(), EOS]

    def piece(self, id):
        return chr(id) if id < 256 else f"<{id}>"

    def visible_bytes(self, ids):
        return [bytes([id]) if id < 256 else b"" for id in ids]

    def chat(self, messages, *, add_generation_prompt=False, tools=None):
        ids, teaches = [], []
        if tools:
            messages = [{"role": "system", "content": f"{len(tools)} tools"}, *messages]
        for message in messages:
            said = [*message["content"].encode(), END]
            ids += [TURN, *said]
            teaches += [False, *[message["role"] == "assistant"] * len(said)]
        if add_generation_prompt:
            ids.append(TURN)
            teaches.append(False)
        return Chat(ids, teaches)

    def chat_batch(self, conversations, **options):
        return [self.chat(messages, **options) for messages in conversations]


@pytest.fixture
def tokenizer():
    return ByteTokenizer()


@pytest.fixture
def document():
    """A maker of documents: document({"text": ...}), or from a string."""
    return lambda record, number=1: Document({"text": record} if isinstance(record, str) else record, "here", number)


@pytest.fixture
def real(shared):
    """The folder of real data."""
    return shared / "data" if (shared / "data").is_dir() else shared


@pytest.fixture(scope="session")
def encoder():
    """A real tokenizer of a byte a token, with what encoders and span corruption need."""
    return Tokenizer.train([], 384, masks=True, sentinels=30)
