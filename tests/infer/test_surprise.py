"""How likely each token of a text is."""

import pytest
import torch

from instar.config import InputError
from instar.infer.surprise import pieces, surprise

IDS = [5, 9, 2, 44, 17, 3, 3, 60, 8, 21]


@pytest.mark.parametrize("changes", [{}, dict(layers=4, windows=(4, 4, 0, 4)), dict(positions="learned")])
@torch.no_grad()
def test_chances_are_the_models_own_however_they_are_read(make_model, changes):
    """Read whole or three tokens at a time, they are those of a forward pass, and so are the likeliest beside them."""
    model = make_model(**changes).eval()
    logprobs = model(torch.tensor([IDS])).log_softmax(-1)[0, :-1]
    wanted = logprobs.gather(1, torch.tensor(IDS[1:])[:, None])[:, 0].tolist()
    for chunk in (1, 3, 512):
        found = surprise(model, IDS, top=4, chunk=chunk)
        assert found.logprobs == pytest.approx(wanted, abs=1e-9)
        for place, row in zip(found.alternatives, logprobs):
            best = row.topk(4)
            assert [id for id, _ in place] == best.indices.tolist()
            assert [chance for _, chance in place] == pytest.approx(best.values.tolist(), abs=1e-9)
    assert len(list(pieces(model, IDS, chunk=3))) == 3
    assert surprise(model, IDS).alternatives == []


def test_one_token_is_no_surprise(make_model):
    """Nothing stands before the first token, so nothing foresees it."""
    assert surprise(make_model(), [7]).logprobs == []


@pytest.mark.parametrize(
    ("changes", "ids", "message"),
    [
        ({}, [], "0 tokens"),
        ({}, [1] * 49, "49 tokens, and the model reads 1 to 48"),
        ({}, [61], "ids outside 0 to 60"),
        ({}, [-1], "ids outside 0 to 60"),
        (dict(encoder_layers=1), [1], "reads a source first"),
    ],
)
def test_what_cannot_be_read_is_refused(make_model, changes, ids, message):
    """A text that is empty, too long or of strange ids, and a model that reads a source before it speaks."""
    with pytest.raises(InputError, match=message):
        surprise(make_model(**changes), ids)
