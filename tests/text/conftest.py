"""Small tokenizers, trained once."""

import pytest

from instar.text import Tokenizer

TEXTS = (
    "Anna had a red ball. She gave the ball to Tom because Tom was sad. Tom's ball was in the garden.\n" * 3,
    "王明有一个红色的球。他把球给了李华,因为李华不高兴。球在花园里。\n" * 3,
    "for i in range(10):\n    print(i, 'ball')\r\n\tpass\n" * 2,
)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Our own, of 448 rows."""
    return Tokenizer.train(TEXTS, 448)


@pytest.fixture(scope="session")
def texts() -> tuple[str, ...]:
    return TEXTS
