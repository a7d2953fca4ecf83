"""Log-probabilities of what was said, in chunks, are those of a plain log_softmax."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from instar.batch import IGNORE, Answers
from instar.train.logprobs import answer_logprobs, said_logprobs, token_logprobs

N, D, V = 11, 6, 17


@pytest.fixture
def hidden():
    return torch.randn(N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


@pytest.fixture
def targets():
    return torch.randint(0, V, (N,), generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def head(request):
    torch.manual_seed(3)
    return nn.Linear(D, V, bias=request.param).double()


def plain(hidden, targets, head, temperature=1.0):
    logprobs = (head(hidden) / temperature).log_softmax(-1)
    return logprobs.gather(1, targets[:, None]).squeeze(1), -(logprobs.exp() * logprobs).sum(-1)


def gradients(said, hidden, head):
    """Of an uneven sum, so that a gradient of a wrong row shows."""
    weights = torch.linspace(-1, 2, len(said), dtype=said.dtype)
    return torch.autograd.grad((said * weights).sum(), [hidden, *head.parameters()], retain_graph=True)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.5])
@pytest.mark.parametrize("chunk", [0, 1, 4, 11, 100])
def test_equals_plain_log_softmax(hidden, targets, head, chunk, temperature):
    """Values and gradients of both, whatever the chunk and the temperature."""
    said, entropy = token_logprobs(hidden, targets, head, temperature=temperature, chunk=chunk)
    wanted, spread = plain(hidden, targets, head, temperature)
    torch.testing.assert_close(said, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(entropy, spread, rtol=0, atol=1e-12)
    for ours, theirs in ((said, wanted), (entropy, spread), (2 * said - entropy, 2 * wanted - spread)):
        for one, other in zip(gradients(ours, hidden, head), gradients(theirs, hidden, head)):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_logits_exist_only_for_a_chunk(hidden, targets, head):
    """The head never sees more rows than a chunk, forwards and backwards."""
    seen = []
    head.register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    said, _ = token_logprobs(hidden, targets, head, chunk=4)
    said.sum().backward()
    assert seen == [4, 4, 3] * 2


@pytest.mark.parametrize("frozen", ["head", "hidden", "both"])
def test_what_is_frozen_gets_no_gradient(hidden, targets, head, frozen):
    """The rest gets the gradient that it gets in a whole model."""
    wanted = gradients(plain(hidden, targets, head)[0], hidden, head)
    head.requires_grad_(frozen == "hidden")
    hidden.requires_grad_(frozen == "head")
    said, _ = token_logprobs(hidden, targets, head, chunk=4)
    if frozen == "both":
        assert not said.requires_grad
        return
    (said * torch.linspace(-1, 2, N, dtype=said.dtype)).sum().backward()
    for value, slope in zip([hidden, *head.parameters()], wanted):
        if value.requires_grad:
            torch.testing.assert_close(value.grad, slope, rtol=0, atol=1e-12)
        else:
            assert value.grad is None


def test_nothing_said(hidden, head):
    """No target is no log-probability, and gradients that are zero."""
    said, entropy = token_logprobs(hidden[:0], torch.empty(0, dtype=torch.int64), head)
    assert said.shape == entropy.shape == (0,)
    assert said.dtype == torch.float64
    said.sum().backward()
    assert not hidden.grad.any()


def test_half_precision_is_summed_in_fp32(hidden, targets, head):
    """Products in bf16 give log-probabilities near the exact ones, never in bf16."""
    wide = nn.Linear(D, V).to(torch.bfloat16)

    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = wide

        def forward(self, x):
            return self.inner(x).float()

    said, _ = token_logprobs(hidden.detach().bfloat16(), targets, Wide())
    assert said.dtype == torch.float32


@pytest.fixture
def batch():
    """Three answers in two rows; the second is of one token, which is its end."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(0, 61, (2, 9), generator=generator)
    answer = torch.tensor([[-1, -1, 0, 0, 0, -1, -1, 1, -1], [-1, 2, 2, -1, -1, -1, -1, -1, -1]])
    targets = torch.where(answer >= 0, torch.randint(0, 61, (2, 9), generator=generator), IGNORE)
    return Answers(tokens, targets, answer=answer, last=torch.tensor([5, 8, 12]))


@pytest.mark.parametrize("chunk", [0, 2, 2048])
@pytest.mark.parametrize("tied", [True, False])
def test_an_answer_is_the_sum_of_its_tokens(make_model, batch, chunk, tied):
    """Sums, lengths and every gradient of a model equal those by hand from all logits."""
    model = make_model(torch.float64, tied=tied)
    logprobs = model(batch.tokens).log_softmax(-1)
    token = logprobs.gather(2, batch.targets.clamp(min=0)[..., None]).squeeze(-1)
    wanted = torch.stack([token[batch.answer == number].sum() for number in range(3)])
    sums, lengths = answer_logprobs(model, batch, chunk=chunk)
    torch.testing.assert_close(sums, wanted, rtol=0, atol=1e-10)
    assert lengths.tolist() == [3, 1, 2]
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    slopes = [torch.autograd.grad((x * weights).sum(), list(model.parameters())) for x in (wanted, sums)]
    for one, other in zip(*slopes):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_an_answer_without_a_token_has_probability_one(make_model, batch):
    """An answer of which nothing is to be said sums to 0 and has length 0, and the others stay what they are."""
    model = make_model(torch.float64)
    more = replace(batch, last=torch.tensor([5, 8, 12, 0]))
    sums, lengths = answer_logprobs(model, more)
    assert (sums[3], lengths[3]) == (0, 0)
    assert torch.equal(sums[:3], answer_logprobs(model, batch)[0])


def test_hidden_states_may_be_known_already(make_model, batch):
    """Given the states of the batch, the model is not run again, and tokens come in the order of all places."""
    model = make_model(torch.float64)
    hidden = model.hidden(batch.tokens, view=batch.view)
    model.hidden = None
    said, entropy, answer = said_logprobs(model, batch, hidden=hidden)
    assert answer.tolist() == [0, 0, 0, 1, 2, 2]
    assert said.shape == entropy.shape == (6,)
    assert (entropy > 0).all()
