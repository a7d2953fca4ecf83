"""A folder is read elsewhere in a process of its own, and a difference is found."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from instar.adapt.quantize import quantize
from instar.config import InputError
from instar.config.presets import preset
from instar.eval import readers
from instar.eval import verify as module
from instar.eval.verify import verify
from instar.hub.files import load_model, save_model
from instar.hub.gguf import ARCHS
from instar.hub.gguf import file as writing
from instar.model.grid import Grid
from instar.model.transformer import Transformer
from instar.text.tokenizer import Tokenizer

TEXTS = ["Once upon a time there was a red ball.", "从前，花园里有一只红色的皮球。"] * 20


@pytest.fixture
def folder(tmp_path):
    """A new model and a small tokenizer with a chat template."""
    tokenizer = Tokenizer.train(TEXTS, 384)
    model = Transformer(preset("nano", vocab_size=tokenizer.vocab_size, d_model=32, layers=2, heads=4), seed=1)
    save_model(model, tmp_path)
    tokenizer.save(tmp_path)
    return tmp_path


def test_transformers_reads_the_same(folder):
    """Every logit, word and id, of texts in two languages and of a chat."""
    pytest.importorskip("transformers")
    report = verify(folder)
    found = report["readers"]["transformers"]
    assert report["same"] is True
    assert found["logit_gap"] < 1e-4
    assert (found["same_words"], found["same_ids"]) == (found["texts"], found["of_ids"]) == (4, 4)


def test_an_encoder_decoder_is_asked_about_sources(tmp_path):
    """Every logit behind a source and what was said of it, and the words of an answer; the gap hears the source."""
    pytest.importorskip("transformers")
    tokenizer = Tokenizer.train(TEXTS, 384)
    shape = dict(vocab_size=tokenizer.vocab_size, d_model=32, layers=1, encoder_layers=2, heads=4, start=5)
    model = Transformer(preset("t5-nano", **shape), seed=1).eval()
    save_model(model, tmp_path)
    tokenizer.save(tmp_path)
    report = verify(tmp_path)
    found = report["readers"]["transformers"]
    assert report["same"] is True
    assert (found["same_words"], found["same_ids"]) == (found["texts"], found["of_ids"]) == (4, 4)
    with torch.no_grad():
        logits = model(torch.tensor([[5, 8, 9]]), source=torch.tensor([[8, 9]]))[0]
    assert module._said(model.config, [8, 9]) == [5, 8, 9]
    assert module._gap(model, [8, 9], [5, 8, 9], logits) < 1e-4 < module._gap(model, [7, 9], [5, 8, 9], logits)


@pytest.mark.parametrize(("shape", "heads"), [("bert-nano", ()), ("modernbert-nano", ("masked",))])
def test_an_encoder_is_asked_about_documents(tmp_path, shape, heads):
    """The ids of a text with what stands before and after it, and every logit or state; no words."""
    pytest.importorskip("transformers")
    tokenizer = Tokenizer.train(TEXTS, 384, masks=True)
    config = preset(shape, vocab_size=tokenizer.vocab_size, d_model=32, heads_of=heads)
    model = Transformer(config, seed=1).eval()
    save_model(model, tmp_path)
    tokenizer.save(tmp_path)
    report = verify(tmp_path)
    found = report["readers"]["transformers"]
    assert report["same"] is True
    assert (found["same_words"], found["same_ids"], found["of_ids"]) == (None, 4, 4)
    row = tokenizer.document(TEXTS[0])
    with torch.no_grad():
        theirs = (model(torch.tensor([row])) if heads else model.hidden(torch.tensor([row])))[0]
    assert module._gap(model, row, [], theirs) == 0
    assert module._gap(model, [*row[:-1], 7], [], theirs) > 1e-4


def test_a_folder_that_another_program_reads_otherwise(folder, monkeypatch):
    """Our model has a weight that the file has not: the gap is seen and the verdict is no."""
    pytest.importorskip("transformers")
    plain = module.load

    def changed(name):
        model, tokenizer = plain(name)
        with torch.no_grad():
            model.blocks[0].attention.out.weight[0] += 1e-3
        return model, tokenizer

    monkeypatch.setattr(module, "load", changed)
    report = verify(folder)
    found = report["readers"]["transformers"]
    assert report["same"] is False
    assert 1e-4 < found["logit_gap"] < 0.1
    assert found["same_words"] == found["texts"]  # the gap alone is the verdict


def test_what_the_other_program_refuses_is_told(folder, monkeypatch):
    """Its last words are the reason, and nothing is raised."""
    pytest.importorskip("transformers")
    plain = module.load(folder)
    monkeypatch.setattr(module, "load", lambda name: plain)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value[:1] for name, value in weights.items()}, folder / "model.safetensors")
    report = verify(folder)
    assert report["same"] is False
    assert report["readers"]["transformers"]["failed"]


def test_a_reader_that_is_missing_is_skipped(folder, monkeypatch):
    """Without other programs there is no verdict."""
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    report = verify(folder)
    assert report["same"] is None
    assert report["readers"]["transformers"]["skipped"] == "transformers is not installed"
    assert report["readers"]["llama.cpp"]["skipped"] == "llama_cpp is not installed"


def test_llama_cpp_reads_the_same(folder):
    """The GGUF file that we write: every logit, word and id, of 200 random strings too."""
    pytest.importorskip("gguf")
    pytest.importorskip("llama_cpp")
    found = verify(folder, readers=["llama.cpp"])["readers"]["llama.cpp"]
    assert found["same"] is True
    assert found["logit_gap"] < found["tolerance"] == 1e-4
    assert (found["same_words"], found["same_ids"]) == (found["texts"], found["of_ids"]) == (4, 204)


def test_a_gguf_file_that_says_something_else(folder, monkeypatch):
    """Queries in the order of another architecture: the gap is seen, and the verdict is no."""
    pytest.importorskip("gguf")
    pytest.importorskip("llama_cpp")
    plain = writing.arch_of
    changes = ARCHS["LlamaForCausalLM"].changes
    monkeypatch.setattr(writing, "arch_of", lambda name, config: replace(plain(name, config), changes=changes))
    report = verify(folder, readers=["llama.cpp"])
    assert report["same"] is False
    assert report["readers"]["llama.cpp"]["logit_gap"] > 1e-2


def test_what_llama_cpp_does_not_know_is_skipped_with_the_reason(tmp_path, monkeypatch):
    """No file is written and nothing is started; the other reader's verdict stands."""
    pytest.importorskip("gguf")
    tokenizer = Tokenizer.train(TEXTS, 384)
    shape = dict(vocab_size=tokenizer.vocab_size, d_model=32, layers=1, act="relu")
    save_model(Transformer(preset("nano", **shape), seed=1), tmp_path)
    tokenizer.save(tmp_path)
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    report = verify(tmp_path, readers=["llama.cpp"])
    assert report["same"] is None
    skipped = report["readers"]["llama.cpp"]["skipped"]
    assert skipped == "act='relu'; llama.cpp computes qwen3 with 'silu' alone"


def test_a_gguf_file_is_not_read(folder):
    """It is checked from the folder that it came from."""
    with pytest.raises(InputError, match=r"x\.gguf is a GGUF file, which we write and do not read; verify the folder"):
        verify(folder / "x.gguf")


def test_a_quantised_folder_without_its_library(folder, monkeypatch, tmp_path):
    """It is skipped, with what is missing; that is no verdict on the folder."""
    pytest.importorskip("transformers")
    model = load_model(folder)
    quantize(model, Grid(8, 0, True))
    save_model(model, folder)
    monkeypatch.setattr(readers, "find_spec", lambda name: None)
    report = verify(folder)
    assert "pip install compressed-tensors" in report["readers"]["transformers"]["skipped"]
    assert report["same"] is None
