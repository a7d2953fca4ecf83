"""What the tests of raw data share: a reader of one small file."""

from dataclasses import replace

import pytest

from instar.config.data import LimitOptions
from instar.data.raw.piece import Broken, Piece, Raw
from instar.data.raw.reading import read

LIMITS = LimitOptions()


class Outcome(list):
    """What reading a file gave."""

    @property
    def texts(self):
        return [found.text for found in self if isinstance(found, Raw)]

    @property
    def reasons(self):
        return [found.reason for found in self if isinstance(found, Broken)]


@pytest.fixture
def read_file(tmp_path):
    """read_file("a.txt", b"..", kind="text", fields=(), document_mb=..): the Raw and Broken of such a file."""

    def read_it(name, content, kind="text", fields=(), start=0, stop=0, **limits):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        size = path.stat().st_size if path.exists() else 0
        piece = Piece("source", kind, str(path), size, start, stop, fields)
        return Outcome(read(piece, replace(LIMITS, **limits)))

    return read_it
