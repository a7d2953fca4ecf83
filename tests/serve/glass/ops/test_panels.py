"""Panels of a kept trace: those of `instar inspect`, and held against another model."""

import json
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

from instar.cli import run
from instar.config import InputError
from instar.hub.folders import save
from instar.probe.panel import Unfit
from instar.probe.views import VIEWS
from instar.serve.glass.trouble import Trouble

TEXT = "Anna had a 球"
TIMES = {"decode_seconds", "prefill_seconds", "seconds", "whole"}
WITHOUT_PROBES = [view for view in VIEWS if view != "probes"]
ASKED = {"layer": 0, "head": 2, "kind": "sinkless", "at": 3, "top": 3, "sampling": {"max_new_tokens": 5, "top_k": 9}}
FLAGS = ["--layer", "0", "--head", "2", "--kind", "sinkless", "--at", "3", "--top", "3", "--max-new-tokens", "5",
         "--top-k", "9"]  # fmt: skip


@pytest.fixture
def inspected(box, tmp_path, capsys):
    """inspected(*flags) -> what `instar inspect --view all --format json` says of the decoder, which is in the box as
    it is loaded from its folder."""
    held = box.stock.held["decoder", ""]
    model = deepcopy(held.model).float()
    box.stock.held["decoder", ""] = replace(held, model=model)
    save(model, held.tokenizer, tmp_path / "tiny")

    def said(*flags):
        capsys.readouterr()
        words = ["inspect", "--model", str(tmp_path / "tiny"), TEXT, "--format", "json", "--device", "cpu"]
        assert run([*words, "--dtype", "fp32", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    return said


@pytest.fixture
def few(monkeypatch):
    """Probes are taught by a few stories."""
    monkeypatch.setattr("instar.probe.views.probes.STORIES", 20)
    monkeypatch.setattr("instar.probe.views.probes.MOST", 20)
    monkeypatch.setattr("instar.probe.linear.RESAMPLES", 20)


def untimed(panel):
    """A panel of kv without the seconds that its passes took."""
    if panel["view"] != "kv":
        return panel
    kept = {name: value for name, value in panel.items() if name not in ("figures", "arrays", "data")}
    arrays = {name: value for name, value in panel["arrays"].items() if "seconds" not in name}
    data = {name: value for name, value in panel["data"].items() if "seconds" not in name and name not in TIMES}
    return kept | {"arrays": arrays, "data": data, "figures": [figure["title"] for figure in panel["figures"]]}


@pytest.mark.parametrize("views", [WITHOUT_PROBES, pytest.param(["all"], marks=pytest.mark.slow)], ids=["quick", "all"])
def test_every_view_is_that_of_inspect(ask, inspected, few, views):
    """Known answer "CLI JSON = API JSON": each panel of a kept trace is to the last digit what `instar inspect` writes
    of the same text with the same options, though the box's hook is on every block."""
    told = inspected("--view", *views, *FLAGS)
    trace = ask("trace", model="decoder", text=TEXT)["trace"]
    assert {panel["view"] for panel in told["panels"]} == set(VIEWS if views == ["all"] else views)
    for panel in told["panels"]:
        found = ask("view", trace=trace, view=panel["view"], ask=ASKED)
        assert json.loads(json.dumps(untimed(found))) == untimed(panel), panel["view"]
        assert found["green"]


@pytest.mark.parametrize("view", ["kv", "beam", "generation"])
def test_a_view_that_does_not_apply(ask, view):
    """An encoder keeps no cache and continues nothing: refused, with the reason in both languages."""
    trace = ask("trace", model="encoder", text="Anna had a 球")["trace"]
    with pytest.raises(Unfit) as caught:
        ask("view", trace=trace, view=view)
    assert caught.value.why.zh != caught.value.why.en


def test_proof_is_that_of_inspect(ask, inspected, tmp_path):
    """The checks of the whole pass are those of `instar inspect --check`."""
    file = tmp_path / "proof.json"
    inspected_file = ["--check", "--output", str(file), "--view", "tokens"]
    with suppress(json.JSONDecodeError):  # on the screen are the checks alone
        inspected(*inspected_file)
    told = next(panel for panel in json.loads(file.read_text())["panels"] if panel["view"] == "proof")
    found = ask("view", trace=ask("trace", model="decoder", text=TEXT)["trace"], view="proof")
    assert json.loads(json.dumps(found)) == told


def test_all_views_cost_one_pass(ask, box, monkeypatch):
    """A view whose numbers come of the pass alone runs the model no more: the kept pass is what it draws."""
    trace = ask("trace", model="decoder", text=TEXT)["trace"]
    monkeypatch.setattr("instar.probe.subject.Subject.capture", lambda *_, **__: 1 / 0)
    for layer in (0, 1):
        panel = ask("view", trace=trace, view="attention", ask={"layer": layer})
        assert panel["data"]["layer"] == layer
    assert ask("view", trace=trace, view="lens")["green"]


def test_two_models_in_one_panel(ask, box):
    """vs: both, and their difference, as probe.compare gives it; the second pass is kept with the trace. Against
    itself by another name the difference is 0 everywhere."""
    box.stock.held["twin", ""] = replace(box.stock.held["decoder", ""], id="twin", more={})
    trace = ask("trace", model="decoder", text=TEXT)["trace"]
    before = box.traces.find(trace).bytes
    panel = ask("view", trace=trace, view="lens", vs="other")
    assert panel["green"]
    assert panel["data"]["names"] == ["decoder", "other"]
    assert any(found["largest"] > 0.01 for found in panel["data"]["differences"].values() if "largest" in found)
    assert box.traces.find(trace).bytes > before
    same = ask("view", trace=trace, view="attention", vs="twin")
    assert all(np.abs(array["values"]).max() == 0 for name, array in same["arrays"].items() if "difference/" in name)
    assert [check["name"] for check in same["checks"]].count("hooks") == 1


def test_an_adapter_against_its_base(ask, adapted):
    """vs=base is the same model with its adapter off, and vs=ADAPTER the other way round; afterwards it is on."""
    trace = ask("trace", model="decoder", adapter="tuned", text=TEXT)["trace"]
    panel = ask("view", trace=trace, view="next", vs="base")
    assert panel["data"]["names"] == ["tuned", "base"]
    bare = ask("trace", model="decoder", text=TEXT)["trace"]
    plain = ask("view", trace=bare, view="next")["arrays"]["logits"]["values"]
    np.testing.assert_allclose(panel["arrays"]["other/logits"]["values"], plain)
    assert np.abs(panel["arrays"]["difference/logits"]["values"]).max() > 0.01
    assert adapted.active == ("lora",)
    turned = ask("view", trace=bare, view="next", vs="tuned")
    np.testing.assert_allclose(turned["arrays"]["other/logits"]["values"], panel["arrays"]["one/logits"]["values"])
    with pytest.raises(Trouble, match="no adapter is on"):
        ask("view", trace=bare, view="next", vs="base")


def test_an_encoder_decoder_is_compared_over_the_same_words(ask, box, tiny_of):
    """What the first says of the source is what the second is seen with, which would say something else."""
    held = box.stock.held["pair", ""]
    box.stock.held["second", ""] = replace(held, id="second", model=tiny_of("pair", 9), more={})
    trace = ask("trace", model="pair", text="Anna had")
    ask("view", trace=trace["trace"], view="tokens", vs="second")
    assert box.traces.find(trace["trace"]).beside.look.subject.text == trace["text"]
    assert ask("trace", model="second", text="Anna had")["text"] != trace["text"]
    told = ask("trace", model="pair", text="Anna had", target="a red ball")
    assert ask("view", trace=told["trace"], view="lens", vs="second")["data"]["same_tokens"]


def test_parts_of_a_panel(ask):
    """What is asked for is as in the whole panel, what is not is empty; title, checks and notes are always there."""
    trace = ask("trace", model="decoder", text=TEXT)["trace"]
    whole = ask("view", trace=trace, view="lens")
    empty = {"data": {}, "arrays": {}, "figures": []}
    for parts in ("arrays", "data,figures", ""):
        found = ask("view", trace=trace, view="lens", parts=parts)
        assert found == whole | {part: none for part, none in empty.items() if part not in parts.split(",")}
    with pytest.raises(InputError, match="did you mean arrays"):
        ask("view", trace=trace, view="lens", parts="arays")


def test_the_atlas_of_a_trace_is_computed_once(ask, box, monkeypatch):
    """Panels and pictures of any layer share it, by kind, and its bytes are counted with the trace."""
    trace = ask("trace", model="decoder", text=TEXT)["trace"]
    before = box.traces.find(trace).bytes
    first = ask("view", trace=trace, view="attention", ask={"layer": 0})
    one = ask("atlas", trace=trace, layers=[1, 2])
    drawn = box.traces.find(trace).look.pictures.values()
    assert box.traces.find(trace).bytes == before + sum(picture.nbytes for picture in drawn) > before
    monkeypatch.setattr("instar.probe.views.attention.atlas", lambda *_, **__: 1 / 0)
    again = ask("view", trace=trace, view="attention", ask={"layer": 1, "kind": "norm"})
    assert again["arrays"]["atlas"] == first["arrays"]["atlas"]
    assert ask("atlas", trace=trace, layers=[1, 2]).content == one.content
    with pytest.raises(ZeroDivisionError):
        ask("atlas", trace=trace, kind="sinkless")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (dict(view="lense"), "did you mean lens"),
        (dict(view="lens", ask={"layr": 1}), "did you mean layer"),
        (dict(view="lens", ask={"layer": "1"}), "wanted int"),
        (dict(view="attention", ask={"layer": 7}), "layer=7"),
        (dict(view="attention", ask={"kind": "row"}), "did you mean raw"),
        (dict(view="next", ask={"sampling": {"top_p": 2.0}}), "top_p"),
        (dict(view="tokens", ask={"top": 0}), "top=0"),
        (dict(view="lens", ask={"top": 101}), "at most 100"),
        (dict(view="tokens", vs="nobody"), "no such model"),
    ],
)
def test_what_cannot_be_asked(ask, args, said):
    """Is refused with the reason, and the remedy."""
    trace = ask("trace", model="decoder", text=TEXT)["trace"]
    with pytest.raises((InputError, Trouble), match=said):
        ask("view", trace=trace, **args)


def test_a_trace_that_is_gone(ask):
    """409, which the page answers by tracing again."""
    with pytest.raises(Trouble) as caught:
        ask("view", trace="t99", view="lens")
    assert (caught.value.status, caught.value.code) == (409, "trace_expired")


def test_export(ask):
    """All views that apply as one file, which opens by itself and asks no other server for anything."""
    trace = ask("trace", model="decoder", text=TEXT)["trace"]
    page = ask("export", trace=trace, format="html", views="lens,next", language="zh")
    assert page.media_type.startswith("text/html")
    assert page.name == f"decoder-{trace}.html"
    assert "下一个词元" in page.content.decode()
    told = json.loads(ask("export", trace=trace, format="json", views="lens,next").content)
    assert [panel["view"] for panel in told["panels"]] == ["lens", "next"]
    numbers = ask("export", trace=trace, format="safetensors", views="lens")
    assert numbers.content[8:9] == b"{"
    with pytest.raises(InputError, match="format"):
        ask("export", trace=trace, format="exe")


@pytest.mark.slow
def test_probes_are_fitted_once(ask, few, monkeypatch):
    """Stories teach the probes of a model once, whatever texts are looked at behind that."""
    first = ask("view", trace=ask("trace", model="decoder", text=TEXT)["trace"], view="probes")
    monkeypatch.setattr("instar.probe.views.probes.stories", lambda *_: 1 / 0)
    second = ask("view", trace=ask("trace", model="decoder", text="She gave")["trace"], view="probes")
    assert first["arrays"]["accuracy"] == second["arrays"]["accuracy"]
    assert first["arrays"]["said"] != second["arrays"]["said"]
