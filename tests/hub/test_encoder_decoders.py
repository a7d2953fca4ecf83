"""Marian, BART and T5 compute what transformers computes, sources of many lengths side by side, and it reads what we
write."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from instar.batch import View
from instar.config import InputError, ModelConfig
from instar.config.options import SamplingOptions
from instar.config.presets import preset
from instar.hub.families import FAMILIES, config_from_hf, config_to_hf, family_of
from instar.hub.files import load_model, save_model
from instar.infer.beam import beam_search
from instar.infer.text import complete
from instar.model.cache import KVCache
from instar.model.transformer import Transformer

MARIAN, BART, T5 = "MarianMTModel", "BartForConditionalGeneration", "T5ForConditionalGeneration"
APART = dict(share_encoder_decoder_embeddings=False, vocab_size=53, decoder_vocab_size=61)
GATED = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
CASES = {
    "marian": (MARIAN, {}),
    "marian with swish": (MARIAN, dict(activation_function="swish", scale_embedding=False)),
    "marian with two vocabularies": (MARIAN, APART),
    "marian untied": (MARIAN, APART | dict(tie_word_embeddings=False)),
    "bart": (BART, {}),
    "bart scaled": (BART, dict(scale_embedding=True, encoder_layers=3, decoder_layers=1)),
    "t5": (T5, {}),
    "t5 v1.1": (T5, GATED),
    "t5 tied and gated": (T5, dict(feed_forward_proj="gated-silu", relative_attention_num_buckets=6)),
}
TRIO = ("marian", "bart", "t5")


def asked(pair):
    """As transformers is asked."""
    source, keep, tokens = pair
    return dict(input_ids=source, attention_mask=keep.long(), decoder_input_ids=tokens)


@torch.no_grad()
def same(ours, theirs, pair):
    """The one check: every logit within 1e-5."""
    source, keep, tokens = pair
    found = ours(tokens, source=source, source_view=View(keep=keep))
    return bool(((found - theirs(**asked(pair)).logits).abs() <= 1e-5).all())


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_those_of_transformers(written_pair, pair, case):
    """A folder that transformers wrote gives the same logits, to 1e-5."""
    architecture, changes = CASES[case]
    folder, theirs = written_pair(architecture, **changes)
    assert theirs(**asked(pair)).logits.std().item() == pytest.approx(1, rel=0.01)
    assert same(load_model(folder), theirs, pair)


BROKEN = {
    "marian's positions in turn": ("marian", dict(positions="sinusoidal")),
    "marian's norms before": ("marian", dict(residual="pre")),
    "marian's embeddings as they are": ("marian", dict(scaled_embed=False)),
    "marian's norm_eps": ("marian", dict(norm_eps=1e-3)),
    "marian's bias off": ("marian", dict(head_bias=False)),
    "marian's act": ("marian with swish", dict(act="gelu")),
    "marian's second embedding off": ("marian with two vocabularies", dict(source_vocab_size=0)),
    "bart's positions from 0": ("bart", dict(position_start=0, max_positions=66)),
    "bart's embed_norm off": ("bart", dict(embed_norm=False)),
    "bart's embeddings as they are": ("bart scaled", dict(scaled_embed=False)),
    "bart's biases off": ("bart", dict(qkv_bias=False)),
    "gelu approximated": ("bart", dict(act="gelu_tanh")),
    "t5's scores divided": ("t5", dict(score_size=6.0)),
    "t5's buckets": ("t5", dict(relative_distance=20)),
    "t5's positions off": ("t5", dict(positions="none")),
    "t5's head as it is": ("t5", dict(head_scale=1.0)),
    "t5's norm with a mean": ("t5", dict(norm="layer_plain")),
    "t5 v1.1's head scaled": ("t5 v1.1", dict(head_scale=32**-0.5)),
    "t5 v1.1's gelu exact": ("t5 v1.1", dict(act="gelu")),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_the_check_can_fail(written_pair, pair, fault):
    """The same weights under a config with one detail changed are caught by the very same check."""
    case, changes = BROKEN[fault]
    folder, theirs = written_pair(CASES[case][0], **CASES[case][1])
    right = load_model(folder)
    wrong = Transformer(replace(right.config, **changes), seed=None)
    wrong.load_state_dict(right.state_dict(), strict=False)
    assert not same(wrong.eval(), theirs, pair)


@pytest.mark.parametrize("case", TRIO)
def test_padding_of_a_source_counts_where_it_is_not_told(written_pair, pair, case):
    """The check notices a source whose padding is read, so what it passes has hidden it."""
    ours = load_model(written_pair(*CASES[case][:1], **CASES[case][1])[0])
    source, keep, tokens = pair
    with torch.no_grad():
        read = ours(tokens, source=source)
        hidden = ours(tokens, source=source, source_view=View(keep=keep))
    alike = (read - hidden).abs().amax((1, 2)) <= 1e-5
    assert alike.tolist() == keep.all(1).tolist()


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_cached_decoding_is_uncached_decoding(written_pair, pair, case):
    """Token by token, the cross keys computed once, ours as theirs: the logits of the whole."""
    architecture, changes = CASES[case]
    folder, theirs = written_pair(architecture, **changes)
    source, keep, tokens = pair
    ours = load_model(folder)
    whole = ours(tokens, source=source, source_view=View(keep=keep))
    cache = KVCache(ours.config, len(tokens), tokens.shape[1], source_capacity=source.shape[1])
    said = [ours(tokens[:, :3], source=source, source_view=View(keep=keep), cache=cache)]
    said += [ours(token, cache=cache) for token in tokens[:, 3:].split(1, dim=1)]
    torch.testing.assert_close(torch.cat(said, dim=1), whole, rtol=0, atol=1e-5)
    memory, past, heard = theirs.get_encoder()(source, attention_mask=keep.long()), None, []
    for token in tokens.split(1, dim=1):
        told = theirs(
            encoder_outputs=memory, attention_mask=keep.long(), decoder_input_ids=token, past_key_values=past,
            use_cache=True,
        )  # fmt: skip
        past = told.past_key_values
        heard.append(told.logits)
    torch.testing.assert_close(torch.cat(said, dim=1), torch.cat(heard, dim=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("case", "penalty", "stops"), [("marian", 1.0, 3), ("bart", -1.0, 8), ("t5", 0.0, 16)])
def test_beams_and_their_scores(written_pair, pair, case, penalty, stops):
    """Four answers to each of three ragged sources, side by side: the words and scores of transformers."""
    folder, theirs = written_pair(CASES[case][0], **CASES[case][1])
    source, keep, _ = pair
    stops = list(range(5, 61, 60 // stops))
    options = SamplingOptions(strategy="beam", beams=4, length_penalty=penalty, max_new_tokens=8)
    sources = [row[real].tolist() for row, real in zip(source, keep)]
    found = beam_search(load_model(folder), [[]] * 3, options, sources=sources, n=4, stops=stops)
    told = theirs.generate(
        source, attention_mask=keep.long(), num_beams=4, num_return_sequences=4, length_penalty=penalty,
        do_sample=False, eos_token_id=stops, max_new_tokens=8, return_dict_in_generate=True, output_scores=True,
        use_cache=False,  # which its T5 has room in for as many layers as the encoder has
    )  # fmt: skip
    answers = [answer for best in found for answer in best]
    for answer, ids, score in zip(answers, told.sequences.tolist(), told.sequences_scores.tolist(), strict=True):
        end = next((place for place, id in enumerate(ids) if id in stops), len(ids))
        assert answer.ids == ids[1:end]
        assert answer.score == pytest.approx(score, abs=1e-4)


LIKE_MARIAN = preset(
    "transformer-base", vocab_size=64, d_model=32, heads=4, layers=2, encoder_layers=3, d_ff=48, start=2
)
LIKE_BART = replace(
    LIKE_MARIAN, positions="learned", position_start=2, embed_norm=True, act="gelu", scaled_embed=False,
    max_positions=64,
)  # fmt: skip
LIKE_T5 = ModelConfig(
    64, 32, 2, 4, encoder_layers=3, start=2, positions="t5", mlp="plain", act="relu", score_size=1.0, head_size=6,
    head_scale=32**-0.5, relative_buckets=8, relative_distance=16, max_positions=64,
)  # fmt: skip
OWN = {
    "transformer-base": LIKE_MARIAN,
    "marian": replace(LIKE_MARIAN, scaled_embed=False, act="silu"),
    "marian with two vocabularies": replace(LIKE_MARIAN, source_vocab_size=53),
    "marian with two vocabularies of one size": replace(LIKE_MARIAN, source_vocab_size=64, tied=False),
    "bart": LIKE_BART,
    "t5": LIKE_T5,
    "t5 v1.1": replace(LIKE_T5, mlp="gated", act="gelu_tanh", tied=False, head_scale=1.0),
    "t5 untied": replace(LIKE_T5, tied=False),
}


def restless(config):
    """A model of ours in which biases, norms and distances say something, and sources are heard."""
    ours, generator = Transformer(config, seed=3).eval(), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in ours.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "blocks" in name and weight.ndim > 1:
                loud = 3 if ".cross." in name and config.positions != "t5" else 1
                weight.copy_(loud * noise / weight.shape[1] ** 0.5)
            elif not name.startswith("embed."):  # biases and norms are 0 and 1 in a new model
                weight += 0.1 * noise
    return ours


@pytest.mark.parametrize("name", OWN)
def test_transformers_reads_what_we_write(tmp_path, pair, name):
    """AutoModelForSeq2SeqLM finds every weight, has the same logits and says the same words of ragged sources."""
    auto = pytest.importorskip("transformers").AutoModelForSeq2SeqLM
    source, keep, _ = pair
    ours = restless(OWN[name])
    save_model(ours, tmp_path)
    theirs, told = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert same(ours, theirs, pair)
    heard = theirs.generate(source, attention_mask=keep.long(), max_new_tokens=12, do_sample=False, num_beams=1)
    sources = [row[real].tolist() for row, real in zip(source, keep)]
    said = complete(ours, None, sources, SamplingOptions(strategy="greedy", max_new_tokens=12))
    assert heard.tolist() == [[2, *answer.ids] for answer in said]
    assert len({tuple(answer.ids) for answer in said}) == len(sources)


@pytest.mark.parametrize("name", OWN)
def test_config_survives_the_way_there_and_back(name):
    """ModelConfig -> config.json -> ModelConfig, noise of training apart where a family has one figure for all."""
    back = config_from_hf(json.loads(json.dumps(config_to_hf(OWN[name]))))
    assert replace(back, attention_dropout=OWN[name].attention_dropout) == OWN[name]


@pytest.mark.parametrize("case", CASES)
def test_save_gives_back_every_tensor(written_pair, tmp_path_factory, case):
    """A folder of transformers, loaded and saved, holds bit for bit the weights that it held."""
    architecture, changes = CASES[case]
    folder, _ = written_pair(architecture, **changes)
    out = tmp_path_factory.mktemp("saved")
    save_model(load_model(folder), out)
    wanted, found = (load_file(path / "model.safetensors") for path in (folder, out))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("name", OWN)
def test_one_family_claims_each_shape(name):
    """No encoder-decoder of ours is of two families."""
    held = [family.architecture for family in FAMILIES.values() if family.holds(OWN[name])]
    assert len(held) == 1
    assert held[0].lower().startswith(name.split()[0].replace("transformer-base", "marian"))


def test_the_preset_of_the_paper_is_a_marian():
    """6 + 6 layers of width 512, 8 heads, 2048 inside: about 63 million weights with the paper's 37,000 tokens, and a
    folder that translators of today read."""
    config = preset("transformer-base", vocab_size=37_000)
    assert family_of(config).architecture == MARIAN
    with torch.device("meta"):
        size = Transformer(config, seed=None).size()
    # by hand: embeddings; six layers of 4 projections, 2 matrices and 2 norms; six with 4 more and a norm more; bias
    square, inner, norm = 512 * 512 + 512, 2 * 512 * 2048 + 2048 + 512, 2 * 512
    assert size == 37_000 * 512 + 6 * (4 * square + inner + 2 * norm) + 6 * (8 * square + inner + 3 * norm) + 37_000


def test_a_folder_says_what_decoding_begins_with(tmp_path):
    """In config.json and in generation_config.json; a shape that does not know it is not written."""
    save_model(Transformer(OWN["t5"]), tmp_path)
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / name).read_text())["decoder_start_token_id"] == 2
    for name in TRIO:
        with pytest.raises(InputError, match="start=-1: an encoder-decoder is saved with the id"):
            config_to_hf(replace(OWN[name], start=-1))


def test_a_t5_of_the_hub():
    """T5 v1.1's config.json says that the head is untied, and transformers 5 what follows from it; both are read."""
    hub = config_to_hf(OWN["t5 v1.1"]) | {"feed_forward_proj": "gated-gelu"}
    left_out = {key: value for key, value in hub.items() if key not in ("scale_decoder_outputs", "n_positions")}
    wanted = replace(OWN["t5 v1.1"], max_positions=512)
    assert replace(config_from_hf(left_out), attention_dropout=0.0) == wanted
    again = left_out | {"tie_word_embeddings": True, "scale_decoder_outputs": False, "dense_act_fn": "gelu_new"}
    assert replace(config_from_hf(again), attention_dropout=0.0) == wanted
    plain = {key: value for key, value in left_out.items() if key not in ("tie_word_embeddings", "feed_forward_proj")}
    found = config_from_hf(plain | {"num_decoder_layers": None, "decoder_start_token_id": None, "pad_token_id": 7})
    assert (found.tied, found.head_scale, found.mlp, found.act) == (True, 32**-0.5, "plain", "relu")
    assert (found.layers, found.encoder_layers, found.start) == (3, 3, 7)


# What the hub's folders say besides.
TRANSLATOR = dict(
    activation_dropout=0.0, activation_function="swish", add_bias_logits=False, add_final_layer_norm=False,
    bad_words_ids=[[60]], classif_dropout=0.0, classifier_dropout=0.0, decoder_layerdrop=0.0, forced_eos_token_id=0,
    extra_pos_embeddings=2, gradient_checkpointing=False, init_std=0.02, max_length=512, normalize_before=False,
    normalize_embedding=False, num_beams=6, num_hidden_layers=3, static_position_embeddings=True,
)  # fmt: skip
SUMMARISER = dict(
    _num_labels=3, early_stopping=True, force_bos_token_to_be_generated=True, forced_bos_token_id=0, prefix=" ",
    length_penalty=2.0, no_repeat_ngram_size=3, normalize_embedding=True, output_past=True, extra_pos_embeddings=2,
    static_position_embeddings=False, num_hidden_layers=3, num_beams=4, min_length=56, normalize_before=False,
)  # fmt: skip


@pytest.mark.parametrize(("name", "said"), [("transformer-base", TRANSLATOR), ("bart", SUMMARISER)])
def test_what_the_folders_of_the_hub_say_besides(name, said):
    """How answers are chosen, and old spellings of what is always so, change no shape."""
    found = config_from_hf(config_to_hf(OWN[name]) | said)
    assert found == replace(OWN[name], act="silu" if "activation_function" in said else OWN[name].act)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("marian", dict(decoder_ffn_dim=64), "encoder_ffn_dim=48 and decoder_ffn_dim=64; we compute one for both"),
        ("bart", dict(encoder_attention_heads=2), "encoder_attention_heads=2 and decoder_attention_heads=4"),
        ("bart", dict(num_hidden_layers=9), "num_hidden_layers=9 and encoder_layers=3"),
        ("marian", dict(decoder_vocab_size=61), "vocab_size=64 and decoder_vocab_size=61; make them equal"),
        ("marian", dict(tie_word_embeddings=False), "tie_word_embeddings=False; we compute a head of its own where"),
        ("bart", dict(tie_word_embeddings=False), "tie_word_embeddings=False; we compute .* with True"),
        ("bart", dict(normalize_before=True), "normalize_before=True"),
        ("bart", dict(normalize_embedding=False), "normalize_embedding=False"),
        ("marian", dict(static_position_embeddings=False), "static_position_embeddings=False"),
        ("marian", dict(encoder_layers=0), "need an encoder; set encoder_layers"),
        ("t5", dict(feed_forward_proj="twice-gelu"), "feed_forward_proj='twice-gelu'; wanted an activation, or gated-"),
        ("t5", dict(feed_forward_proj="gated-mish"), "unknown feed_forward_proj mish"),
        ("t5", dict(is_gated_act=True), "feed_forward_proj='relu' and is_gated_act=True; wanted False"),
        ("t5", dict(dense_act_fn="gelu_new"), "feed_forward_proj='relu' and dense_act_fn='gelu_new'; wanted 'relu'"),
        ("t5", dict(is_decoder=True), "is_decoder=True"),
        ("t5", dict(relative_attention_max_distance=4), "relative_distance=4 is not above relative_buckets=8"),
    ],
)
def test_refuses_what_it_does_not_compute(name, changes, message):
    """A value that would be computed wrongly is an error that names it."""
    with pytest.raises(InputError, match=message):
        config_from_hf(config_to_hf(OWN[name]) | changes)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("marian", dict(norm_eps=1e-6)), ("marian", dict(positions="sinusoidal")), ("marian", dict(residual="pre")),
        ("marian", dict(tied=False)), ("marian", dict(head_bias=False)), ("marian", dict(head_size=4)),
        ("bart", dict(position_start=0)), ("bart", dict(source_vocab_size=53)), ("bart", dict(kv_heads=2)),
        ("t5", dict(head_scale=1.0)), ("t5", dict(score_size=0.0)), ("t5", dict(bias=True)),
        ("t5", dict(source_vocab_size=53)), ("t5", dict(heads_of=("lm", "classify"))),
    ],
)  # fmt: skip
def test_shapes_of_no_family_are_not_written(name, changes):
    """What transformers could not compute is refused and told, not written wrongly."""
    with pytest.raises(InputError, match="no known family has"):
        family_of(replace(OWN[name], **changes))


COPIES = {
    "marian": ("model.shared.weight", "model.encoder.embed_tokens.weight", "model.encoder.embed_positions.weight"),
    "bart": ("model.shared.weight", "model.decoder.embed_tokens.weight", None),
    "t5": (
        "shared.weight", "encoder.embed_tokens.weight",
        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRIO)
def test_a_file_may_hold_the_embedding_more_than_once(tmp_path, pair, name):
    """As old files do, and other things that nothing is computed with; copies that differ are an error."""
    ours = restless(OWN[name])
    save_model(ours, tmp_path)
    path, (embedding, copy, idle) = tmp_path / "model.safetensors", COPIES[name]
    weights = load_file(path)
    more = weights | {copy: weights[embedding].clone()} | ({idle: torch.ones(8, 4)} if idle else {})
    save_file(more, path)
    source, _, tokens = pair
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path)(tokens, source=source), ours(tokens, source=source))
    save_file({key: value for key, value in more.items() if key != embedding}, path)
    assert torch.equal(load_model(tmp_path).embed.weight, ours.embed.weight)
    save_file(more | {copy: weights[embedding] + 1}, path)
    with pytest.raises(InputError, match=f"{copy} and {embedding} differ .* with one weight for both"):
        load_model(tmp_path)


LIKE_CLASSIFIER = replace(
    LIKE_BART, heads_of=("classify",), head_bias=False, pooling="last", pooled="tanh", labels=3,
)  # fmt: skip


@torch.no_grad()
def test_bart_classifies_a_text(written_pair, pair, tmp_path_factory):
    """BartForSequenceClassification says of ragged texts what ours says of them as sources, and said again by the
    decoder; its folder is read, and ours by it."""
    architecture = "BartForSequenceClassification"
    changes = dict(id2label={0: "bad", 1: "good", 2: "other"}, label2id={"bad": 0, "good": 1, "other": 2})
    folder, theirs = written_pair(architecture, eos_token_id=52, **changes)
    source, keep, _ = pair
    said = torch.cat((torch.full((len(source), 1), 2), source[:, :-1]), dim=1)
    wanted = theirs(source, attention_mask=keep.long(), decoder_input_ids=said).logits
    ours, view = load_model(folder), View(keep=keep)
    assert ours.config.label_names == ("bad", "good", "other")
    torch.testing.assert_close(ours(said, view=view, source=source, source_view=view), wanted, rtol=0, atol=1e-5)
    first = Transformer(replace(ours.config, pooling="first"), seed=None)
    first.load_state_dict(ours.state_dict())
    assert (first.eval()(said, view=view, source=source, source_view=view) - wanted).abs().max() > 0.1
    out = tmp_path_factory.mktemp("saved")
    save_model(ours, out)
    old, new = (load_file(path / "model.safetensors") for path in (folder, out))
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)
    again, told = type(theirs).from_pretrained(out, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    again.config.eos_token_id = 52
    found = again(source, attention_mask=keep.long(), decoder_input_ids=said).logits
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert replace(config_from_hf(config_to_hf(LIKE_CLASSIFIER))) == LIKE_CLASSIFIER
