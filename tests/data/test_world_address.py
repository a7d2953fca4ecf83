"""The addresses of the built-in world are strict, and say all that records depend on."""

import os
import subprocess
import sys

import pytest

from instar.config import InputError
from instar.data.world import Address, parse, records
from instar.data.world.address import TASKS


def test_defaults():
    """A bare task has a meaning."""
    assert parse("world:stories") == Address("stories")


def test_every_key_is_read():
    """Each key of an address reaches the Address."""
    text = "world:dialogues?size=town&lang=zh&split=test&seed=3&count=7&threads=1,2&events=2,3&kinds=who,why&turns=2"
    text += "&apart=1&evidence=yes&templates=held-out&facts=0&talk=no&annotate=1&recap=1&mixed=1&mirror=1&blanks=person"
    assert parse(text) == Address(
        "dialogues", "town", ("zh",), "test", 3, 7, (1, 2), (2, 3), ("who", "why"), 2, True, True, "held-out", False,
        False, True, True, True, True, ("person",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("world:storys", "did you mean world:stories"),
        ("world:prompts?evidence=1", "evidence is for world:dialogues"),
        ("world:stories?sise=town", "did you mean size"),
        ("world:stories?size=villige", "did you mean village"),
        ("world:stories?lang=fr", "known: en, zh"),
        ("world:stories?lang=en,en", "twice"),
        ("world:stories?count=-1", "whole number"),
        ("world:stories?count=many", "whole number"),
        ("world:stories?threads=5", "from 1 to 4"),
        ("world:stories?seed=1&seed=2", "stands twice"),
        ("world:stories?seed", "no value"),
        ("world:stories?", None),
        ("world:dialogues?kinds=whoo", "did you mean who"),
        ("world:cloze?blanks=color", "did you mean colour"),
        ("world:stories?templates=held-out", "split=test"),
        ("stories", "wanted an address"),
    ],
)
def test_wrong_addresses(address, message):
    """What is misspelt, doubled or missing is an error that names the remedy."""
    if message is None:
        assert parse(address) == Address("stories")
        return
    with pytest.raises(InputError, match=message):
        parse(address)


def test_wrong_address_fails_before_the_first_record():
    """A wrong address is noticed where it is given, not where it is read."""
    with pytest.raises(InputError):
        records("world:nothing")


@pytest.mark.parametrize("task", TASKS)
def test_count_seed_and_split_select_records(task):
    """More records begin with the same ones; another seed or split gives others."""
    few, more = list(records(f"world:{task}?count=6")), list(records(f"world:{task}?count=12"))
    assert few == more[:6]
    assert few != list(records(f"world:{task}?count=6&seed=1"))
    assert few != list(records(f"world:{task}?count=6&split=test"))


def test_records_do_not_depend_on_the_process():
    """Two processes with other hash seeds make the same bytes."""
    program = (
        "import hashlib, json\n"
        "from instar.data.world import records\n"
        "from instar.data.world.address import TASKS\n"
        "text = ''.join(json.dumps(r) for t in TASKS for s in ('train', 'test')"
        " for r in records(f'world:{t}?split={s}&count=40&annotate=1'))\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "77")
    }
    assert len(seen) == 1


def test_world_needs_neither_torch_nor_numpy():
    """The world is pure Python, so that a tokenizer can be trained without the heavy imports."""
    program = "import sys, instar.data.world; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
