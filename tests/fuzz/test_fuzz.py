"""Files that nobody vouches for, changed at random: what comes out is a result or an InputError, never anything else.

Half of the examples are valid files with bytes flipped, put in or cut out; half are JSON of the right shape with wrong
values.
"""

import contextlib
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from instar.config import InputError, ModelConfig
from instar.data.readers import read_records
from instar.data.records import as_messages, text_of, texts_of, tools_of
from instar.hub.configs import read_config
from instar.hub.families import config_to_hf
from instar.hub.files import save_model
from instar.hub.headers import SIZES, read_header
from instar.model.transformer import Transformer
from instar.text import Tokenizer

CONFIG = ModelConfig(vocab_size=64, d_model=16, layers=2, heads=2)
# Values that readers stumble over.
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.sampled_from([2**31, 2**63, 2**64, 10**30, -1, 0, 1e-300, 1e300]),
    st.floats(), st.text(max_size=8), st.sampled_from(["", "\ud800", "../../x", "a" * 300, "\0", "(a+)+$"]),
)  # fmt: skip
JSON = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def mutated(draw, raw):
    """A valid file with a few bytes flipped, put in, cut out or repeated."""
    data = bytearray(raw)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        piece = draw(
            st.binary(max_size=6) | st.sampled_from([b"null", b"[", b"{", b'"', b"-1", b"1e999", b"\0", b"\n"])
        )
        kind = draw(st.sampled_from(["flip", "insert", "cut", "repeat", "end"]))
        if kind == "flip" and place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "insert":
            data[place:place] = piece
        elif kind == "cut":
            del data[place : place + draw(st.integers(1, 20))]
        elif kind == "repeat":
            data[place:place] = data[place : place + draw(st.integers(1, 40))]
        else:
            del data[place:]
    return bytes(data)


@st.composite
def reshaped(draw, value):
    """Valid JSON in which one value, however deep, is another, is gone or stands beside a stranger."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        inside = value
        while True:
            places = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            if not places:
                break
            place = draw(st.sampled_from(places))
            if not isinstance(inside[place], (dict, list)) or not draw(st.integers(0, 3)):
                if draw(st.integers(0, 5)):
                    inside[place] = draw(JSON)
                else:
                    del inside[place]
                break
            inside = inside[place]
        if isinstance(inside, dict) and draw(st.booleans()):
            inside[draw(st.text(max_size=5))] = draw(JSON)
    return json.dumps(value).encode()


def damaged(value):
    """Both kinds of damage to a JSON file."""
    return mutated(json.dumps(value).encode()) | reshaped(value)


def survives(work):
    """Whether work is done; an InputError is a good answer, anything else is not."""
    try:
        work()
    except InputError as error:
        str(error).encode("utf-8", "backslashreplace")
        return False
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model, whose files are overwritten again and again."""
    folder = tmp_path_factory.mktemp("model")
    save_model(Transformer(CONFIG), folder)
    return folder


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """A small tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    Tokenizer.train(["Anna has a ball. " * 3, "王明有球。" * 3], 300).save(folder)
    return folder


def config_property(folder):
    """config.json -> a shape that can be built, or an InputError."""
    small = {"vocab_size": 64, "d_model": 16, "layers": 2, "heads": 2}
    gpt2 = {"norm": "layer", "mlp": "plain", "positions": "learned", "qkv_bias": True, "bias": True, "act": "gelu_tanh"}
    gemma = {"norm": "rms_one", "residual": "both", "scaled_embed": True, "act": "gelu_tanh", "score_size": 8.0}
    gemma |= {"qk_norm": True, "window_theta": 10000.0, "windows": (4, 0)}
    shapes = [
        config_to_hf(ModelConfig(**small | more)) for more in ({}, {"qk_norm": True}, {"qkv_bias": True}, gpt2, gemma)
    ]
    for shape in shapes:
        (folder / "config.json").write_text(json.dumps(shape))
        read_config(folder)

    @given(st.one_of(*map(damaged, shapes)))
    def check(raw):
        (folder / "config.json").write_bytes(raw)
        survives(lambda: read_config(folder))

    return check


def header_property(folder):
    """A safetensors file -> its header, or an InputError; where we believe it, the library does too."""
    path = folder / "fuzz.safetensors"
    state = {
        name: weight for name, weight in Transformer(ModelConfig(8, 8, 1, 1)).state_dict().items() if "head" not in name
    }
    raw = save({name: weight.contiguous() for name, weight in list(state.items())[:4]}, metadata={"format": "pt"})
    end = 8 + int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8:end]), raw[end:]

    def join(text, length):
        return (len(text) if length is None else length).to_bytes(8, "little") + text + data

    lengths = st.none() | st.sampled_from([0, 1, end, 10**8, 2**63, 2**64 - 1])
    entry = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from([*SIZES, "F4", "x"]) | JSON,
            "shape": st.lists(st.integers(0, 3) | st.sampled_from([2**31, 2**50]), max_size=3) | JSON,
            "data_offsets": st.lists(st.integers(0, 40), min_size=2, max_size=2) | JSON,
        }
    )
    made = st.dictionaries(st.text(max_size=4), entry | JSON, max_size=3).map(lambda value: json.dumps(value).encode())

    @given(mutated(raw) | st.builds(join, reshaped(header) | mutated(json.dumps(header).encode()) | made, lengths))
    def check(raw):
        path.write_bytes(raw)
        if survives(lambda: read_header(path)):
            with safe_open(path, framework="pt") as file:
                assert set(file.keys()) == set(read_header(path))

    return check


def tokenizer_property(folder):
    """tokenizer.json and its neighbours -> a tokenizer that encodes and decodes, or an InputError."""
    names = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
    (folder / names[2]).write_text('{"eos_token_id": [1, 2], "bos_token_id": 5}')
    valid = {name: (folder / name).read_bytes() for name in names}
    spec = json.loads(valid["tokenizer.json"])
    spec["model"]["vocab"] = dict(list(spec["model"]["vocab"].items()))
    small = {key: value for key, value in spec.items() if key != "model"}
    components = st.sampled_from(
        ["normalizer", "pre_tokenizer", "decoder", "post_processor", "added_tokens", "padding"]
    )
    kinds = st.sampled_from(
        [
            "NFC",
            "Replace",
            "Prepend",
            "Split",
            "ByteLevel",
            "Metaspace",
            "Strip",
            "Sequence",
            "TemplateProcessing",
            "Digits",
        ]
    )
    part = st.fixed_dictionaries(
        {"type": kinds},
        optional={
            "content": ODD, "prepend": ODD, "pattern": st.fixed_dictionaries({"Regex": ODD}) | JSON,
            "behavior": st.sampled_from(["Isolated", "Removed"]), "invert": st.booleans(), "single": JSON,
            "normalizers": JSON, "start": ODD, "stop": ODD, "replacement": ODD, "prepend_scheme": ODD,
            "add_prefix_space": ODD, "trim_offsets": st.booleans(), "use_regex": st.booleans(), "form": ODD,
            "individual_digits": ODD, "left": ODD, "right": ODD, "special_tokens": JSON, "pair": JSON,
        },
    )  # fmt: skip
    specs = st.one_of(
        mutated(valid["tokenizer.json"]),
        reshaped(small).map(lambda raw: json.dumps(json.loads(raw) | {"model": spec["model"]}).encode()),
        reshaped(spec),
        st.builds(lambda place, value: json.dumps(spec | {place: value}).encode(), components, part | JSON),
    )
    others = st.sampled_from(names[1:]).flatmap(lambda name: st.tuples(st.just(name), damaged(json.loads(valid[name]))))

    def use():
        loaded = Tokenizer.load(folder)
        for text in ("Anna has  a ball.\n", "王明", "a" * 60 + "b", "\0😀"):
            ids = loaded.encode(text)
            assert len(ids) < 100_000
            loaded.decode(ids)
        loaded.document("x")
        _ = loaded.stops, loaded.fingerprint
        loaded.chat([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])

    @given(st.tuples(st.just("tokenizer.json"), specs) | others)
    def check(change):
        for name, raw in (valid | dict([change])).items():
            (folder / name).write_bytes(raw)
        survives(use)

    return check


def jsonl_property(folder):
    """Lines of records, plain or compressed -> records that are read as text and as messages, or an InputError."""
    call = {"role": "assistant", "content": None, "tool_calls": [{}]}
    talk = {"messages": [{"role": "user", "content": "Hi"}, call]}
    records = [
        {"text": "Anna"}, talk, {"turns": ["a", "b"]}, {"instruction": "a", "input": "b", "output": "c"},
        {"conversations": [{"from": "human", "value": "x"}], "tools": "[]"},
        {"conversations": [{"from": "function_call", "value": "{}"}]},
        {"instruction": "a", "instances": [{"input": "", "output": ""}]},
        {"prompt": [{"role": "user", "content": "x"}], "completion": "y"},
    ]  # fmt: skip
    raw = "\n".join(map(json.dumps, records)).encode()
    lines = st.lists(st.sampled_from(records).flatmap(reshaped), max_size=3).map(b"\n".join)

    @given(
        st.sampled_from(["x.jsonl", "x.jsonl.gz", "x.json", "x.txt", "x.yaml"]),
        mutated(raw) | lines,
        st.booleans(),
        st.data(),
    )
    def check(name, raw, packed, data):
        raw = gzip.compress(raw, mtime=0) if name.endswith("gz") and packed else raw
        raw = data.draw(mutated(raw)) if packed else raw
        (folder / name).write_bytes(raw)

        def use():
            for record in read_records(folder / name):
                for read in (text_of, texts_of, as_messages, tools_of):
                    with contextlib.suppress(InputError):
                        read(record)

        survives(use)

    return check


PROPERTIES = {
    "config.json": (config_property, "folder"),
    "safetensors": (header_property, "folder"),
    "tokenizer.json": (tokenizer_property, "tokens"),
    "jsonl": (jsonl_property, "folder"),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_only_input_errors_come_out(name, briefly, request):
    """A few hundred damaged files, the same every day."""
    prepare, place = PROPERTIES[name]
    briefly(prepare(request.getfixturevalue(place)))


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", PROPERTIES)
def test_only_input_errors_come_out_for_long(name, for_long, request):
    """Damaged files for as long as INSTAR_FUZZ_SECONDS says, never the same."""
    prepare, place = PROPERTIES[name]
    for_long(prepare(request.getfixturevalue(place)))
