"""The memory of blocks."""

from pathlib import Path

import pytest
import torch

from instar.model.pool import untouched


def resident():
    """Bytes of memory that this process takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_nobody_writes_to_takes_no_memory(dtype):
    """A gigabyte of zeros costs nothing until something is written there, and then what was written."""
    if not Path("/proc/self/statm").is_file():
        pytest.skip("this system does not tell")
    before = resident()
    store = untouched((2, 1 << 14, 16, 8, 256 // dtype.itemsize), dtype, torch.device("cpu"))
    assert store.nbytes == 2**30
    assert resident() - before < 2**26
    store[1, 7] = 3
    assert resident() - before < 2**26
    assert float(store[1, 7].float().mean()) == 3
    assert not store[0].view(torch.int64).any()  # read in place: an absolute value would be a gigabyte more
    assert not store[1, 8:64].view(torch.int64).any()
    assert store.data_ptr() % 64 == 0
