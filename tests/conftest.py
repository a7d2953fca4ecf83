"""What tests share: the folder of real data, where it exists."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real checkpoints, tokenizers and texts that lie beside the checkout; tests that need them skip without."""
    folder = Path(os.environ.get("INSTAR_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real data is not here")
    return folder
