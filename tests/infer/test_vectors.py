"""One vector a text."""

from dataclasses import replace

import pytest
import torch

from instar.config import InputError
from instar.config.presets import preset
from instar.infer.vectors import embed
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

TEXTS = ["The red ball.", "A", "走吧，王明。", "The red ball rolled into the garden and stayed there."]
TOKENIZER = Tokenizer.train(TEXTS * 3, 384, masks=True)
BARE = preset(
    "bert-nano", vocab_size=TOKENIZER.vocab_size, d_model=32, layers=2, heads=4, max_positions=64, heads_of=(),
    pooling="mean", normalised=True,
)  # fmt: skip
MODEL = Transformer(BARE, seed=3).eval()


@torch.no_grad()
def test_vectors_are_the_models_own_in_the_order_of_the_texts():
    """Whatever stands beside a text and however many are read at once, its vector is that of the text alone."""
    wanted = torch.cat([MODEL(torch.tensor([TOKENIZER.document(text)])) for text in TEXTS])
    for batch in (1, 3, 32):
        assert (embed(MODEL, TOKENIZER, TEXTS, batch=batch) - wanted).abs().max() < 1e-6
    assert embed(MODEL, TOKENIZER, []).shape == (0, 32)


@torch.no_grad()
def test_an_encoder_that_restores_words_has_vectors_too():
    """Its head has no part in them, and its config says how they are read off."""
    model = Transformer(replace(BARE, heads_of=("masked",), pooling="first", normalised=False), seed=3).eval()
    wanted = torch.cat([model.hidden(torch.tensor([TOKENIZER.document(text)]))[:, 0] for text in TEXTS])
    assert (embed(model, TOKENIZER, TEXTS, pooling="last") - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("encoder_layers", [0, 2])
@torch.no_grad()
def test_other_models_have_vectors_of_length_one(pooling, encoder_layers):
    """Of a decoder, or of the encoder of an encoder-decoder: the mean of all states or the last one, padding left
    out."""
    config = preset("nano", vocab_size=TOKENIZER.vocab_size, d_model=32, layers=2, heads=4, max_positions=64)
    model = Transformer(replace(config, encoder_layers=encoder_layers, kv_heads=4), seed=3).eval()
    for text, vector in zip(TEXTS, embed(model, TOKENIZER, TEXTS, pooling=pooling)):
        ids = torch.tensor([TOKENIZER.document(text)])
        states = (model.encode(ids) if encoder_layers else model.hidden(ids))[0]
        wanted = states.mean(0) if pooling == "mean" else states[-1]
        assert (vector - wanted / wanted.norm()).abs().max() < 1e-5
    far = embed(model, TOKENIZER, TEXTS[1:2], pooling="mean") - embed(model, TOKENIZER, TEXTS[1:2], pooling="last")
    assert far.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "texts", "message"),
    [
        (dict(heads_of=("classify",), labels=2), TEXTS, "model without a head, or with that of a language model"),
        (dict(max_positions=8), TEXTS, "text 3 has .* tokens, and the model reads 1 to 8"),
    ],
)
def test_what_has_no_vector_is_refused(changes, texts, message):
    """A model that says classes, and a text that is too long, which is never cut."""
    with pytest.raises(InputError, match=message):
        embed(Transformer(replace(BARE, **changes)).eval(), TOKENIZER, texts)


def test_a_model_in_training_rests_for_its_vectors():
    """Dropout has no part in them, and training goes on afterwards."""
    model = Transformer(replace(BARE, dropout=0.5), seed=3).train()
    assert torch.equal(embed(model, TOKENIZER, TEXTS), embed(model, TOKENIZER, TEXTS))
    assert model.training
