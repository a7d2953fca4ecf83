"""What arrays are called where a sentence speaks of them."""

import pytest

from instar.config.options import InspectOptions
from instar.probe.arrays import called
from instar.probe.look import Look
from instar.probe.panel import Unfit
from instar.probe.views import VIEWS


@pytest.mark.parametrize(
    ("name", "en", "zh"),
    [
        ("weights", "attention weights", "注意力权重"),
        ("random/previous", "previous token (random tokens)", "前一词元（随机词元）"),
        ("chance/text/induction", "chance of induction (this text)", "归纳（此文本）的随机水平"),
        ("chances/top_p", "probabilities (top-p)", "概率（top-p）"),
        ("chances/model", "probabilities (model's own)", "概率（模型原始分布）"),
        ("feed_forward_kl", "feed-forward (KL)", "前馈层（KL）"),
        ("source_key_norms", "norms of keys (source)", "键的范数（源文）"),
        ("kl", "KL divergence from the answer", "与最终答案的 KL 散度"),
        ("unheard/of", "unheard/of", "unheard/of"),
        ("chance/unheard", "chance of unheard", "unheard的随机水平"),
        ("source_", "source_", "source_"),
    ],
)
def test_names_by_hand(name, en, zh):
    """Names of several parts are put together, and an unknown one stays what it is."""
    assert called(name) == (en, zh)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["decoder", "encoder", "encoder-decoder"])
def test_every_array_of_every_view_has_a_name(subject_of, shape):
    """But for probes, which train: their arrays are the same for every model."""
    look = Look(subject_of(shape), InspectOptions(at=2))
    met = {"accuracy", "control", "low", "high", "said"}
    for name, view in VIEWS.items():
        if name == "probes":
            continue
        try:
            met |= set(view(look).arrays)
        except Unfit:
            continue
    assert len(met) > 20
    assert {name for name in met if called(name).zh in (name, "") and name != "logits"} == set()
