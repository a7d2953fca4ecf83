"""What --data may say, looked up before anything is read."""

import json
import subprocess
import sys

import pytest

from instar.config import InputError
from instar.data.corpus import as_messages, fingerprint, read, resolve


@pytest.fixture
def folder(tmp_path):
    """Two texts in two depths, one file of another kind, one hidden."""
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "b" / "rows.jsonl").write_text('{"text": "second"}\n{"text": "third"}\n')
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".git" / "c.txt").write_text("never")
    return tmp_path


def test_a_folder_is_read_in_the_order_of_its_paths(folder):
    """Recursive, sorted, hidden files left out; a file of another kind is counted, not read."""
    documents = list(read([str(folder)]))
    assert [document.text for document in documents] == ["first", "second", "third"]
    assert documents[2].where == f"{folder}/b/rows.jsonl, record 2"
    assert [path.name for path in resolve([str(folder)]).skipped] == ["picture.png"]


def test_globs_and_single_sources(folder):
    """A glob may reach into folders, and one source needs no list."""
    assert [document.text for document in read([f"{folder}/**/*.jsonl"])] == ["second", "third"]
    assert [document.text for document in read(f"{folder}/a.txt")] == ["first"]


def test_world_addresses_are_documents():
    """The built-in world is a source like any other."""
    documents = list(read(["world:stories?count=3"]))
    assert len(documents) == 3
    assert all(document.text for document in documents)


def test_reading_data_does_not_need_torch():
    """Commands that only read texts, such as tokenizer train, start fast."""
    code = (
        "import sys; from instar.data.corpus import read; list(read(['world:stories?count=1']))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_hub_is_asked_for_the_revision_and_for_data_only(folder, monkeypatch):
    """hf:org/name@rev reads the snapshot's tables; its card is no data."""
    asked = {}

    def snapshot_download(name, **options):
        asked.update(options, name=name)
        return str(folder / "b")

    (folder / "b" / "README.md").write_text("# the card")
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert [document.text for document in read(["hf:org/name@abc"])] == ["second", "third"]
    assert (asked["name"], asked["revision"], asked["repo_type"]) == ("org/name", "abc", "dataset")
    assert "*.parquet" in asked["allow_patterns"]
    assert "*.md" not in asked["allow_patterns"]


def test_a_hub_that_fails_is_an_input_error(monkeypatch):
    """Offline, or a name that does not exist: one sentence."""

    def snapshot_download(name, **options):
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(InputError, match=r"hf:org/name: could not be fetched from the hub: no route$"):
        resolve(["hf:org/name"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.txt", "no such file or folder: missing.txt; give a file"),
        ("*.nothing", "found no files, wanted one of .txt"),
        ("pictures", "found .png, wanted one of .txt"),
    ],
)
def test_nothing_found_is_an_error(tmp_path, monkeypatch, source, message):
    """A misspelt path, an empty glob, a folder of other things: said before the first document is read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=message):
        resolve([source])
    with pytest.raises(InputError, match="no data"):
        resolve([])


def test_a_wrong_record_is_named_with_its_place(tmp_path):
    """The file, the number of the record, the keys found and wanted."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x"}\n{"body": "y"}\n')
    with pytest.raises(InputError, match=r"rows.jsonl, record 2: a record with the keys body; wanted one of"):
        [document.text for document in read([str(path)])]


def test_the_fingerprint_is_of_bytes_and_of_order(tmp_path):
    """One byte more, another order of files, another address: another fingerprint; another place: the same."""
    for name, text in {"a.txt": "one", "b.txt": "two"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "a.txt").write_text("one")
    a, b = str(tmp_path / "a.txt"), str(tmp_path / "b.txt")
    assert fingerprint([a]) == fingerprint([str(tmp_path / "copy" / "a.txt")])
    before = fingerprint([a, b])
    assert fingerprint([b, a]) != before
    (tmp_path / "b.txt").write_text("twp")
    assert fingerprint([a, b]) != before
    assert fingerprint(["world:stories?count=1"]) != fingerprint(["world:stories?count=2"])


KINDS = [
    *[f"instruct/{name}" for name in (
        "alpaca_en.jsonl", "alpaca_zh.jsonl", "belle_seed_zh.jsonl", "belle_zh.jsonl", "dolly_hhrlhf_small.jsonl",
        "glaive_toolcall_zh.jsonl", "gsm8k.train.jsonl", "oasst_threads.jsonl", "self_instruct_seed.jsonl",
    )],
    *[f"dialogue/{name}" for name in (
        "chatterbot_chinese", "chatterbot_english/trivia.yml", "crosswoz_zh.jsonl", "kdconv_zh.jsonl", "sgd_en.jsonl",
        "taskmaster4_en.jsonl",
    )],
]  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_real_dialogues_are_readable(real, name):
    """The first rows of real files are messages that begin with a question and hold an answer."""
    for document, _ in zip(read([str(real / name)]), range(5)):
        messages = document.read(as_messages)
        assert messages[0]["role"] == "user"
        assert "assistant" in {message["role"] for message in messages}
        assert all(isinstance(message["content"], str) for message in messages)
        assert json.dumps(messages)


@pytest.mark.parametrize(
    "name",
    [
        "code/python_stdlib.jsonl",
        "en/speeches.jsonl",
        "en/tinystories.txt",
        "en/books",
        "zh/luxun.jsonl",
        "zh/poetry.jsonl",
    ],
)
def test_real_texts_are_readable(real, name):
    """The first documents of real files have a text."""
    documents = [document for document, _ in zip(read([str(real / "pretrain" / name)]), range(3))]
    assert len(documents) == 3
    assert all(document.text.strip() for document in documents)


@pytest.fixture
def prepared(tmp_path):
    """A folder as `data prepare` leaves it, without shards."""
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "00000.jsonl.zst").write_bytes(b"")
    for name in ("plan.json", "recipe.yaml", "report.json", "documents/notes.txt"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_a_prepared_folder_means_its_documents_or_its_shards(prepared):
    """Neither its report nor its plan is data; once there are shards and their mixture, they are."""
    assert [path.name for path in resolve([str(prepared)]).places] == ["00000.jsonl.zst"]
    (prepared / "00000.tokens.safetensors").write_bytes(b"")
    (prepared / "mixture.json").write_text("{}")
    found = resolve([str(prepared)])
    assert [path.name for path in found.places] == ["00000.tokens.safetensors"]
    assert [path.name for path in found.mixtures] == ["mixture.json"]
    with pytest.raises(InputError, match=f"read by pretrain alone; give {prepared}/documents"):
        list(read([str(prepared)]))


@pytest.mark.parametrize(("shards", "missing"), [(False, "report.json"), (True, "mixture.json")])
def test_a_folder_that_is_not_finished_is_refused(prepared, shards, missing):
    """A part of the data never passes for the whole."""
    if shards:
        (prepared / "00000.tokens.safetensors").write_bytes(b"")
    else:
        (prepared / "report.json").unlink()
    with pytest.raises(InputError, match=f"has not finished .{missing} is missing.; run it again"):
        resolve([str(prepared)])
