"""`instar inspect`: what it shows, writes and refuses."""

import json
import shutil

import pytest
from safetensors.torch import load_file

from instar.config.options.inspecting import View
from instar.probe.panel import Check, Panel, Words
from instar.probe.views import VIEWS

TEXT = "Anna has a ball."


@pytest.fixture
def inspect(grown, cli):
    """inspect(words...): of the grown model after SFT."""
    return lambda *words: cli("inspect", "--model", grown.sft, *words)


def test_text_on_the_screen(inspect):
    """Attention by default, with its checks below; in Chinese where that is asked for."""
    shown = inspect(TEXT)
    assert shown.status == 0
    assert shown.out.startswith("Attention: decoder, layer 1, mean of heads")
    assert "✓" in shown.out
    assert "✗" not in shown.out
    assert "注意力" in inspect(TEXT, "--language", "zh").out


def test_for_machines(inspect):
    """--json: the question, and each panel with its data, arrays and checks."""
    report = inspect(TEXT, "--view", "tokens,attention", "--layer", "0", "--json").json
    assert [panel["view"] for panel in report["panels"]] == ["tokens", "attention"]
    assert (report["text"], report["green"], report["files"]) == (TEXT, True, [])
    tokens = report["panels"][0]["data"]["tokens"]
    assert "".join(token["piece"] for token in tokens).replace("␣", " ").replace("·", " ") == TEXT
    assert all(check["green"] for check in report["panels"][1]["checks"])
    assert json.loads(inspect(TEXT, "--format", "json").out)["panels"][0]["view"] == "attention"


@pytest.mark.parametrize(
    "words",
    [
        ["--view", "tokens", "attention", TEXT],
        [TEXT, "--view", "tokens,attention"],
        ["--view", "tokens,", "attention", TEXT, "--head", "1"],
        ["--view=tokens,attention", TEXT],
    ],
)
def test_views_are_said_in_any_way(inspect, words):
    """With blanks or commas, before the text or after it: a text is none of the views."""
    report = inspect(*words, "--json").json
    assert [panel["view"] for panel in report["panels"]] == ["tokens", "attention"]
    assert report["text"] == TEXT


def test_checks_alone(inspect, monkeypatch, tmp_path):
    """--check: a line each and 0 where all are green; one that is red is told, and the status is 1, files or not."""
    shown = inspect(TEXT, "--check")
    assert shown.status == 0
    lines = shown.out.splitlines()
    assert lines[-1] == f"{len(lines) - 1} of {len(lines) - 1} checks are green"
    assert all(line.startswith(("✓ attention", "✓ proof    ")) for line in lines[:-1])
    assert sum("with a cache" in line for line in lines) == 1
    red = Check("rows", 0.5, 1e-5, Words("rows add up", "行和为一"))
    monkeypatch.setitem(VIEWS, "attention", lambda look: Panel("attention", Words("A", "A"), checks=[red]))
    shown = inspect(TEXT, "--view", "tokens,attention", "--check")
    assert shown.status == 1
    (wrong,) = (line for line in shown.out.splitlines() if line.startswith("✗"))
    assert wrong.split() == ["✗", "attention", "0.500", ">", "1.0e-5", "rows", "add", "up"]
    assert shown.out.startswith("✗"), "red ones first"
    assert inspect(TEXT).status == 0
    for words in (["--check"], ["--check", "--json"]):
        shown = inspect(TEXT, "--output", tmp_path / "a.html", *words)
        assert shown.status == 1
        assert ("✗ attention" in shown.out) == ("--json" not in words)


def test_files(inspect, tmp_path):
    """By the file's ending or the format; of pictures one a file."""
    report = inspect(TEXT, "--view", "attention", "--output", tmp_path / "a.safetensors", "--json").json
    assert report["files"] == [str(tmp_path / "a.safetensors")]
    assert "arrays" not in report["panels"][0]
    assert load_file(tmp_path / "a.safetensors")
    shown = inspect(TEXT, "--format", "svg", "--output", tmp_path / "b.svg")
    assert shown.out == ""
    pictures = sorted(tmp_path.glob("b-*.svg"))
    assert len(pictures) > 1
    assert all(f"written: {path}" in shown.err for path in pictures)
    inspect(TEXT, "--output", tmp_path / "c.html", "--language", "zh")
    page = (tmp_path / "c.html").read_text()
    assert page.lstrip().startswith("<!doctype html>")
    assert "注意力" in page


def test_against_another_stage(inspect, grown):
    """Both models under their names, and how far they are from each other."""
    report = inspect(TEXT, "--vs", grown.base, "--json").json
    (panel,) = report["panels"]
    assert panel["data"]["names"] == ["out/sft", "out/pretrain"]
    assert any(one["largest"] > 0 for one in panel["data"]["differences"].values() if "largest" in one)
    assert panel["green"]
    assert all("/" not in check["name"] for check in panel["checks"])


def test_ids_of_a_model_without_a_tokenizer(grown, cli, tmp_path):
    """Ids stand for a text; no tokenizer is looked for."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(f"{grown.base}/{name}", folder)
    report = cli("inspect", "--model", folder, "--ids", "5", "9", "11", "--json").json
    assert [token["id"] for token in report["panels"][0]["data"]["tokens"]] == [5, 9, 11]
    assert report["ids"] == [5, 9, 11]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "found neither TEXT nor --ids"),
        ([TEXT, "--ids", "5"], "found both TEXT and --ids"),
        (["--ids", "5", "--chat"], "found --ids with --chat or --target"),
        ([TEXT, "--target-ids", "5"], "found --target-ids and no --ids"),
        ([TEXT, "--other-ids", "5", "--view", "effects"], "found --other-ids and no --ids"),
        (["--ids", "5", "--other", TEXT, "--view", "effects"], "found --other with --ids"),
        ([TEXT, "--other", TEXT], "found another text, and the view attention; only effects reads it"),
        ([TEXT, "--entities", "ball"], "found entities, and the view attention; only heads measures them"),
        ([TEXT, "--view", "atention"], "did you mean attention?"),
        ([TEXT, "--format", "png"], "name a file with --output"),
        ([TEXT, "--output", "nowhere/a.html"], "there is no folder nowhere"),
        ([TEXT, "--output", "a.pdf"], "a.pdf has the ending .pdf"),
        ([TEXT, "--output", "a.html", "--format", "json"], "a.html has the ending of html, and the format is json"),
        (["--view", "lens", "tokens"], "--view took lens tokens"),
        ([TEXT, "--top", "0", "--view", "kv"], "top=0, wanted at least 1"),
        ([TEXT, "--check", "--format", "html"], "--format html has no --output"),
        ([TEXT, "--layer", "99"], "layer=99, wanted 0 to"),
        ([TEXT, "--head", "-2"], "head=-2, wanted 0 to"),
        ([TEXT, "--vs", "base"], "holds no adapter, or a whole model beside it"),
        ([TEXT, "--vs", "nowhere"], "no such folder: nowhere"),
    ],
)
def test_refused_before_a_model_is_loaded(inspect, monkeypatch, words, message):
    """Status 2 and one sentence, without the cost of the weights."""
    monkeypatch.setattr("instar.cli.inspect._load", lambda options: pytest.fail("the model was loaded"))
    result = inspect(*words)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1


def test_refused_with_the_model(inspect):
    """What only the text tells: a token that is not there, a side that the model has not."""
    assert "at=99, wanted 0 to" in inspect(TEXT, "--at", "99").err
    result = inspect(TEXT, "--side", "cross")
    assert result.status == 2
    assert "side=cross, and the model is a decoder alone" in result.err


def test_every_view_has_an_option_value():
    """The views that a flag knows are those that there are."""
    assert set(VIEWS) | {"all"} <= set(View.__args__)


def test_a_folder_that_cannot_be_written(inspect, monkeypatch):
    """It is found before the work, and what was typed is named."""
    monkeypatch.setattr("instar.cli.inspect._load", lambda options: pytest.fail("the model was loaded"))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    result = inspect(TEXT, "--output", "a.html")
    assert result.status == 2
    assert "--output a.html: nothing can be written" in result.err


def test_what_is_not_drawn_is_said(inspect, monkeypatch, tmp_path):
    """A PNG without matplotlib: on stderr, by name."""
    monkeypatch.setattr("instar.probe.draw.charted.plotting", lambda: False)
    shown = inspect(TEXT, "--output", tmp_path / "a.png")
    assert "not drawn, as matplotlib is missing" in shown.err
    assert "The strongest of each token" in shown.err


def test_the_text_that_generate_says(grown, cli):
    """Without a word of sampling, view generation tells what `instar generate` says."""
    said = cli("generate", "--model", grown.sft, "--prompt", TEXT, "--max-new-tokens", "6", "--json").json["answers"][0]
    panel = cli("inspect", "--model", grown.sft, TEXT, "--view", "generation", "--max-new-tokens", "6", "--json").json
    assert panel["panels"][0]["data"]["ids"] == said["ids"]
    assert cli("inspect", "--model", grown.sft, TEXT, "--view", "beam,next", "--beams", "2", "--check").status == 0
