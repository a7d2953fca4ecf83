"""Pairs of answers become tokens: the prompt as serving spells it, each answer with its end."""

import numpy as np
import pytest

from instar.config import InputError
from instar.data.corpus import text_key
from instar.data.preferences import answered, load_preferences
from instar.text import Tokenizer

END, TURN, EOS = 259, 258, 256
PAIR = {"prompt": "Who?", "chosen": "Anna.", "rejected": "Ben"}  # 7 + 6, 7 + 4 tokens
ASK = {"role": "user", "content": "Who?"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("Anna.", "Ben"))


def spell(ids):
    return "".join({END: "|", TURN: "<", EOS: "$"}.get(id, chr(id)) for id in ids.tolist())


def spelt(store, number=0):
    return tuple(map(spell, store.pair(number)))


@pytest.fixture
def load(document, tokenizer):
    def load(*records, tokenizer=tokenizer, context=64, **options):
        documents = [document(record, number) for number, record in enumerate(records, 1)]
        return load_preferences(documents, tokenizer, context=context, **options)

    return load


def test_the_prompt_asks_and_each_answer_ends(load):
    """The ids before an answer are those of a chat that waits for one; an answer goes on to its end."""
    store, counts = load(PAIR, PAIR | {"prompt": [ASK, GOOD, ASK], "rejected": [BAD]})
    assert spelt(store) == ("<Who?|<", "Anna.|", "Ben|")
    assert spelt(store, 1) == ("<Who?|<Anna.|<Who?|<", "Anna.|", "Ben|")
    assert (counts["pairs"], counts["kept"], counts["prompt_tokens"], counts["tokens"], counts["bytes"]) == (
        2, 2, 27, 20, 16,
    )  # fmt: skip
    assert (store.total, store.bytes, store.lengths.tolist()) == (47, 16, [17, 30])
    assert (store.margins, store.references) == (None, None)


def test_one_pair_is_a_document(load):
    """What shows or counts tokens sees the three parts end to end, of which the answers teach."""
    store, _ = load(PAIR, PAIR)
    assert spell(store.tokens(1)) == "<Who?|<Anna.|Ben|"
    assert spell(store.tokens(1, 5, 9)) == "|<An"
    assert store.teaches(1, 5, 9).tolist() == [False, False, True, True]
    assert len(store.teaches(1, 0, 99)) == 17


def test_a_prompt_is_on_one_side(load):
    """Pairs with one prompt are held out together, whatever the answers and however much of a prompt was kept; margins
    and references go with their pair."""
    records = [PAIR | {"prompt": f"Question {n % 100}?", "margin": n, "chosen": "a" * (1 + n % 3)} for n in range(200)]
    store, _ = load(*records)
    references = np.arange(400.0).reshape(200, 2)
    learnt, kept = type(store)(**{**vars(store), "references": references}).split(0.3)
    assert len(learnt) + len(kept) == 200
    assert 30 < len(kept) < 90
    questions = [{spelt(side, n)[0] for n in range(len(side))} for side in (learnt, kept)]
    assert not questions[0] & questions[1]
    for n in range(len(kept)):
        number = int(kept.margins[n])
        assert spelt(kept, n)[0] == f"<Question {number % 100}?|<"
        assert kept.references[n].tolist() == [2 * number, 2 * number + 1]
    assert kept.keys[0] == text_key(spelt(kept)[0][1:-2])


@pytest.mark.parametrize(("context", "prompt", "shortened"), [
    (26, "<Who?|<Anna.|<Who?|<", 0), (25, "<Who?|<", 1), (13, "<Who?|<", 1), (12, None, 0),
])  # fmt: skip
def test_what_is_too_long_loses_turns_and_never_the_end_of_an_answer(load, context, prompt, shortened):
    """The prompt gives up its first turns; where its last is still too long the pair is left out; both are counted."""
    long = PAIR | {"prompt": [ASK, GOOD, ASK]}
    store, counts = load(long, PAIR | {"chosen": "a", "rejected": "b"}, context=context)
    assert (counts["shortened"], counts["too_long"]) == (shortened, int(prompt is None))
    if prompt is not None:
        assert spelt(store) == (prompt, "Anna.|", "Ben|")
        assert store.keys[0] == text_key("Who?\nAnna.\nWho?")


def test_bad_records_are_counted_told_and_left_out(load):
    """The reasons stand in the report, the first records in what is said; what is left is learnt from."""
    told = []
    bad = [PAIR | {"chosen": "Ben"}, PAIR | {"chosen": ""}, {"text": "a story"}, PAIR | {"prompt": "\ud800"}]
    store, counts = load(PAIR, *bad, PAIR, bad_records=0.7, say=told.append)
    assert len(store) == 2
    assert (counts["pairs"], counts["identical"], counts["empty"], counts["malformed"]) == (6, 1, 1, 2)
    assert told[0] == "left out here, record 2: chosen and rejected are the same answer"
    with pytest.raises(InputError, match=r"4 of 6 records .* bad_records=0.5 .* 1 identical, first here, record 2"):
        load(PAIR, *bad, PAIR, bad_records=0.5)


def test_one_bad_record_does_not_end_a_run(load):
    """With the default limit one of a handful is left out."""
    assert load(PAIR, PAIR | {"chosen": "Ben"})[1]["identical"] == 1


def test_what_the_template_refuses_is_one_record(load, tokenizer, monkeypatch):
    """A template's error costs the record that it is about, not its neighbours; answers that a template makes one are
    identical."""
    chat = type(tokenizer).chat

    def refuse(self, messages, **options):
        if messages[0]["role"] == "system":
            raise InputError("no system")
        return chat(self, [m | {"content": m["content"].strip()} for m in messages], **options)

    monkeypatch.setattr(type(tokenizer), "chat", refuse)
    system = {"prompt": [{"role": "system", "content": "x"}, ASK], "chosen": "a", "rejected": "b"}
    store, counts = load(PAIR, system, PAIR | {"chosen": "Ben "}, bad_records=1.0)
    assert (len(store), counts["refused"], counts["identical"]) == (1, 1, 1)


def test_nothing_left_is_an_error(load):
    """All too long, all at fault: said with the numbers."""
    with pytest.raises(InputError, match="of 2 pairs 1 are longer than context=12 and 1 identical; raise"):
        load(PAIR, PAIR | {"chosen": "Ben"}, context=12, bad_records=1.0)


def test_tools_are_shown_to_the_template(load):
    """A record with tools has another prompt than one without."""
    store, _ = load(PAIR, PAIR | {"tools": [{"name": "add"}]}, PAIR)
    assert [spelt(store, n)[0] for n in range(3)] == ["<Who?|<", "<1 tools|<Who?|<", "<Who?|<"]


def test_without_a_template_it_is_text_and_an_end(load, document, tokenizer, monkeypatch):
    """The prompt as it stands, answers with the end of a text; several messages are a line each."""
    monkeypatch.setattr(type(tokenizer), "template", None)
    store, _ = load(PAIR, PAIR | {"prompt": [ASK, GOOD, ASK]})
    assert spelt(store) == ("Who?", "Anna.$", "Ben$")
    assert spelt(store, 1)[0] == "Who?\nAnna.\nWho?\n"
    with pytest.raises(InputError, match="tools are shown by a chat template"):
        load(PAIR | {"tools": [{"name": "add"}]}, bad_records=0.0)
    monkeypatch.setattr(type(tokenizer), "eos", None)
    with pytest.raises(InputError, match="neither a chat template nor an eos_token"):
        load(PAIR, bad_records=0.0)


TEMPLATES = {
    "ours": None,
    # what assistants said stands behind a mark that is not written when one is asked to answer
    "asks otherwise": "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant, now]{% endif %}",
    # no end of a turn
    "endless": "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}",
    # only the text is marked as the assistant's
    "text alone": "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_serving_gives_the_same_prompt_and_stops_at_the_answers_end(load, name):
    """Whatever the template: the prompt is what a chat would be given, the answer decodes to its text, also where it
    could share a token with the prompt, and one id that stops generation ends it."""
    bytes_alone = Tokenizer.train([], 320)
    template = TEMPLATES[name] or bytes_alone.template
    tokenizer = Tokenizer(bytes_alone.vocabulary.spec, bytes_alone.config, template)
    record = PAIR | {"chosen": "Anna <|im_end|> and me", "rejected": "\n\n[x"}
    store, _ = load(record, tokenizer=tokenizer, context=999)
    prompt, *answers = store.pair(0)
    assert prompt.tolist() == tokenizer.chat([ASK], add_generation_prompt=True).ids
    for ids, text in zip(answers, (record["chosen"], record["rejected"])):
        assert tokenizer.decode(ids.tolist()).strip() == text.strip()
        assert [id in tokenizer.stops for id in ids] == [False] * (len(ids) - 1) + [True]


def test_answers_are_spelt_as_those_of_pairs(load, tokenizer):
    """A conversation that ends with an answer gives the ids that training saw."""
    store, _ = load(PAIR)
    prompt, chosen, rejected = (side.tolist() for side in store.pair(0))
    assert answered([[ASK, GOOD], [ASK, BAD]], tokenizer) == [(prompt, chosen), (prompt, rejected)]
