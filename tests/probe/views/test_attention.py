"""The view of attention: what is drawn is what was computed, in every kind, level and stack."""

import json
from dataclasses import replace

import pytest
import torch

from instar.config import InputError, ModelConfig
from instar.config.options.inspecting import InspectOptions
from instar.model.attention import Attend
from instar.model.transformer import Transformer
from instar.probe import routing
from instar.probe.look import Look
from instar.probe.panel import Arcs, Atlas, Matrix, Strip
from instar.probe.subject import Subject, Token, read_ids
from instar.probe.views.attention import attention

PLAIN = ModelConfig(vocab_size=31, d_model=16, layers=2, heads=4, kv_heads=2, max_positions=64, tied=False)
MODELS = {
    "decoder": PLAIN,
    "encoder": replace(PLAIN, causal=False, heads_of=("masked",)),
    "pair": replace(PLAIN, encoder_layers=3, start=1),
}
TEXT = "小狗 bit the man"
PIECES = (("<s>", -1, -1), ("小", 0, 1), ("狗", 1, 2), (" bi", 2, 5), ("t", 5, 6), (" the", 6, 10), (" man", 10, 14))


@pytest.fixture(scope="module", params=MODELS)
def subject(request):
    """Seven tokens, five words and a control token, and a source of the same."""
    model = Transformer(MODELS[request.param]).eval()
    with torch.no_grad():
        for block in model.all_blocks():
            block.attention.q.weight *= 3
    tokens = tuple(Token(id, piece, piece.encode(), start, end) for id, (piece, start, end) in enumerate(PIECES, 3))
    pair = request.param == "pair"
    return Subject(model, None, TEXT, tokens, TEXT if pair else "", tokens if pair else ())


def view(subject, **asked):
    return attention(Look(subject, InspectOptions(**asked)))


def sides(subject):
    return ("encoder", "decoder", "cross") if subject.source else ("auto",)


@pytest.mark.parametrize("kind", ["raw", "sinkless", "norm", "rollout"])
@pytest.mark.parametrize("level", ["token", "word"])
def test_every_kind_of_every_side(subject, kind, level):
    """Green checks, JSON without loss, four pictures, shapes as they are told, no number that is none."""
    for side in sides(subject):
        if kind == "rollout" and side == "cross":
            with pytest.raises(InputError, match="kind=rollout follows one text"):
                view(subject, kind=kind, side=side)
            continue
        panel = view(subject, kind=kind, level=level, side=side, layer=1, head=2, at=3)
        assert panel.green, [check for check in panel.checks if not check.green]
        assert json.loads(json.dumps(panel.data))["kind"] == kind
        assert [type(figure) for figure in panel.figures] == [Matrix, Strip, Arcs, Atlas]
        size, heads = (7 if level == "token" else 6), (1 if kind == "rollout" else 4)
        layers = len((subject.model.encoder if side == "encoder" else subject.model).blocks)
        assert panel.arrays["weights"].shape == (heads, size, size)
        assert panel.arrays["shown"].shape == (size, size)
        assert panel.arrays["atlas"].shape == (layers, heads, 7, 7)
        assert all(torch.from_numpy(array).isfinite().all() for array in panel.arrays.values())
        assert len(panel.figures[0].rows) == len(panel.figures[1].tokens) == size


def test_what_is_drawn_is_what_was_computed(subject):
    """One head, and the mean of all; the row of the token that is asked about; the strongest pair."""
    look = Look(subject, InspectOptions(layer=0, head=3, at=5))
    weights = look.side.attended[0].weights()[0]
    panel = attention(look)
    assert torch.equal(torch.from_numpy(panel.arrays["shown"]), weights[3])
    assert panel.data["row"] == weights[3, 5].tolist() == list(panel.figures[1].values)
    mean = view(subject, layer=0)
    torch.testing.assert_close(torch.from_numpy(mean.arrays["shown"]), weights.mean(0))
    best = mean.data["strongest"][0]
    later = weights.mean(0)[1:] if look.side.causal else weights.mean(0)
    assert best["weight"] == pytest.approx(float(later.max()))
    assert best["pair"] == [PIECES[best["from"]][0], PIECES[best["to"]][0]]


def test_by_words(subject):
    """Bytes and pieces of one word are one row, the token that is asked about stands in it, and rows add up to 1."""
    panel = view(subject, level="word", at=4)
    assert panel.figures[0].rows == ["<s>", "小", "狗", "bit", "the", "man"]
    assert panel.data["words"] == [(0, 1), (1, 2), (2, 3), (3, 5), (5, 6), (6, 7)]
    assert panel.data["at"] == 3
    assert panel.arrays["shown"].sum(-1).tolist() == pytest.approx([1.0] * 6, abs=1e-5)


def test_a_head_that_is_idle_here_is_told():
    """A head whose keys all stand apart from the first leaves everything to it: a state that a note names."""
    model = Transformer(replace(PLAIN, positions="none", layers=1, norm="none", qk_norm=False)).eval()
    with torch.no_grad():
        model.embed.weight.zero_()[:, 0] = 1.0
        model.embed.weight[3, 1] = 1.0  # the first token alone has channel 1, and heads 0 and 1 look for it
        block = model.blocks[0].attention
        block.q.weight.zero_()[:8:4, 0] = 20.0
        block.k.weight.zero_()[0, 1] = 1.0
    panel = attention(Look(read_ids(model, [3, 5, 6, 7]), InspectOptions()))
    assert panel.data["sink"]["idle"] == [0, 1]
    assert any("head 0, 1 leaves more than 0.9" in note.en for note in panel.notes)
    assert any("第 0, 1 头" in note.zh for note in panel.notes)


def test_a_long_text_keeps_its_matrix_and_says_which_arcs_are_drawn():
    """Arcs of 50 tokens would hide each other: those near the token are drawn, the matrix and the arrays are whole."""
    model = Transformer(PLAIN).eval()
    panel = attention(Look(read_ids(model, [n % 31 for n in range(50)]), InspectOptions(at=25)))
    assert panel.arrays["shown"].shape == (50, 50)
    assert panel.arrays["atlas"].shape == (2, 4, 32, 32)
    arcs = panel.figures[2]
    assert len(arcs.tokens) == 32
    assert all(0 <= key < query < 32 for query, key, _ in arcs.arcs)
    weight = {(query + 9, key + 9): value for query, key, value in arcs.arcs}
    assert weight == {pair: pytest.approx(float(panel.arrays["shown"][pair])) for pair in weight}
    assert "32 tokens" in panel.notes[-1].en


def test_one_token_and_what_does_not_exist():
    """A text of one token is drawn; a layer, head, token or side that is not there is named."""
    model = Transformer(PLAIN).eval()
    for kind in ("raw", "sinkless", "norm", "rollout"):
        assert attention(Look(read_ids(model, [4]), InspectOptions(kind=kind))).green
    for asked, told in (
        ({"layer": 2}, "layer=2, wanted 0 to 1"), ({"head": 4}, "head=4, wanted 0 to 3"), ({"at": 1}, "at=1"),
        ({"side": "cross"}, "side=cross"), ({"side": "encoder"}, "side=encoder"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=told):
            attention(Look(read_ids(model, [4]), InspectOptions(**asked)))


def test_a_wrong_kernel_turns_the_panel_red(monkeypatch):
    """The chips are computed on this very text: a kernel that does not do what is drawn is seen."""
    plain = Attend.forward
    monkeypatch.setattr(Attend, "forward", lambda self, q, *more: plain(self, 2 * q, *more))
    panel = attention(Look(read_ids(Transformer(PLAIN).eval(), [4, 7, 9]), InspectOptions()))
    assert [check.name for check in panel.checks if not check.green] == ["weights_values"]


def test_every_note_is_in_both_languages(subject):
    """No title or note is left empty in one of them."""
    for kind in ("raw", "sinkless", "norm", "rollout"):
        panel = view(subject, kind=kind, level="word", side=sides(subject)[0])
        said = [panel.title, *panel.notes, *(figure.title for figure in panel.figures)]
        assert all(words.en and words.zh and words.en != words.zh for words in said)


def test_the_sink_is_the_frame_of_an_encoder(subject):
    """Control tokens where all is seen at once, the first token of a decoder: with the share of each head."""
    panel = view(subject, side=sides(subject)[0])
    assert panel.data["sink"]["keys"] == [0]
    raw = torch.from_numpy(panel.arrays["weights"])
    assert panel.data["sink"]["shares"] == pytest.approx(routing.sunk(raw).tolist())


def test_more_than_memory_holds_is_refused(monkeypatch):
    """Before it is taken, with what is needed and what there is."""
    monkeypatch.setattr("instar.probe.memory.BUDGET", 100)
    look = Look(read_ids(Transformer(PLAIN), [1, 2, 3]), InspectOptions())
    with pytest.raises(InputError, match=r"attention of this layer to this text needs about 0.0 GB.* shorten the text"):
        attention(look)


def test_a_rollout_has_no_head(subject):
    """It goes over all of them; a head that was asked for is not left unsaid."""
    said = [
        any(
            "changes nothing here" in note.en
            for note in attention(Look(subject, InspectOptions(kind="rollout", head=head))).notes
        )
        for head in (-1, 1)
    ]
    assert said == [False, True]
