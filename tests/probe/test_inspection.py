"""`inspect`: views of a text, of one model or of two, and how they are kept."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import instar
from instar.adapt.lora import attach
from instar.config import InputError, ModelConfig
from instar.config.options import LoraOptions
from instar.model.transformer import Transformer
from instar.probe import inspection
from instar.probe.draw import charted
from instar.probe.inspection import inspect, numbered
from instar.probe.panel import Check, Matrix, Panel, Strip, Unfit, Words
from instar.probe.views import VIEWS
from instar.text.tokenizer import Tokenizer

TINY = dict(vocab_size=60, d_model=16, layers=2, heads=2, max_positions=32)
IDS = [5, 9, 11, 5]
T = Words("logits", "逻辑值")


def tiny(seed=0, **shape):
    return Transformer(ModelConfig(**(TINY | shape)), seed=seed).eval()


def logits(look):
    """A view that needs a head with words: what is said of the last token."""
    said = look.trace.logits()[0].detach().numpy()
    tokens = [{"id": token.id, "piece": token.piece} for token in look.tokens]
    good = Check("finite", float(not np.isfinite(said).all()), 0.0, T)
    return Panel("logits", T, {"tokens": tokens}, {"logits": said}, [Matrix(T, said, scale="plain")], [good])


def decoders_alone(look):
    if look.side.name != "decoder":
        raise Unfit(Words("an encoder has no cache", "编码器没有缓存"))
    return Panel("decoders", T, {"tokens": []}, checks=[Check("always", 1.0, 0.5, T)])


@pytest.fixture
def views(monkeypatch):
    """Two small views instead of all."""
    known = {"logits": logits, "decoders": decoders_alone}
    monkeypatch.setattr(inspection, "VIEWS", known)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([f"{name} has the ball." for name in ("Ada", "Ben", "Cleo")] * 9, 290)


def test_the_public_name():
    """instar.inspect gives an Inspection of the view that was asked for, and every view goes by its file's name."""
    found = instar.inspect(tiny(), None, IDS)
    assert isinstance(found, instar.Inspection)
    assert [panel.view for panel in found.panels] == ["attention"]
    assert found.green
    assert {check.name for _, check in found.checks}
    assert all(sys.modules[view.__module__].__name__ == f"instar.probe.views.{name}" for name, view in VIEWS.items())


def test_all_takes_what_applies_and_says_the_rest(views):
    """Of an encoder one view is left out with its reason; asked for by name, it is an error."""
    encoder = tiny(causal=False, heads_of=("masked",))
    found = inspect(encoder, None, IDS, "all")
    assert [panel.view for panel in found.panels] == ["logits"]
    assert found.left_out == {"decoders": ("an encoder has no cache", "编码器没有缓存")}
    with pytest.raises(InputError, match="an encoder has no cache"):
        inspect(encoder, None, IDS, ["logits", "decoders"])
    both = inspect(tiny(), None, IDS, "all")
    assert [panel.view for panel in both.panels] == ["logits", "decoders"]
    assert not both.green


def test_a_model_and_itself_do_not_differ(views):
    """Compared with a copy of itself every difference is 0; with another seed it is what subtraction gives."""
    one, other = tiny(0), tiny(1)
    alone = inspect(one, None, IDS, "logits", vs=tiny(0))
    assert alone.panels[0].data["differences"] == {"logits": {"largest": 0.0, "mean": 0.0}}
    found = inspect(one, None, IDS, "logits", vs=other, names=("a", "b"))
    gaps = (one(torch.tensor([IDS])) - other(torch.tensor([IDS])))[0].detach().numpy()
    np.testing.assert_allclose(found.panels[0].arrays["difference/logits"], gaps, atol=1e-6)
    assert found.panels[0].data["differences"]["logits"]["largest"] == pytest.approx(np.abs(gaps).max(), rel=1e-5)
    assert [(view, check.name) for view, check in found.checks] == [("logits", "finite")]
    assert found.panels[0].title.en == "logits · a vs b"


def test_against_the_base_of_an_adapter(views):
    """vs="base" turns the adapter off for the second look alone, and it is on again afterwards."""
    model, plain = tiny(), tiny()
    attach(model, "learnt", LoraOptions(rank=2))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".b"):
                weight.normal_(generator=generator)
    found = inspect(model, None, IDS, "logits", vs="base").panels[0]
    np.testing.assert_array_equal(found.arrays["other/logits"], logits_of(plain))
    np.testing.assert_array_equal(found.arrays["one/logits"], logits_of(model))
    assert found.data["differences"]["logits"]["largest"] > 0.01
    assert model.active == ("learnt",)
    with pytest.raises(InputError, match="no adapter is on the model"):
        inspect(plain, None, IDS, "logits", vs="base")


def logits_of(model):
    return model(torch.tensor([IDS]))[0].detach().numpy()


@pytest.mark.parametrize("way", ["text", "ids"])
def test_two_encoder_decoders_are_seen_with_the_same_words(views, tokenizer, way):
    """Without a target the first model says something, and the second is seen with that."""
    shape = dict(encoder_layers=1, vocab_size=tokenizer.vocab_size, start=0, max_positions=64)
    text, words = ("Ada has", tokenizer) if way == "text" else ([70, 80, 81], None)
    panel = inspect(tiny(0, **shape), words, text, "logits", vs=tiny(1, **shape)).panels[0]
    assert panel.data["same_tokens"]
    assert len(panel.data["tokens"]) > 1
    assert panel.arrays["difference/logits"].any()


def test_other_vocabularies_stand_side_by_side(views, tokenizer):
    """Each reads the text by its own tokenizer; where tokens differ, nothing is subtracted."""
    coarse = Tokenizer.train(["Ada has the ball."] * 9, 270)
    pair = (tiny(1, vocab_size=coarse.vocab_size, max_positions=64), coarse)
    one = tiny(0, vocab_size=tokenizer.vocab_size, max_positions=64)
    panel = inspect(one, tokenizer, "Ben has the ball.", "logits", vs=pair).panels[0]
    assert panel.data["differences"] == {}
    assert "read other tokens" in panel.notes[0].en


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"view": "logit"}, "unknown view logit; did you mean logits"),
        ({"view": ()}, "found no view"),
        ({"layr": 1}, "unknown option layr; did you mean layer"),
        ({"layer": 2}, "layer=2, wanted 0 to 1, or -1 for the last"),
        ({"head": 2}, "head=2, wanted 0 to 1, or -1 for the mean"),
        ({"at": 4}, "at=4, wanted 0 to 3"),
        ({"side": "cross"}, "side=cross, and the model is a decoder alone"),
        ({"text": "Ada"}, "found a text and no tokenizer"),
        ({"text": [60]}, "ids: found 60, wanted 0 to 59"),
        ({"target_ids": (3,)}, "found target ids, and a model without an encoder"),
        ({"vs": "runs/other"}, "wanted a model, a model with its tokenizer, or 'base'"),
        ({"vs": tiny(layers=1), "layer": 1}, "other: layer=1, wanted 0 to 0"),
    ],
)
def test_what_cannot_be_asked(views, changes, message):
    """Each mistake names what was found and what was wanted."""
    with pytest.raises(InputError, match=message):
        inspect(**({"model": tiny(), "tokenizer": None, "text": IDS, "view": "logits"} | changes))


def test_files(views, tmp_path):
    """The ending says the format; every format holds what was computed; several pictures are numbered."""
    found = inspect(tiny(), None, IDS, "all")
    for ending in ("txt", "json", "html", "safetensors"):
        (path,) = found.save(tmp_path / f"a.{ending}")
        assert path.stat().st_size
    arrays = load_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(arrays["logits/logits"].numpy(), found.panels[0].arrays["logits"])
    said = json.loads((tmp_path / "a.json").read_text())
    assert said["panels"][0]["arrays"]["logits"]["values"] == found.panels[0].arrays["logits"].tolist()
    assert found.record()["panels"] == said["panels"]
    assert found.record()["green"] is False
    assert [path.name for path in found.save(tmp_path / "b.svg")] == ["b.svg"]
    pair = inspect(tiny(), None, IDS, "logits", vs=tiny(1))
    assert [path.name for path in pair.save(tmp_path / "c.svg")] == ["c-1.svg", "c-2.svg", "c-3.svg"]
    assert all((tmp_path / f"c-{n}.svg").read_text().startswith("<svg") for n in (1, 2, 3))
    for name, message in (("a.pdf", "has the ending .pdf, wanted one of .txt"), ("a", "has no ending")):
        with pytest.raises(InputError, match=message):
            found.save(tmp_path / name)
    with pytest.raises(InputError, match="no picture to write as svg"):
        inspect(tiny(), None, IDS, "decoders").save(tmp_path / "d.svg")


def test_numbers_of_files_sort(tmp_path):
    """Of twelve the third is 03."""
    assert numbered(tmp_path / "a.svg", 2, 12).name == "a-03.svg"


def test_in_a_notebook_and_on_a_terminal(views):
    """The result draws itself, in the language that was asked for."""
    found = inspect(tiny(), None, IDS, "logits", language="zh")
    assert "逻辑值" in found._repr_html_()
    assert "逻辑值" in str(found)
    assert "logits" in str(inspect(tiny(), None, IDS, "logits"))


def test_files_say_of_what(views, tmp_path):
    """JSON, the metadata of safetensors and the title of an SVG name the model, ids and what was asked."""
    found = inspect(tiny(), None, np.array(IDS), "logits", names=("mine", "other"), top=7, sampling={"top_k": 3})
    record = found.record()
    assert (record["model"], record["token_ids"], record["green"]) == ("mine", IDS, True)
    assert record["options"] == {"top": 7, "sampling.top_k": 3}
    found.save(tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        assert json.loads(file.metadata()["instar"])["of"]["token_ids"] == IDS
    (path,) = found.save(tmp_path / "a.svg")
    assert "<title>logits · mine · 5 9 11 5 · top=7, sampling.top_k=3</title>" in path.read_text()
    assert "mine" in found._repr_html_()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (dict(method="integrate"), "unknown value for method: integrate; did you mean integrated?"),
        (dict(layer="2"), "layer: found '2' (str), wanted int"),
        (dict(text=[5, "a"]), "ids[1]: found 'a' (str), wanted int"),
        (dict(text=7), "ids: found 7 (int)"),
        (dict(target=3), "target: found 3 (int), wanted str"),
        (dict(sampling="greedy"), "sampling: found str, wanted SamplingOptions"),
        (dict(top=0), "top=0, wanted at least 1"),
        (dict(view=3), "unknown view 3"),
        (dict(lyer=1), "unknown option lyer; did you mean layer?"),
    ],
)
def test_what_is_asked_is_checked_as_flags_are(views, ask, message):
    """Names, values and types, with the nearest word."""
    with pytest.raises(InputError) as error:
        inspect(tiny(), None, ask.pop("text", IDS), ask.pop("view", "logits"), **ask)
    assert message in str(error.value)


def test_what_cannot_be_drawn_is_said(monkeypatch, tmp_path):
    """A PNG without matplotlib leaves figures out, by name and with the remedy; an ending contradicts no format."""
    monkeypatch.setattr(charted, "plotting", lambda: False)
    figures = [Matrix(T, np.eye(2)), Strip(Words("tokens", "词"), ["a"], [1.0])]
    found = inspection.Inspection((Panel("v", T, figures=figures),))
    with pytest.warns(UserWarning, match=r"not drawn.*instar\[plot\].*tokens"):
        assert found.save(tmp_path / "a.png") == [tmp_path / "a.png"]
    with pytest.raises(InputError, match="has the ending of html, and the format is json"):
        found.save(tmp_path / "a.html", "json")
