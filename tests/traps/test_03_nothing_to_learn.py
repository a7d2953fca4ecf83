"""Trap 3, karpathy/nanochat#590, #834 and huggingface/trl#6668: dialogues longer than the context gave batches without
a single target, and the loss became NaN at step 4, or was shown as 0.0. Here such a dialogue is left out, counted and
reported, and data with nothing else in it stops before the first step."""

import pytest

from instar.batch import IGNORE
from instar.config import InputError
from instar.data.collate import Collate
from instar.data.dialogues import load_dialogues
from instar.data.packing import PACKINGS
from instar.data.sources import Document
from instar.text.tokenizer import Tokenizer

LONG = {"prompt": "Tell me about everything there is. " * 20, "completion": "No."}
SHORT = {"prompt": "Who?", "completion": "Anna."}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["Tell me about everything there is. Who? Anna. No."], 320)


def documents(*records):
    return [Document(record, "here", number) for number, record in enumerate(records, 1)]


def test_a_dialogue_whose_replies_fall_outside_the_context_is_left_out_and_counted(tokenizer):
    """What is kept always teaches; what is not kept is in the report."""
    store, counts = load_dialogues(documents(LONG, SHORT, LONG), tokenizer, context=64)
    assert (counts["dialogues"], counts["kept"], counts["too_long"]) == (3, 1, 2)
    assert len(store) == 1


@pytest.mark.parametrize("packing", ["best-fit", "none"])
def test_every_row_has_something_to_learn(tokenizer, packing):
    """No row of any packing is without a target, however the lengths fall around the context."""
    for context in range(24, 60, 5):
        records = [{"turns": ["Who? " * n, "Anna. " * n, "Who?", "No."]} for n in range(1, 12)]
        store, _ = load_dialogues(documents(*records), tokenizer, context=context)
        targets = Collate(store, context)(list(PACKINGS[packing](store.lengths, context))).targets
        assert (targets != IGNORE).any(dim=1).all()


def test_data_with_nothing_to_learn_stops_before_the_first_step(tokenizer):
    """All left out: an error that names the count, the context and the remedy."""
    with pytest.raises(
        InputError, match=r"of 2 dialogues 1 are longer than context=64 .* 1 have no reply; raise"
    ) as caught:
        load_dialogues(documents(LONG, {"turns": ["Hello?"]}), tokenizer, context=64)
    assert "nothing to learn" in str(caught.value)
