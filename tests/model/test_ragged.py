"""Tokens of many rows in one pass: what a token finds by itself has the same bits whoever else looks."""

import numpy as np
import pytest
import torch

from instar.config import ModelConfig
from instar.model.attention import Attend, Seen
from instar.model.pages import Pages
from instar.model.ragged import Ragged

CONFIG = ModelConfig(vocab_size=9, d_model=32, layers=1, heads=2, kv_heads=1, max_positions=64)
ROWS, LENGTH = 12, 24


@pytest.fixture
def threads():
    """Two, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_threads_change_no_bit(threads):
    """S11 on a machine with several threads: each has a part of a buffer, and products on it end in other bits by where
    that begins; one row that attends alone finds what it finds among twelve."""
    pages = Pages(CONFIG, ROWS, 64)
    generator = torch.Generator().manual_seed(0)
    for _ in range(ROWS):
        row, _ = pages.open([1])
        pages.grow(row, LENGTH + 1)
    pages.pools[0].stores[0].normal_(generator=generator)
    pages.lengths[:] = LENGTH
    q = torch.randn(1, 2, ROWS, 16, generator=generator)

    def found(rows):
        ragged = Ragged(pages, rows, [1] * len(rows), steady=True)
        ragged.see(0, lambda *_: None, ragged.positions(1), torch.float32)
        with torch.inference_mode():
            new = torch.ones(1, 1, len(rows), 16), torch.ones(1, 1, len(rows), 16)
            y = ragged[0].attend(Attend(), q[:, :, rows], new, Seen())
        return y[0].transpose(0, 1)

    whole = found(np.arange(ROWS))
    assert all(torch.equal(found(np.array([row]))[0], whole[row]) for row in range(ROWS))
    assert torch.get_num_threads() == 2
