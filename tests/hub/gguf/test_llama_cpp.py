"""What llama.cpp makes of our GGUF files: the same ids, the same logits, the same words.

Keys and values are kept in fp32; llama.cpp's own choice is fp16, which moves logits by thousandths.
"""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from instar.eval.readers import ROUGH, TOLERANCE, strings
from instar.eval.verify import verify
from instar.hub.files import load_model
from instar.hub.gguf import ARCHS, export
from instar.hub.gguf import file as writing
from instar.hub.gguf import tokens as saying
from instar.infer.text import complete, sampling_options
from instar.text.tokenizer import Tokenizer

llama_cpp = pytest.importorskip("llama_cpp")
NEW = 24
TEXT = "Once upon a time there was a red ball. 从前，花园里有一只红色的皮球。3.14 naïve 🙂"


def opened(path, **options):
    return llama_cpp.Llama(
        str(path), n_ctx=128, logits_all=True, type_k=0, type_v=0, n_threads=1, verbose=False, **options
    )


@torch.no_grad()
def gaps(theirs, model, row):
    """How far each logit is from ours, in standard deviations of them all: the largest, and the median."""
    theirs.reset()
    theirs.eval(row)
    ours = model(torch.tensor([row]))[0]
    apart = (torch.from_numpy(theirs.scores[: len(row)]) - ours).abs() / ours.std()
    return float(apart.max()), float(apart.median())


def greedy(theirs, row, count=NEW):
    """The likeliest token, so many times."""
    theirs.reset()
    theirs.eval(row)
    said = []
    for _ in range(count):
        said.append(int(theirs.scores[theirs.n_tokens - 1].argmax()))
        theirs.eval(said[-1:])
    return said


def half_gelu(x):
    """gelu as llama.cpp has it: by its approximation, looked up in a table of half precision from -10 to 10."""
    known = F.gelu(x.half().float(), approximate="tanh").half().float()
    return torch.where(x >= 10, x, torch.where(x <= -10, 0.0, known))


@pytest.mark.parametrize("shape", ["llama", "llama3", "mixtral", "qwen3", "olmo2", "phi3", "gemma3", "neox", "gpt2"])
def test_families_say_the_same(written, tokenizers, tmp_path, monkeypatch, shape):
    """Every logit, and 24 greedy tokens and their text. Where llama.cpp looks gelu up in a table, its gap is that of
    the table: with the same table here half of the logits are within a hundred-thousandth."""
    folder, model = written(shape)
    tokenizer = tokenizers["qwen2"]
    export(folder, tmp_path / "x.gguf", dtype=torch.float32)
    theirs = opened(tmp_path / "x.gguf")
    row = [id for text in strings(9) for id in tokenizer.encode(text)][: 128 - NEW]
    exact = model.config.act == "silu"
    assert gaps(theirs, model, row)[0] < (TOLERANCE if exact else ROUGH)
    (ours,) = complete(model, tokenizer, [row[:12]], sampling_options(strategy="greedy", max_new_tokens=NEW))
    assert greedy(theirs, row[:12])[: len(ours.ids)] == ours.ids
    assert theirs.detokenize(ours.ids).decode(errors="replace") == ours.text
    if not exact:
        assert gaps(theirs, model, row)[1] > 1e-4
        monkeypatch.setattr("instar.model.layers.ACTIVATIONS", dict.fromkeys(("gelu", "gelu_tanh"), half_gelu))
        assert gaps(theirs, load_model(folder), row)[1] < 1e-5


@pytest.mark.slow
def test_every_family_is_verified(written, tmp_path, every_shape):
    """What `instar verify` finds for every shape, encoders and T5 too: ids of strings, logits, words."""
    encoder = every_shape in ("bert", "roberta", "modernbert")
    folder, _ = written(every_shape, Tokenizer.train([TEXT] * 20, 384, masks=encoder))
    report = verify(folder, readers=["llama.cpp"])
    found = report["readers"]["llama.cpp"]
    assert report["same"] is True, found
    assert found["of_ids"] > 200


BROKEN = {
    "queries as ours lie": ("llama", dict(changes={})),
    "experts' queries as ours lie": ("mixtral", dict(changes={})),
    "qwen's queries as llama's lie": ("qwen3", dict(changes=ARCHS["LlamaForCausalLM"].changes)),
    "norms of gemma as ours": ("gemma3", dict(changes={})),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_wrong_table_is_seen(written, tokenizers, tmp_path, monkeypatch, case):
    """The check hears what lies in another order."""
    shape, change = BROKEN[case]
    folder, model = written(shape)
    plain = writing.arch_of
    monkeypatch.setattr(writing, "arch_of", lambda name, config: replace(plain(name, config), **change))
    export(folder, tmp_path / "x.gguf", dtype=torch.float32)
    row = tokenizers["qwen2"].encode(TEXT)
    assert gaps(opened(tmp_path / "x.gguf"), model, row)[0] > 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_matrices_are_read(written, tokenizers, tmp_path, dtype):
    """As near as their precision allows: llama.cpp narrows what is multiplied too."""
    folder, model = written("qwen3")
    export(folder, tmp_path / "x.gguf", dtype=dtype)
    row = tokenizers["qwen2"].encode(TEXT)
    assert 1e-5 < gaps(opened(tmp_path / "x.gguf"), model, row)[0] < (0.02 if dtype == torch.float16 else 0.15)


def differing(theirs, tokenizer, texts):
    """The texts whose ids differ."""
    return [
        text
        for text, ids in zip(texts, tokenizer.encode_batch(texts))
        if theirs.tokenize(text.encode(), add_bos=False, special=False) != ids
    ]


@pytest.fixture(scope="module")
def wide():
    """Tokenizers with a thousand pieces, of text of every kind, for both of our patterns."""
    texts = strings(2000, seed=1) + [TEXT] * 20
    return {split: Tokenizer.train(texts, 1280, split=split) for split in ("qwen2", "llama-bpe")}


def vocabulary_file(tokenizer, written, tmp_path):
    """A GGUF file with this tokenizer and a model of as many rows."""
    folder, _ = written("llama", tokenizer, layers=1)
    export(folder, tmp_path / "x.gguf")
    return opened(tmp_path / "x.gguf", vocab_only=True)


@pytest.mark.parametrize("split", ["qwen2", "llama-bpe"])
def test_3000_random_strings_have_the_same_ids(wide, written, tmp_path, split):
    """Chinese, emoji, line ends, digits, blanks, quotes, marks; control tokens in text stay text."""
    texts = strings(3000)
    theirs = vocabulary_file(wide[split], written, tmp_path)
    assert differing(theirs, wide[split], texts) == []
    assert sum("<|im_end|>" in text for text in texts) > 100


@pytest.mark.parametrize(("split", "wrong"), [("qwen2", "gpt-2"), ("llama-bpe", "qwen2"), ("qwen2", "default")])
def test_a_wrong_name_of_a_pattern_is_seen(wide, written, tmp_path, monkeypatch, split, wrong):
    """Why unknown patterns are refused: llama.cpp reads the file and gives other ids."""
    monkeypatch.setattr(saying, "pre_of", lambda vocabulary: wrong)
    theirs = vocabulary_file(wide[split], written, tmp_path)
    assert len(differing(theirs, wide[split], strings(300))) > 30


STRANGERS = {
    "gpt-2": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        ],
    },
}


@pytest.mark.parametrize("name", STRANGERS)
def test_patterns_of_strangers(wide, written, tmp_path, name):
    """GPT-2's and SmolLM's ways to cut, and runs of blanks that were added as text."""
    spec = json.loads(json.dumps(wide["qwen2"].vocabulary.spec))
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    first = max(token["id"] for token in spec["added_tokens"]) + 1
    blanks = [flags | {"id": first + n, "content": " " * (n + 2)} for n in range(3)]
    spec |= {"pre_tokenizer": STRANGERS[name], "added_tokens": [*spec["added_tokens"], *blanks]}
    rows = {"instar": {"vocab_size": first + 3}}
    tokenizer = Tokenizer(spec, wide["qwen2"].config | rows)
    assert first in tokenizer.encode("a  b")
    theirs = vocabulary_file(tokenizer, written, tmp_path)
    assert theirs.metadata["tokenizer.ggml.pre"] == name
    assert differing(theirs, tokenizer, strings(1000)) == []


def test_words_taken_whole_or_merged(written, tmp_path):
    """The name that merges gives a word that no merge reaches its parts; under the other it would be one piece."""
    plain = Tokenizer.train(["a red ball in the old garden of a small house"] * 9, 320, split="llama-bpe")
    spec = json.loads(json.dumps(plain.vocabulary.spec))
    word = "".join(spec["model"]["merges"].pop())
    tokenizer = Tokenizer(spec, plain.config)
    theirs = vocabulary_file(tokenizer, written, tmp_path)
    word = plain.decode([plain.vocabulary.ids[word]])
    assert len(tokenizer.encode(word)) == 2
    assert differing(theirs, tokenizer, [word, f"a {word}", *strings(200)]) == []


def test_ends_and_template(wide, written, tmp_path):
    """llama.cpp knows both ends of an answer and begins no text by itself; the chat template gives our ids."""
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    tokenizer = wide["qwen2"]
    theirs = vocabulary_file(tokenizer, written, tmp_path)
    ends = [id for id in range(tokenizer.vocab_size) if llama_cpp.llama_vocab_is_eog(theirs._model.vocab, id)]
    assert set(ends) == set(tokenizer.stops)
    assert theirs.tokenize(b"ball", add_bos=True) == tokenizer.encode("ball")
    chat = [{"role": "user", "content": "谁有皮球？"}]
    formatter = Jinja2ChatFormatter(theirs.metadata["tokenizer.chat_template"], eos_token="", bos_token="")
    ids = theirs.tokenize(formatter(messages=chat).prompt.encode(), add_bos=False, special=True)
    assert ids == list(tokenizer.chat(chat, add_generation_prompt=True).ids)
