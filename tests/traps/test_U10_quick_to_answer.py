"""U10: the command answers at once: looking at it does not import torch."""

import subprocess
import sys

import pytest

CODE = """
import sys, time
from instar.cli import run
try:
    run({words!r})
except SystemExit:
    pass
slow = sorted(name for name in ("torch", "transformers", "numpy", "matplotlib") if name in sys.modules)
assert not slow, slow
"""


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["tokenizer", "--help"], ["sft", "--help"], ["pretran"]])
def test_no_heavy_import_to_answer(words):
    """vllm-project/vllm#14924: five seconds for --version, all of them imports."""
    subprocess.run([sys.executable, "-c", CODE.format(words=words)], check=True, capture_output=True)
