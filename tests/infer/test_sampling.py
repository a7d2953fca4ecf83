"""Rules of many rows at once. Formulas and order are in tests/traps/test_29."""

import math
from dataclasses import replace

import pytest
import torch

from instar.config.options import SamplingOptions
from instar.infer.sampling import Rules, Said, draw, logprob, sampler, top_k

VOCAB = 40
CPU = torch.device("cpu")


def make_logits(rows, size=VOCAB, seed=0, dtype=torch.float64):
    return 2 * torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def choose_from(chance, *values):
    return values[int(torch.randint(len(values), (), generator=chance))]


def make_rows(count, seed=0, size=VOCAB):
    """Options, prompts and answers of many rows, no two alike; every rule is there and missing."""
    chance = torch.Generator().manual_seed(seed)
    options, texts = [], []
    for _ in range(count):
        texts.append([torch.randint(5, (choose_from(chance, 1, 4, 9),), generator=chance).tolist() for _ in range(2)])
        bias = torch.randperm(size, generator=chance)[: choose_from(chance, 0, 3)].tolist()
        options.append(
            SamplingOptions(
                strategy=choose_from(chance, "sample", "sample", "greedy"),
                temperature=choose_from(chance, 1.0, 0.7, 1.9),
                top_k=choose_from(chance, 0, 3, 12, 10**6),
                top_p=choose_from(chance, 1.0, 0.4, 0.95),
                min_p=choose_from(chance, 0.0, 0.1),
                repetition_penalty=choose_from(chance, 1.0, 1.4, 0.8),
                presence_penalty=choose_from(chance, 0.0, 0.6),
                frequency_penalty=choose_from(chance, 0.0, -0.3),
                no_repeat_ngram_size=choose_from(chance, 0, 1, 2, 3, 5),
                logit_bias=tuple((id, choose_from(chance, -3.0, 2.5)) for id in bias),
                min_new_tokens=choose_from(chance, 0, 5),
                stop_ids=choose_from(chance, (), (4,), (6, 11)),
                top_logprobs=choose_from(chance, 0, 2, 5),
            )
        )
    return options, texts


def remember(texts, size=VOCAB):
    said = Said(len(texts), 99, size, CPU)
    for row, text in enumerate(texts):
        said.begin(row, *text)
    return said


def is_short(options, texts):
    return torch.tensor([len(answer) < row.min_new_tokens for row, (_, answer) in zip(options, texts)])


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_transformers(seed):
    """Sixty rows with other rules each, against transformers' processors one row at a time, in its order too: the same
    logits after what shapes them, the same probabilities after what drops."""
    theirs = pytest.importorskip("transformers")
    options, texts = make_rows(60, seed)
    options = [replace(row, strategy="sample", presence_penalty=0.0, frequency_penalty=0.0) for row in options]
    logits = make_logits(60, seed=seed)
    rules = Rules(options, logits)
    shaped = rules.shape(logits, remember(texts), None, is_short(options, texts))
    weights = rules.weigh(shaped)[:, :VOCAB]
    for row, (own, (prompt, answer)) in enumerate(zip(options, texts)):
        ids, scores = torch.tensor([prompt + answer]), logits[row : row + 1].clone()
        shaping, dropping = [], [theirs.TemperatureLogitsWarper(own.temperature)]
        if own.logit_bias:
            shaping.append(theirs.SequenceBiasLogitsProcessor([[[id], bias] for id, bias in own.logit_bias]))
        if own.repetition_penalty != 1:
            shaping.append(theirs.RepetitionPenaltyLogitsProcessor(own.repetition_penalty))
        if own.no_repeat_ngram_size:
            shaping.append(theirs.NoRepeatNGramLogitsProcessor(own.no_repeat_ngram_size))
        if own.min_new_tokens and own.stop_ids:
            least = (len(prompt), own.min_new_tokens, list(own.stop_ids))
            shaping.append(theirs.MinNewTokensLengthLogitsProcessor(*least, device="cpu"))
        if own.top_k:
            dropping.append(theirs.TopKLogitsWarper(own.top_k))
        if own.top_p < 1:
            dropping.append(theirs.TopPLogitsWarper(own.top_p))
        if own.min_p:
            dropping.append(theirs.MinPLogitsWarper(own.min_p))
        for processor in shaping:
            scores = processor(ids, scores)
        assert torch.allclose(shaped[row], scores[0], rtol=1e-6)  # its bias is in fp32
        scores = shaped[row : row + 1].clone()
        for processor in dropping:
            scores = processor(ids, scores)
        assert torch.allclose(weights[row] / weights[row].sum(), scores[0].softmax(-1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_no_row_knows_of_another(dtype):
    """Many rows together, and each alone: bit for bit the same logits, tokens and alternatives."""
    options, texts = make_rows(24, size=600)
    logits = make_logits(24, size=600, dtype=dtype)
    logits[::7] /= 50  # flat rows, whose nucleus is wide
    luck = torch.rand(24, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    allowed = torch.rand(24, 600, generator=torch.Generator().manual_seed(6)) < 0.9
    before = logits.clone()
    rules, said, short = Rules(options, logits), remember(texts, 600), is_short(options, texts)
    shaped = rules.shape(logits, said, torch.arange(24), short, allowed)
    ids = rules.choose(shaped, luck)
    told_ids, told = rules.alternatives(logits)
    assert torch.equal(logits, before)
    for row, own in enumerate(options):
        one = slice(row, row + 1)
        alone = Rules([own], logits[one])
        part = alone.shape(logits[one], said, torch.tensor([row]), short[one], allowed[one])
        assert torch.equal(part, shaped[one])
        assert torch.equal(alone.choose(part, luck[one]), ids[one])
        assert torch.equal(logprob(logits[one], ids[one]), logprob(logits, ids)[one])
        if own.top_logprobs:
            told_alone = alone.alternatives(logits[one])
            assert torch.equal(told_alone[0], told_ids[one, : own.top_logprobs])
            assert torch.equal(told_alone[1], told[one, : own.top_logprobs])


def test_rows_stand_where_the_engine_says():
    """Rows of a step in any order, and only some of them: what was said is that of the row named."""
    options, texts = make_rows(12, seed=3)
    logits, said, short = make_logits(12), remember(texts), is_short(options, texts)
    shaped = Rules(options, logits).shape(logits, said, None, short)
    some = torch.tensor([7, 2, 11])
    part = Rules([options[row] for row in some], logits)
    assert torch.equal(part.shape(logits[some], said, some, short[some]), shaped[some])


def test_presence_and_frequency_are_over_the_answer():
    """OpenAI's formula, by hand: token 3 said twice, 5 once, 7 only asked."""
    logits = make_logits(1)
    options = SamplingOptions(presence_penalty=0.5, frequency_penalty=0.25)
    shaped = Rules([options], logits).shape(logits, remember([([7, 3], [3, 5, 3])]))
    wanted = logits.clone()
    wanted[0, 3] -= 0.5 + 2 * 0.25
    wanted[0, 5] -= 0.5 + 0.25
    assert torch.allclose(shaped, wanted, rtol=1e-12)


def test_nothing_is_left_of_what_is_not_asked_for():
    """Neutral rules give the very logits back, and luck is not looked at by greedy rows."""
    logits = make_logits(3)
    rules = Rules(
        [SamplingOptions(strategy="greedy", temperature=3.0, top_k=1), SamplingOptions(temperature=0.0)], logits
    )
    assert rules.shape(logits) is logits
    assert (rules.drawing, rules.counting, rules.telling) == (False, False, 0)
    assert rules.alternatives(logits) is None
    assert torch.equal(rules.choose(logits[:2], torch.tensor([0.1, 0.9])), logits[:2].argmax(-1))
    mixed = Rules([SamplingOptions(strategy="greedy", top_k=1), SamplingOptions()], logits)
    ids = {tuple(mixed.choose(logits[:2], torch.tensor([luck, luck])).tolist()) for luck in (0.0, 0.3, 0.6, 0.99)}
    assert {first for first, _ in ids} == {logits[0].argmax().item()}
    assert len({second for _, second in ids}) > 1


def test_no_rule_leaves_a_row_without_a_token():
    """Where every token was said before, or only a stop is allowed, the last rule gives way, in that row alone."""
    logits = make_logits(2, size=4)
    options = SamplingOptions(no_repeat_ngram_size=1)
    shaped = Rules([options] * 2, logits).shape(logits, remember([([0, 1], [3, 2]), ([0, 1], [3])], 4))
    assert torch.equal(shaped[0], logits[0])
    assert shaped[1].isfinite().tolist() == [False, False, True, False]
    ending = SamplingOptions(stop_ids=(1, 3), min_new_tokens=4)
    allowed = torch.tensor([[False, False, False, True], [True, False, False, True]])
    shaped = Rules([ending] * 2, logits).shape(logits, None, None, torch.tensor([True, True]), allowed)
    assert shaped.isfinite().tolist() == [[False, False, False, True], [True, False, False, False]]


def test_stops_that_the_engine_knows():
    """A tokenizer's stops are forbidden beside a row's own while it is short; ids that the model cannot say are no
    matter."""
    logits = make_logits(2)
    rules = Rules([SamplingOptions(stop_ids=(5,)), SamplingOptions()], logits, [{2, VOCAB + 7}, frozenset()])
    shaped = rules.shape(logits, short=torch.tensor([True, True]))
    assert (shaped == -math.inf).nonzero().tolist() == [[0, 2], [0, 5]]
    assert torch.equal(rules.shape(logits, short=torch.tensor([False, False])), logits)


def test_a_constraint_comes_first():
    """What it does not allow stays out, whatever the bias; what it allows keeps its logit."""
    logits = make_logits(1)
    allowed = torch.zeros(1, VOCAB, dtype=torch.bool)
    allowed[0, [3, 8]] = True
    rules = Rules([SamplingOptions(logit_bias=((5, 100.0), (8, 1.0)))], logits)
    shaped = rules.shape(logits, allowed=allowed)
    assert (shaped > -math.inf).nonzero()[:, 1].tolist() == [3, 8]
    assert torch.equal(shaped[0, [3, 8]], logits[0, [3, 8]] + torch.tensor([0.0, 1.0]))
    assert not shaped.isnan().any()


def test_alternatives_are_of_the_model_itself():
    """The likeliest first, in nats under the raw logits, whatever the rules; no more than there are."""
    logits = make_logits(2, size=7)
    rules = Rules([SamplingOptions(top_logprobs=20, temperature=0.1, top_k=1), SamplingOptions()], logits)
    ids, told = rules.alternatives(logits)
    wanted = logits.log_softmax(-1).sort(descending=True)
    assert torch.equal(ids, wanted.indices)
    assert torch.allclose(told, wanted.values)


def test_alternatives_of_equals_do_not_depend_on_who_else_asks():
    """Story: to look for two of many equals finds others than to look for twenty; half precision has many equals."""
    logits = torch.zeros(2, 600, dtype=torch.bfloat16)
    few, many = SamplingOptions(top_logprobs=2), SamplingOptions(top_logprobs=20)
    alone, beside = (
        Rules([few], logits[:1]).alternatives(logits[:1])[0],
        Rules([few, many], logits).alternatives(logits)[0],
    )
    assert torch.equal(alone[0], beside[0, :2])


def test_half_precision_is_widened():
    """Story: shares summed in bfloat16 stop growing at 256 tokens; the nucleus of a flat row is then everything."""
    logits = torch.zeros(1, 4096, dtype=torch.bfloat16) - torch.arange(4096, dtype=torch.bfloat16) * 2**-9
    half, full = (Rules([SamplingOptions(top_p=0.5)], row).weigh(row) for row in (logits, logits.float()))
    assert torch.equal(half, full)
    assert 0 < (half > 0).sum() < 1024
    luck = torch.tensor([0.7], dtype=torch.float64)
    assert draw(logits, luck) == draw(logits.float(), luck)


@pytest.mark.parametrize(("luck", "id"), [(0.0, 1), (0.249, 1), (0.251, 3), (0.999, 3), (1.0, 3)])
def test_draw_is_the_inverse_of_the_distribution(luck, id):
    """Luck in [0, 1) falls into the share of a token that has one; tokens without are never drawn, first nor last."""
    logits = torch.tensor([[-math.inf, math.log(0.25), -math.inf, math.log(0.75), -math.inf]])
    assert draw(logits, torch.tensor([luck], dtype=torch.float64)).item() == id


def test_sampler_repeats_with_its_generator():
    """A composed sampler draws what its own generator gives."""
    logits = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    sample = sampler(0.8, top_k(4), generator=torch.Generator().manual_seed(1))
    again = sampler(0.8, top_k(4), generator=torch.Generator().manual_seed(1))
    first = sample(logits)
    assert torch.equal(first, again(logits))
    assert not torch.equal(first, sample(logits))
    assert (logits.topk(4).indices == first[:, None]).any(-1).all()
