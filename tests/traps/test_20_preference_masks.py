"""Trap 20: masks and boundaries of preference pairs. OpenRLHF/OpenRLHF#294 and #237 left the prompt of rejected answers
unmasked, huggingface/trl#2209 truncated answers, #1074 put None among the tokens, #6879 divides by an unshifted length.

Guard: the log-probability of an answer in a shared, packed row equals the sum by hand from the logits of transformers
for that answer alone behind its prompt, whatever stands beside it.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from instar.data.branches import PreferenceCollate, PreferenceRows, pair_sizes
from instar.data.preferences import load_preferences
from instar.data.sources import Document
from instar.hub.files import load_model
from instar.text.tokenizer import Tokenizer
from instar.train.logprobs import answer_logprobs

WORDS = "the cat saw a small dog run home and then it slept all day long".split()
ASK = [{"role": "user", "content": "the cat?"}, {"role": "assistant", "content": "a dog"}]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([" ".join(WORDS)] * 3, 320)


@pytest.fixture(scope="module")
def store(tokenizer):
    """Ten pairs: answers of one word to many, prompts of one turn and of two, and one prompt twice."""
    records = [
        {
            "prompt": [*ASK * (n % 3 == 1), {"role": "user", "content": " ".join(WORDS[: 1 + n % 5])}],
            "chosen": " ".join(WORDS[n : n + 1 + n % 4]),
            "rejected": " ".join(WORDS[-1 - (n * 3) % 7 :]),
        }
        for n in range(10)
    ]
    documents = [Document(record, "here", number) for number, record in enumerate(records, 1)]
    return load_preferences(documents, tokenizer, context=96)[0]


def turns(x, position_ids):
    """Cosines and sines in float64."""
    frequencies = 10000.0 ** (-torch.arange(0, 8, 2, dtype=torch.float32) / 8)  # which are fp32 in both
    angles = (position_ids[..., None].double() * frequencies.double()).repeat(1, 1, 2)
    return angles.cos(), angles.sin()


@pytest.fixture(scope="module")
def models(tmp_path_factory, tokenizer):
    """A Llama of transformers and the same one read by us, both in float64; logits far from even."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=48, max_position_embeddings=256, bos_token_id=None, eos_token_id=None,
        pad_token_id=None, attn_implementation="sdpa",
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.mul_(8 if weight.ndim > 1 else 1)
    folder = tmp_path_factory.mktemp("llama")
    theirs.save_pretrained(folder)
    theirs.double().model.rotary_emb.forward = turns  # transformers turns and norms in fp32, whatever its weights are
    for norm in theirs.modules():
        if type(norm).__name__ == "LlamaRMSNorm":
            norm.forward = partial(F.rms_norm, normalized_shape=[32], weight=norm.weight, eps=norm.variance_epsilon)
    return theirs, load_model(folder).double().eval()


@pytest.fixture(scope="module")
@torch.no_grad()
def by_hand(models, store):
    """[pair][side]: the sum over the answer of log softmax, each answer alone behind its prompt."""
    theirs, _ = models
    sums = []
    for number in range(len(store)):
        prompt, *answers = (side.tolist() for side in store.pair(number))
        sums.append([])
        for answer in answers:
            logprobs = theirs(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            sums[-1].append(sum(float(logprobs[len(prompt) - 1 + n, id]) for n, id in enumerate(answer)))
    return torch.tensor(sums, dtype=torch.float64)


@torch.no_grad()
def ours(model, store, rows, collate):
    """(pairs, 2): log-probabilities of all rows in one batch, and lengths."""
    sums, lengths = answer_logprobs(model, collate(rows))
    pairs = [piece[0] for row in rows for piece in row]
    return sums.view(-1, 2), lengths.view(-1, 2), pairs


def near(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("context", [96, 192, 400])
def test_log_probabilities_are_those_of_transformers(models, store, by_hand, share, context):
    """Every pair of every row, packed more or less tightly, with the prompt shared or told twice."""
    rows = PreferenceRows(store, context, share)
    sums, lengths, pairs = ours(models[1], store, list(rows), PreferenceCollate(store, rows.width, share=share))
    assert sorted(pairs) == list(range(10))
    near(sums, by_hand[pairs])
    assert by_hand.std() > 1
    sizes = [[len(side) for side in store.pair(pair)[1:]] for pair in pairs]
    assert lengths.tolist() == sizes  # what an average is of: every token of the answer and its end, no other


def test_batch_mates_and_padding_change_nothing(models, store, by_hand):
    """Alone, in a row with others, beside longer rows, with any padding token and at any width."""
    sizes = pair_sizes(store).tolist()
    pieces = [(pair, 0, size) for pair, size in enumerate(sizes)]
    for rows in ([[pieces[3]]], [pieces[:4], [pieces[4]]], [[pieces[4]], pieces[5:9], [pieces[0]]]):
        for width, pad, whole in ((600, None, False), (600, 7, True)):
            collate = PreferenceCollate(store, width, pad, whole=whole)
            sums, _, pairs = ours(models[1], store, rows, collate)
            near(sums, by_hand[pairs])


def test_the_order_of_answers_changes_nothing(models, store, by_hand, tokenizer):
    """Chosen and rejected exchanged give the same two numbers exchanged."""
    sides = [[tokenizer.decode(ids.tolist()) for ids in store.pair(pair)[1:]] for pair in range(len(store))]
    start, asked, chosen, rejected = store.bounds.T
    turned = replace(
        store,
        ids=np.concatenate([store.ids[np.r_[s:a, c:r, a:c]] for s, a, c, r in store.bounds]),
        bounds=np.stack([start, asked, asked + rejected - chosen, rejected], 1),
    )
    assert [tokenizer.decode(turned.pair(3)[side].tolist()) for side in (2, 1)] == sides[3]
    rows = PreferenceRows(turned, 192)
    sums, _, pairs = ours(models[1], turned, list(rows), PreferenceCollate(turned, 192))
    near(sums.flip(1), by_hand[pairs])


def test_the_prompt_of_neither_answer_counts(models, store):
    """Targets are the answers' tokens and nothing else: no prompt, no padding, nothing across a boundary."""
    rows = PreferenceRows(store, 192)
    batch = PreferenceCollate(store, 192)(list(rows))
    said = [ids.tolist() for row in rows for pair, _, _ in row for ids in store.pair(pair)[1:]]
    assert [batch.targets[batch.answer == number].tolist() for number in range(batch.answers)] == said
    assert int((batch.targets >= 0).sum()) == sum(map(len, said))


def test_a_pair_that_is_too_long_never_loses_the_end_of_an_answer(tokenizer):
    """Whatever the context: an answer that is kept ends with the end of a turn, as serving would stop there."""
    records = [
        {
            "prompt": [*ASK * 3, {"role": "user", "content": "the cat?"}],
            "chosen": " ".join(WORDS[:n]),
            "rejected": " ".join(WORDS[-n:]),
        }
        for n in range(1, 12)
    ]
    documents = [Document(record, "here", number) for number, record in enumerate(records, 1)]
    found = set()
    for context in range(26, 116, 6):
        store, counts = load_preferences(documents, tokenizer, context=context, bad_records=1.0)
        found.add((len(store), counts["shortened"] > 0))
        for pair in range(len(store)):
            prompt, *answers = store.pair(pair)
            assert all(len(prompt) + len(answer) <= context for answer in answers)
            assert {int(answer[-1]) for answer in answers} == {tokenizer.stops[0]}
            assert tokenizer.decode(answers[0].tolist()) in {record["chosen"] for record in records}
    assert len(found) > 2
