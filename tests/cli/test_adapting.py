"""`instar quantize`."""

import json

import pytest
import torch

import instar
from instar.model.quantized import quantized

DATA = ["--data", "world:stories?count=12&seed=5"]


@pytest.fixture(scope="module")
def folder(grown, tmp_path_factory):
    """A quantised model of 4 bits, not to be changed, and what its command wrote."""
    from instar.cli import run

    out = tmp_path_factory.mktemp("quantised") / "q"
    assert run(["quantize", "--model", grown.sft, "--bits", "4", "--out", str(out), *DATA, "--quiet"]) == 0
    return out


def test_what_it_tells(grown, cli, tmp_path):
    """Perplexity before and after on every second document, sizes, layers and products, and the same in report.json."""
    out = tmp_path / "q"
    said = cli("quantize", "--model", grown.sft, "--out", out, *DATA, "--json").json
    assert (said["bits"], said["group"], said["symmetric"], said["documents"]) == (8, 0, True, 6)
    assert said["perplexity_after"] == pytest.approx(said["perplexity_before"], rel=0.01)
    assert said["change"] == pytest.approx(said["perplexity_after"] / said["perplexity_before"] - 1)
    assert said["bytes_after"] < 0.7 * said["bytes_before"]
    assert said["layers"] == sum(row["layers"] for row in said["kernels"])
    assert json.loads((out / "report.json").read_text()) == said


def test_the_table(grown, cli, tmp_path):
    """People read the same figures."""
    result = cli("quantize", "--model", grown.sft, "--bits", 4, "--asymmetric", "--out", tmp_path / "q", *DATA)
    assert result.status == 0
    for words in ("perplexity", "4 bits", "products here", "on 6"):
        assert words in result.out
    assert "zero points" in result.err


def test_the_folder_speaks_and_is_measured(folder, cli):
    """Every command that reads a model reads it: load, generate, eval."""
    model, _ = instar.load(folder)
    assert {layer.grid.group for _, layer in quantized(model)} == {32}
    assert cli("generate", "--model", folder, "--prompt", "Anna", "--max-new-tokens", 3).status == 0
    assert cli("eval", "--model", folder, *DATA, "--json").json["perplexity"] > 1
    assert cli("generate", "--model", folder, "--prompt", "Anna", "--max-new-tokens", 3, "--dtype", "bf16").status == 0


def test_transformers_reads_it(folder):
    """Where compressed-tensors is installed, transformers loads the folder and says the same."""
    pytest.importorskip("compressed_tensors")
    transformers = pytest.importorskip("transformers")
    model, _ = instar.load(folder)
    tokens = torch.arange(5, 25)[None]
    with torch.inference_mode():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(tokens).logits
        ours = model(tokens)
    assert float((theirs - ours).abs().max() / theirs.std()) < 1e-4


WRONG = {
    "three bits": (["--bits", "3"], "bits=3"),
    "a group of 48": (["--group", "48"], "group=48"),
    "one document": (["--limit", "1"], "limit=1"),
    "too little data": (["--data", "world:stories?count=1"], "1 documents"),
    "no data": (["--data", "missing.txt"], "missing.txt"),
    "a group that divides no row": (["--group", "128"], "multiples of 128"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(case, grown, cli, tmp_path):
    """Exit 2 with what was found and wanted; nothing is left behind."""
    words, said = WRONG[case]
    result = cli("quantize", "--model", grown.sft, "--out", tmp_path / "q", *words)
    assert result.status == 2
    assert said in result.err
    assert not (tmp_path / "q").exists()


def test_where_it_makes_no_sense(folder, grown, cli, tmp_path):
    """A quantised model is not quantised again, exported or trained; a folder that is there is not written into."""
    for words in (
        ["quantize", "--model", folder, "--out", tmp_path / "q", *DATA],
        ["export", "--model", folder, "--format", "hf", "--out", tmp_path / "q"],
        ["sft", "--model", folder, "--data", "world:dialogues?count=20", "--out", tmp_path / "q"],
    ):
        result = cli(*words)
        assert result.status == 2
        assert "quantised" in result.err
        assert not (tmp_path / "q").exists()
    result = cli("quantize", "--model", grown.sft, "--out", folder, *DATA)
    assert result.status == 2
    assert "there already" in result.err
