"""One figure for models of every kind."""

import math

import pytest
import torch

from instar.config import ModelConfig
from instar.data.sources import Document, read
from instar.eval.masked import hide, report, restore
from instar.eval.perplexity import measure
from instar.eval.reading import reading_of, usual_data
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

SIZES = dict(d_model=32, layers=1, heads=2, kv_heads=2, d_ff=32, max_positions=128)


@pytest.fixture(scope="module")
def tokenizer():
    texts = [document.text for document in read(["world:stories?count=40&seed=7"])]
    return Tokenizer.train(texts, 400, masks=True)


def documents(tokenizer, *records):
    return [Document(record, "here", number) for number, record in enumerate(records, 1)]


def test_a_decoder_foresees_texts(tokenizer):
    """The perplexity that `instar eval` gives."""
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **SIZES)).eval()
    texts = ["Anna gave Tom a ball.", "Tom went home."]
    found = reading_of(model)(model, tokenizer, documents(tokenizer, *({"text": text} for text in texts)))
    assert found == pytest.approx(measure(model, tokenizer, texts).perplexity)


def test_of_dialogues_the_replies(tokenizer):
    """Only what the assistant says counts, behind what the template writes before it, its end with it."""
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **SIZES)).eval()
    messages = [{"role": "user", "content": "Where is Tom?"}, {"role": "assistant", "content": "At home."}]
    found = reading_of(model)(model, tokenizer, documents(tokenizer, {"messages": messages}))
    chat = tokenizer.chat(messages)
    with torch.inference_mode():
        logprobs = model(torch.tensor([chat.ids[:-1]]))[0].log_softmax(-1)
    said = [-float(logprobs[place, id]) for place, id in enumerate(chat.ids[1:]) if chat.teaches[place + 1]]
    assert 1 < len(said) < len(chat.ids) - 1
    assert found == pytest.approx(math.exp(sum(said) / len(said)), rel=1e-4)


def test_an_encoder_decoder_foresees_targets(tokenizer):
    """Behind their sources; the built-in world has such pairs."""
    config = ModelConfig(**SIZES | dict(vocab_size=tokenizer.vocab_size, encoder_layers=1, start=0, max_positions=512))
    model = Transformer(config).eval()
    found = list(read([usual_data(model)[0].replace("count=400", "count=3")]))
    assert reading_of(model)(model, tokenizer, found) == pytest.approx(tokenizer.vocab_size, rel=0.5)


def test_a_masked_model_restores(tokenizer):
    """What was hidden, as the metric masked hides it."""
    config = ModelConfig(vocab_size=tokenizer.vocab_size, causal=False, heads_of=("masked",), **SIZES)
    model = Transformer(config).eval()
    texts = ["Anna gave Tom a ball.", "Tom went home."]
    found = reading_of(model)(model, tokenizer, documents(tokenizer, *({"text": text} for text in texts)))
    assert found == pytest.approx(report(list(restore(model, hide(model, tokenizer, texts))))["perplexity"])


def test_a_model_that_names_no_tokens(tokenizer):
    """It reads, and there is no figure."""
    config = ModelConfig(vocab_size=tokenizer.vocab_size, causal=False, heads_of=(), **SIZES)
    model = Transformer(config).eval()
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda block, given: seen.append(given[0].shape[1]))
    assert reading_of(model)(model, tokenizer, documents(tokenizer, {"text": "Tom went home."})) is None
    assert seen
