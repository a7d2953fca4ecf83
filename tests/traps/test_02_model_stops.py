"""Trap 2: a model that never stops. huggingface/trl#1623, #931, #2059, #3091; huggingface/alignment-handbook#127;
huggingface/open-r1#494.

Where the padding token is the end token too, collators that masked "padding" by its id masked the end of every answer
as well: the end was never learnt, and the model talked until it was cut off. Targets are masked by place here, never by
id. The test trains on twenty answers with pad == eos and asks for all of them.
"""

import numpy as np
import pytest
import torch

from instar.batch import IGNORE
from instar.config import ModelConfig
from instar.config.options import TrainOptions
from instar.data.collate import Collate
from instar.data.loader import Loader
from instar.data.memory import store_in_memory
from instar.data.packing import best_fit, one_each
from instar.data.shards import Section
from instar.infer.text import generate
from instar.model.transformer import Transformer
from instar.train.objectives import cross_entropy
from instar.train.trainer import Trainer

END, VOCAB, SAMPLES = 0, 48, 20  # END pads and ends


def make_samples():
    """Twenty (question, answer) pairs: the answer, of 1 to 5 tokens, follows from the question's second token."""
    return [([1, 2 + n], [22 + (3 * n + k) % 26 for k in range(1 + n % 5)]) for n in range(SAMPLES)]


def make_store():
    sections = [
        Section([*question, *answer, END], n, 1, teaches=[False] * len(question) + [True] * (len(answer) + 1))
        for n, (question, answer) in enumerate(make_samples())
    ]
    return store_in_memory(sections, VOCAB)


@pytest.mark.parametrize("packing", [one_each, best_fit])
def test_the_end_teaches_even_where_it_pads_too(packing):
    """Exactly one live end target for each answer, whatever the padding, and no padding is live."""
    store = make_store()
    rows = packing(store.lengths, 16)
    batch = Collate(store, 16, END)(list(rows))
    assert int((batch.targets == END).sum()) == SAMPLES
    assert int((batch.targets != IGNORE).sum()) == sum(len(answer) + 1 for _, answer in make_samples())
    assert (batch.tokens == END).sum() > SAMPLES  # padding looks the same


@pytest.mark.parametrize("packing", [one_each, best_fit])
def test_greedy_answers_stop(packing):
    """Twenty of twenty greedy answers are right and end by themselves."""
    torch.manual_seed(0)
    store = make_store()
    model = Transformer(ModelConfig(vocab_size=VOCAB, d_model=32, layers=2, heads=2, max_positions=32))
    source = Loader(packing(store.lengths, 16), Collate(store, 16, END), batch_rows=8, seed=1)
    Trainer(model, cross_entropy, source, TrainOptions(steps=150, lr=1e-2, weight_decay=0.0)).fit()
    samples = make_samples()
    answers = generate(model.eval(), None, [question for question, _ in samples], max_new_tokens=12)
    cut = [ids[: ids.index(END)] if END in ids else None for ids in map(list, answers)]
    assert cut == [answer for _, answer in samples]


def test_masking_by_id_would_be_seen():
    """The count that the first test checks is zero where targets are masked by the id of the padding."""
    store = make_store()
    batch = Collate(store, 16, END)(list(one_each(store.lengths, 16)))
    by_id = np.where(batch.targets.numpy() == END, IGNORE, batch.targets.numpy())
    assert (by_id == END).sum() == 0
