"""What is said of a model whatever it reads, and the pieces of its vocabulary."""

import base64

import pytest

from instar.config import InputError
from instar.probe.ground import order_lab
from instar.serve.glass.ops import profiles
from instar.serve.glass.trouble import Trouble


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(profiles, "_profiles", type(profiles._profiles)())


def test_heads_of_probe_sets_are_computed_once(ask, box, monkeypatch):
    """As long as nobody has written other weights, which are measured anew."""
    told = ask("heads", model="ids")
    assert told["view"] == "heads"
    assert told["green"]
    assert len(told["data"]["heads"]) == 8
    monkeypatch.setitem(profiles.VIEWS, "heads", lambda look: 1 / 0)
    assert ask("heads", model="ids", set="probe") == told
    box.stock.held["ids", ""].changed = 9.0
    with pytest.raises(ZeroDivisionError):
        ask("heads", model="ids")


def test_heads_on_a_text(ask):
    """The corpus is the user's own text: the same panel as the view of a trace of it."""
    told = ask("heads", model="decoder", set="corpus", text="Anna had a ball. Anna had")
    trace = ask("trace", model="decoder", text="Anna had a ball. Anna had")["trace"]
    assert told == ask("view", trace=trace, view="heads")
    with pytest.raises(InputError, match="set=corpus"):
        ask("heads", model="decoder", text="Anna")
    with pytest.raises(Trouble, match="nothing to read"):
        ask("heads", model="decoder", set="corpus")


def test_two_orders(ask, box):
    """Known answer "Order lab": what probe.ground finds, with positions told and untold."""
    held = box.stock.held["decoder", ""]
    told = ask("order", model="decoder", one="狗咬人。", other="人咬狗。")
    found = order_lab(held.model, held.tokenizer, "狗咬人。", "人咬狗。")
    assert told["reordered"] == found.reordered
    assert told["told"]["apart"] == pytest.approx(found.told.apart)
    assert told["told"]["by_layer"] == pytest.approx(found.told.by_layer)
    assert told["untold"]["kl"] == pytest.approx(found.untold.kl)
    assert b"".join(base64.b64decode(token["b64"]) for token in told["one"]).decode() == "狗咬人。"
    assert [len(top) for top in told["told"]["top"]] == [profiles.NUMBERS] * 2
    with pytest.raises(InputError, match="no tokenizer"):
        ask("order", model="ids", one="a", other="b")


def test_pieces(ask, box):
    """Of ids and of a text; control tokens by their names."""
    tokenizer = box.stock.held["decoder", ""].tokenizer
    ids = tokenizer.encode("Anna 狗")
    told = ask("vocabulary", model="decoder", text="Anna 狗")["pieces"]
    assert [one["id"] for one in told] == ids
    assert b"".join(base64.b64decode(one["b64"]) for one in told).decode() == "Anna 狗"
    assert ask("vocabulary", model="decoder", ids=ids)["pieces"] == told
    name, id = next(iter(tokenizer.specials.items()))
    assert ask("vocabulary", model="decoder", ids=[id])["pieces"] == [
        {"id": id, "piece": name, "b64": "", "special": True}
    ]
    assert ask("vocabulary", model="ids", ids=[7])["pieces"][0]["piece"] == "7"
    with pytest.raises(InputError, match="99999"):
        ask("vocabulary", model="decoder", ids=[99999])
    with pytest.raises(InputError, match="at most"):
        ask("vocabulary", model="decoder", ids=[1] * 5000)
