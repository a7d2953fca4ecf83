"""The view of the cache."""

import pytest

from instar.config import InputError
from instar.config.options.inspecting import InspectOptions
from instar.model.cache import LayerCache
from instar.probe.look import Look
from instar.probe.panel import Matrix
from instar.probe.views.kv import kv


@pytest.mark.parametrize("shape", ["decoder", "windows", "encoder-decoder"])
def test_green_on_every_shape(subject_of, shape):
    """KV: cached = uncached; bytes = 2·L·K·E·T·b = tensor bytes; one row a layer, one column a token, of a source
    too."""
    subject = subject_of(shape)
    panel = kv(Look(subject, InspectOptions()))
    assert {check.name for check in panel.checks} == {"bytes", "cached", "blocks", "engine"}
    assert panel.green, panel.checks
    assert panel.data["bytes"] == panel.data["formula"]
    assert panel.arrays["key_norms"].shape == (2, len(subject.tokens))
    grids = [figure for figure in panel.figures if isinstance(figure, Matrix)]
    assert [len(grid.columns) for grid in grids] == [len(subject.tokens)] * 2 + [len(subject.source)] * (
        shape == "encoder-decoder"
    )


def test_no_head_and_one_token(subject_of):
    """Without a language model's head no engine takes it, and the plain cache is shown; one token is a text."""
    panel = kv(Look(subject_of(heads_of=("score",)), InspectOptions()))
    assert [check.name for check in panel.checks] == ["bytes", "cached"]
    assert panel.green
    assert kv(Look(subject_of(ids=[3], vocab_size=9), InspectOptions())).green


def test_an_encoder_has_none(subject_of):
    """It is said why."""
    with pytest.raises(InputError, match="keeps no keys"):
        kv(Look(subject_of("encoder"), InspectOptions()))


def test_a_cache_that_forgets_is_red(subject_of, monkeypatch):
    """Keys that are written a little wrong are seen in the states, and in nothing that counts bytes."""
    right = LayerCache.update
    monkeypatch.setattr(LayerCache, "update", lambda self, k, v: right(self, 1.001 * k, v))
    red = [check.name for check in kv(Look(subject_of(), InspectOptions())).checks if not check.green]
    assert red == ["cached"]
