"""Arrays in files that workers share: the numbers alone, end to end; who reads them knows what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def mapped(path: Path, dtype: Any) -> np.ndarray:
    """(N,) the numbers of a file where they lie. A memmap by itself is an array that is slow to look into."""
    return np.asarray(np.memmap(path, dtype, "r")) if path.stat().st_size else np.empty(0, dtype)
