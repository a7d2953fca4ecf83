"""BERT, RoBERTa and ModernBERT compute what transformers computes, texts of many lengths side by side, and it reads
what we write."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from instar.batch import View
from instar.config import InputError, ModelConfig
from instar.config.presets import preset
from instar.hub.families import FAMILIES, config_from_hf, config_to_hf, family_of
from instar.hub.files import load_model, save_model
from instar.model.transformer import Transformer

KINDS = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "Model")
ARCHITECTURES = [f"{family}{kind}" for family in ("Bert", "Roberta", "ModernBert") for kind in KINDS]
NAMES = dict(id2label={0: "good", 1: "bad", 2: "neither"}, label2id={"good": 0, "bad": 1, "neither": 2})
ROPES = {
    "sliding_attention": dict(rope_type="default", rope_theta=50.0),
    "full_attention": dict(rope_type="default", rope_theta=900.0),
}
CASES = {
    **{architecture: (architecture, {}) for architecture in ARCHITECTURES},
    "bert of one type": ("BertForMaskedLM", dict(type_vocab_size=1, hidden_act="gelu_new", layer_norm_eps=1e-5)),
    "bert with three names": ("BertForSequenceClassification", NAMES | dict(hidden_act="relu")),
    "bert with seven classes of tokens": ("BertForTokenClassification", dict(num_labels=7)),
    "roberta that pads with 2": ("RobertaForMaskedLM", dict(pad_token_id=2)),
    "roberta with three names": ("RobertaForSequenceClassification", NAMES),
    "modernbert untied": ("ModernBertForMaskedLM", dict(tie_word_embeddings=False, decoder_bias=False)),
    "modernbert with biased norms": ("ModernBertForMaskedLM", dict(norm_bias=True, rope_parameters=ROPES)),
    "modernbert that looks at all": ("ModernBertModel", dict(layer_types=["full_attention"] * 3)),
    "modernbert of odd windows": ("ModernBertModel", dict(local_attention=7, global_attn_every_n_layers=2)),
    "modernbert with the mean": ("ModernBertForSequenceClassification", NAMES | dict(classifier_pooling="mean")),
}
# transformers' bare models have a pooler, which their states do without
POOLER = {"pooler.dense.weight", "pooler.dense.bias"}
pytestmark = pytest.mark.filterwarnings("ignore:.*holds 2 weights that we compute .*Model without")


@torch.no_grad()
def answer(ours, text, view):
    """Of a model without a head its states."""
    return ours(text[0], view=view) if ours.config.heads_of else ours.hidden(text[0], view=view)


@torch.no_grad()
def same(ours, wanted, text, view=None):
    """The one check: all that is said of a text or a real token within 1e-5."""
    keep = text[1]
    found = answer(ours, text, view or View(keep=keep, types=text[2] if ours.config.token_types > 1 else None))
    gap = (found - wanted).abs()
    return bool(((gap[keep] if gap.shape[:2] == keep.shape else gap) <= 1e-5).all())


@pytest.mark.parametrize("case", CASES)
def test_outputs_equal_those_of_transformers(written_encoder, text, said, case):
    """A folder that transformers wrote gives the same logits, or states, to 1e-5."""
    architecture, changes = CASES[case]
    folder, theirs = written_encoder(architecture, **changes)
    assert said(theirs).std().item() == pytest.approx(1, rel=0.01)
    assert same(load_model(folder), said(theirs), text)


BROKEN = {
    "norm_eps": ("BertModel", dict(norm_eps=1e-3)),
    "act": ("BertForMaskedLM", dict(act="gelu_tanh")),
    "head count": ("BertForMaskedLM", dict(heads=2, kv_heads=2, head_size=16)),
    "causal": ("BertModel", dict(causal=True)),
    "positions off": ("BertForTokenClassification", dict(positions="none")),
    "token types off": ("BertForSequenceClassification", dict(token_types=0)),
    "embed_norm off": ("BertModel", dict(embed_norm=False)),
    "bias of the masked head off": ("BertForMaskedLM", dict(head_bias=False)),
    "pooler off": ("BertForSequenceClassification", dict(pooled="none")),
    "mean for the first token": ("BertForSequenceClassification", dict(pooling="mean")),
    "positions from 1": ("RobertaModel", dict(position_start=1, max_positions=63)),
    "positions from 2": ("roberta that pads with 2", dict(position_start=2, max_positions=62)),
    "roberta's bias off": ("RobertaForMaskedLM", dict(head_bias=False)),
    "last for the first token": ("RobertaForSequenceClassification", dict(pooling="last")),
    "windows a token wider": ("ModernBertModel", dict(windows=(0, 6, 6))),
    "windows a token narrower": ("ModernBertModel", dict(windows=(0, 4, 4))),
    "windows in other layers": ("ModernBertModel", dict(windows=(5, 5, 0))),
    "windows off": ("ModernBertForMaskedLM", dict(windows=())),
    "near layers turn as the far": ("ModernBertForMaskedLM", dict(window_theta=0.0)),
    "far layers turn as the near": ("modernbert with biased norms", dict(rope_theta=50.0)),
    "a norm before the first attention": ("ModernBertForTokenClassification", dict(first_norm=True)),
    "modernbert's embed_norm off": ("ModernBertModel", dict(embed_norm=False)),
    "biases of norms off": ("modernbert with biased norms", dict(norm="layer_plain")),
    "first token for the mean": ("modernbert with the mean", dict(pooling="first")),
    "modernbert's head without norm": ("ModernBertForTokenClassification", dict(pooled="none")),
    "modernbert's causal": ("ModernBertForMaskedLM", dict(causal=True)),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_the_check_can_fail(written_encoder, text, said, fault):
    """The same weights under a config with one detail changed are caught by the very same check."""
    case, changes = BROKEN[fault]
    folder, theirs = written_encoder(CASES[case][0], **CASES[case][1])
    right = load_model(folder)
    wrong = Transformer(replace(right.config, **changes)).eval()
    wrong.load_state_dict(right.state_dict(), strict=False)
    assert not same(wrong, said(theirs), text)


@pytest.mark.parametrize("architecture", ["BertModel", "RobertaForMaskedLM", "ModernBertModel"])
def test_padding_and_types_are_in_the_check(written_encoder, text, said, architecture):
    """Padding that is looked at is caught, and so is a second text taken for the first."""
    folder, theirs = written_encoder(architecture)
    ours = load_model(folder)
    types = text[2] if ours.config.token_types > 1 else None
    assert not same(ours, said(theirs), text, View(types=types))
    assert same(ours, said(theirs), text, View(keep=text[1])) == (types is None)


ROBERTA = preset("bert-nano", vocab_size=64, d_model=32, layers=2, heads=4, max_positions=62, token_types=1)
ROBERTA = replace(ROBERTA, position_start=2)
BERT = preset("bert-nano", vocab_size=64, d_model=32, layers=2, heads=4, max_positions=64)
MODERN = preset(
    "modernbert-nano", vocab_size=64, d_model=32, layers=3, heads=4, d_ff=48, max_positions=64, windows=[0, 5, 5]
)
CLASSES = dict(heads_of=("classify",), labels=3, label_names=("good", "bad", "neither"), head_bias=False)
WORDS = dict(heads_of=("tokens",), labels=5, head_bias=False)
BARE = dict(heads_of=(), head_bias=False)
OWN = {
    "bert": BERT,
    "bert of one type": replace(BERT, token_types=1, act="relu", dropout=0.0, attention_dropout=0.2),
    "bert classifies": replace(BERT, **CLASSES),
    "bert classifies untied": replace(BERT, **CLASSES, tied=False),
    "bert tags": replace(BERT, **WORDS),
    "bert alone": replace(BERT, **BARE),
    "roberta": ROBERTA,
    "roberta that starts at 1": replace(ROBERTA, position_start=1),
    "roberta classifies": replace(ROBERTA, **CLASSES, act="relu"),
    "roberta tags": replace(ROBERTA, **WORDS),
    "roberta alone": replace(ROBERTA, **BARE),
    "modernbert": MODERN,
    "modernbert untied without windows": replace(MODERN, tied=False, windows=(), window_theta=0.0, head_bias=False),
    "modernbert of one theta": replace(MODERN, window_theta=0.0, norm="layer", act="silu", dropout=0.1),
    "modernbert classifies": replace(MODERN, **CLASSES, pooling="mean"),
    "modernbert tags": replace(MODERN, **WORDS),
    "modernbert alone": replace(MODERN, **BARE),
}


@pytest.mark.parametrize("name", OWN)
def test_transformers_reads_what_we_write(tmp_path, text, said, name):
    """It finds every weight and no other, and says the same."""
    transformers = pytest.importorskip("transformers")
    ours = Transformer(OWN[name], seed=3).eval()
    with torch.no_grad():
        for weight in ours.parameters():  # biases and norms are 0 and 1 in a new model
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    save_model(ours, tmp_path)
    architecture = family_of(ours.config).architecture
    pooler = {"add_pooling_layer": False} if architecture in ("BertModel", "RobertaModel") else {}
    theirs, told = getattr(transformers, architecture).from_pretrained(tmp_path, output_loading_info=True, **pooler)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert same(ours, said(theirs), text)
    if ours.config.label_names:
        assert [theirs.config.id2label[n] for n in range(3)] == list(ours.config.label_names)


def test_a_bare_model_lacks_the_pooler_alone(tmp_path, text, said):
    """AutoModel makes a BertModel with a pooler of new weights, and its states are ours."""
    transformers = pytest.importorskip("transformers")
    ours = Transformer(OWN["bert alone"], seed=3).eval()
    save_model(ours, tmp_path)
    theirs, told = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert (set(told["missing_keys"]), set(told["unexpected_keys"])) == (POOLER, set())
    assert same(ours, said(theirs), text)


@pytest.mark.parametrize("name", OWN)
def test_config_survives_the_way_there_and_back(name):
    """ModelConfig -> config.json -> ModelConfig."""
    assert config_from_hf(json.loads(json.dumps(config_to_hf(OWN[name])))) == OWN[name]


@pytest.mark.parametrize("name", OWN)
def test_each_family_claims_one_kind_of_shape(name):
    """No config of ours is of two families, and every encoder's architecture is somebody's."""
    held = {name: [family.architecture for family in FAMILIES.values() if family.holds(OWN[name])] for name in OWN}
    assert len(held[name]) == 1
    assert {architecture for names in held.values() for architecture in names} == set(ARCHITECTURES)


@pytest.mark.parametrize("case", CASES)
def test_save_gives_back_every_tensor(written_encoder, tmp_path_factory, case):
    """A folder of transformers, loaded and saved, holds bit for bit the weights that it held; but for a pooler that
    nothing stands on, which is told."""
    architecture, changes = CASES[case]
    folder, _ = written_encoder(architecture, **changes)
    out = tmp_path_factory.mktemp("saved")
    spare = POOLER if architecture in ("BertModel", "RobertaModel") else set()
    if spare:
        with pytest.warns(UserWarning, match=rf"holds 2 weights that we compute {architecture} without: pooler\.dense"):
            model = load_model(folder)
    else:
        model = load_model(folder)
    save_model(model, out)
    wanted, found = (load_file(path / "model.safetensors") for path in (folder, out))
    assert found.keys() == wanted.keys() - spare
    assert all(torch.equal(found[name], wanted[name]) for name in found)


def edit(folder, change):
    """Change the tensors of a folder in place."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def as_of_2018(tensors):
    """What the first BERT's file holds: norms as TensorFlow names them, the head twice, pretraining's second head."""
    for name in list(tensors):
        if "LayerNorm" in name:
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[old] = tensors.pop(name)
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    tensors["bert.embeddings.position_ids"] = torch.arange(64)[None]
    for name, rows in (("bert.pooler.dense", 32), ("cls.seq_relationship", 2)):
        tensors |= {f"{name}.weight": torch.zeros(rows, 32), f"{name}.bias": torch.zeros(rows)}


def test_a_file_of_2018(written_encoder, text, said):
    """Old names mean the same; what is left out is counted and named."""
    folder, theirs = written_encoder("BertForMaskedLM")
    edit(folder, as_of_2018)
    with pytest.warns(UserWarning, match=r"holds 4 weights .*bert\.pooler\.dense.*cls\.seq_relationship\.bias"):
        assert same(load_model(folder), said(theirs), text)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cls.predictions.decoder.bias", "differ.*one weight for both"),
        ("cls.predictions.decoder.weight", "differ.*tie_word_embeddings"),
        ("bert.encoder.layer.3.output.dense.bias", r"unclaimed: bert\.encoder\.layer\.3"),
        ("bert.pooler.dense.scale", r"unclaimed: bert\.pooler\.dense\.scale"),
        ("classifier.weight", r"unclaimed: classifier\.weight"),
    ],
)
def test_no_other_weight_is_left_out(written_encoder, name, message):
    """What may be spared is said by name; a copy that differs, or anything else, is an error."""
    folder, _ = written_encoder("BertForMaskedLM")
    edit(folder, lambda tensors: (as_of_2018(tensors), tensors.update({name: torch.ones(61, 32)})))
    with pytest.raises(InputError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bert", dict(is_decoder=True), "is_decoder=True"),
        ("bert", dict(position_embedding_type="relative_key"), "position_embedding_type='relative_key'"),
        ("bert", dict(tie_word_embeddings=False), "tie_word_embeddings=False"),
        ("bert", dict(embedding_size=16), "embedding_size=16, which we do not know"),
        ("bert classifies", dict(id2label={"0": "a", "2": "b"}), "wanted names for 0, 1, 2"),
        ("bert classifies", dict(id2label=["a", "b"]), "wanted names for 0, 1, 2"),
        ("bert classifies", dict(id2label={"0": "a", "1": 7}), r"label_names\[1\]: found 7"),
        ("bert tags", dict(id2label=None, num_labels=0), "labels=0"),
        ("roberta", dict(hidden_act="relu"), "hidden_act='relu'"),
        ("roberta alone", dict(pad_token_id=None), "pad_token_id=None; RoBERTa counts positions from it"),
        ("modernbert", dict(attention_bias=True), "attention_bias=True"),
        ("modernbert", dict(classifier_activation="relu"), "hidden_activation=gelu and classifier_activation=relu"),
        ("modernbert classifies", dict(classifier_pooling="max"), "unknown classifier_pooling max"),
        ("modernbert", dict(rope_scaling=dict(type="linear", factor=2.0)), "rope_scaling"),
        (
            "modernbert",
            dict(rope_parameters={"full_attention": dict(rope_type="linear", factor=2.0)}),
            "rope_parameters of full_attention.*unstretched",
        ),
        ("modernbert", dict(layer_types=["full_attention"]), "layer_types=.* for each of 3 layers"),
    ],
)
def test_refuses_what_it_does_not_compute(name, changes, message):
    """A key or value that would be computed wrongly is an error that names it."""
    with pytest.raises(InputError, match=message):
        config_from_hf(config_to_hf(OWN[name]) | changes)


def test_silence_means_what_transformers_takes_it_to_mean():
    """Two classes without names where nothing is said of them; with numbers for names, none."""
    data = config_to_hf(OWN["bert tags"])
    data = {key: value for key, value in data.items() if key not in ("id2label", "label2id")}
    assert config_from_hf(data).labels == 2
    assert config_from_hf(data | {"num_labels": 4}).labels == 4


def test_roberta_counts_from_the_tokenizers_padding():
    """transformers finds the first position by pad_token_id, so a tokenizer that pads otherwise is refused."""
    assert config_to_hf(OWN["roberta"], pad_token_id=1)["pad_token_id"] == 1
    with pytest.raises(InputError, match=r"position_start=2 means pad_token_id=1 .*the tokenizer says 5"):
        config_to_hf(OWN["roberta"], pad_token_id=5)
    assert config_to_hf(OWN["bert"], pad_token_id=5)["pad_token_id"] == 5


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("bert", dict(token_types=0)), ("bert", dict(tied=False)), ("bert", dict(head_bias=False)),
        ("bert", dict(causal=True)), ("bert", dict(embed_norm=False)), ("bert", dict(windows=(5, 5))),
        ("bert classifies", dict(pooling="mean")), ("bert classifies", dict(pooled="none")),
        ("roberta", dict(act="relu")), ("modernbert", dict(first_norm=True)), ("modernbert", dict(bias=True)),
        ("modernbert", dict(windows=(0, 5, 6))), ("modernbert classifies", dict(pooling="last")),
    ],
)  # fmt: skip
def test_shapes_of_no_encoder_are_not_written(name, changes):
    """What transformers could not compute is refused and told, not written wrongly."""
    with pytest.raises(InputError, match="no known family has"):
        family_of(replace(OWN[name], **changes))


OLD = {
    "bert": dict(
        architectures=["BertForMaskedLM"], model_type="bert", attention_probs_dropout_prob=0.1, directionality="bidi",
        hidden_act="gelu", hidden_dropout_prob=0.1, initializer_range=0.02, layer_norm_eps=1e-12, pad_token_id=0,
        max_position_embeddings=512, pooler_fc_size=768, pooler_num_attention_heads=12, pooler_num_fc_layers=3,
        pooler_size_per_head=128, pooler_type="first_token_transform", type_vocab_size=2, intermediate_size=48,
        gradient_checkpointing=False, position_embedding_type="absolute",
    ),
    "roberta": dict(
        architectures=["RobertaForSequenceClassification"], model_type="roberta", layer_norm_eps=1e-5, pad_token_id=1,
        bos_token_id=0, eos_token_id=2, max_position_embeddings=514, type_vocab_size=1, intermediate_size=48,
        id2label={"0": "CONTRADICTION", "1": "NEUTRAL", "2": "ENTAILMENT"}, _num_labels=3,
    ),
    "modernbert": dict(
        architectures=["ModernBertForMaskedLM"], model_type="modernbert", classifier_pooling="mean", norm_eps=1e-5,
        global_attn_every_n_layers=3, global_rope_theta=160000.0, local_rope_theta=5000.0, local_attention=128,
        hidden_activation="gelu", intermediate_size=48, max_position_embeddings=8192, layer_norm_eps=1e-5,
        position_embedding_type="absolute", sparse_pred_ignore_index=-100, reference_compile=None, cls_token_id=50,
        sep_token_id=51, pad_token_id=52, bos_token_id=50, eos_token_id=51, classifier_bias=False, decoder_bias=True,
        gradient_checkpointing=False, initializer_cutoff_factor=2.0, deterministic_flash_attn=False,
    ),
    "modernbert that leaves all to the defaults": dict(
        architectures=["ModernBertForMaskedLM"], model_type="modernbert", intermediate_size=48, pad_token_id=0,
        max_position_embeddings=64,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_files_of_the_hub_mean_what_transformers_makes_of_them(name):
    """An old config.json, read by us and as transformers 5 writes it out again, is the same shape."""
    transformers = pytest.importorskip("transformers")
    data = OLD[name] | dict(vocab_size=61, hidden_size=32, num_hidden_layers=7, num_attention_heads=4)
    config = transformers.AutoConfig.for_model(**data)
    again = json.loads(config.to_json_string(use_diff=False)) | {"architectures": data["architectures"]}
    again.pop("name_or_path", None)
    assert config_from_hf(data) == config_from_hf(again)


def test_the_shape_that_is_born_for_an_encoder_can_be_saved():
    """Presets of encoders are of a family before and after they are taught labels."""
    for name, architecture in (("bert-nano", "Bert"), ("bert-small", "Bert"), ("modernbert-nano", "ModernBert")):
        config: ModelConfig = preset(name, vocab_size=64)
        assert family_of(config).architecture == f"{architecture}ForMaskedLM"
        for head, kind in (("classify", "SequenceClassification"), ("tokens", "TokenClassification")):
            assert family_of(replace(config, heads_of=(head,))).architecture == f"{architecture}For{kind}"
