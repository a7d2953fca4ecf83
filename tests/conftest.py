"""What tests share: the folder of real data, where it exists."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
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


class Threads:
    """Ranks that are threads of one process: what they add up, they add up in the order of the ranks."""

    def __init__(self, rank, meeting, lists):
        self.rank, self.world, self._meeting, self._lists = rank, len(lists), meeting, lists

    def add(self, tensors):
        everyone = self._exchange([tensor.clone() for tensor in tensors])
        for number, tensor in enumerate(tensors):
            tensor.copy_(sum(own[number] for own in everyone))

    def gather(self, tensor):
        return self._exchange(tensor.clone())

    def wait(self):
        self._meeting.wait()

    def close(self):
        pass

    def _exchange(self, own):
        self._lists[self.rank] = own
        self._meeting.wait()
        found = list(self._lists)
        self._meeting.wait()
        return found


@pytest.fixture
def on_ranks():
    """on_ranks(world, function): what function(ranks) gives, or the exception it ends with, on each rank."""

    def run(world, function):
        meeting, lists = threading.Barrier(world, timeout=30), [None] * world
        with ThreadPoolExecutor(world) as pool:
            futures = [pool.submit(function, Threads(rank, meeting, lists)) for rank in range(world)]
            return [future.exception() or future.result() for future in futures]

    return run


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def page_of():
    """page_of(html): its tags and its text."""
    return Page
