"""Dialogues become tokens of which the replies teach; what does not fit is cut, counted, reported."""

import pytest
import torch

from instar.batch import IGNORE
from instar.config import InputError, ModelConfig
from instar.data.collate import Collate
from instar.data.dialogues import load_dialogues
from instar.data.packing import best_fit
from instar.model.transformer import Transformer
from instar.train.objectives import cross_entropy

END = 259
TALK = {"turns": ["Who?", "Anna.", "Where?", "Home."]}  # 6 + 7 + 8 + 7 = 28 tokens


def load(documents, tokenizer, context=64, **options):
    return load_dialogues(documents, tokenizer, context=context, **options)


def live(store, context=64):
    """What the targets of all rows spell, END as |."""
    rows = best_fit(store.lengths, context)
    targets = Collate(store, context)(list(rows)).targets
    return "".join("|" if token == END else chr(token) for token in targets[targets != IGNORE].tolist())


def test_replies_and_their_ends_teach(document, tokenizer):
    """Of a dialogue of two turns exactly the replies and the ends of replies are targets."""
    store, counts = load([document(TALK)], tokenizer)
    assert live(store) == "Anna.|Home.|"
    assert (counts["dialogues"], counts["kept"], counts["replies"], counts["truncated"]) == (1, 1, 2, 0)
    assert (counts["tokens"], counts["teaching"], counts["bytes"]) == (28, 12, 10)


def test_all_tokens_teach_when_asked(document, tokenizer):
    """teach=all leaves out only the first token, which nothing predicts."""
    store, counts = load([document(TALK)], tokenizer, teach="all")
    assert counts["teaching"] == 27
    assert store.teaches(0, 0, 3).tolist() == [False, True, True]
    with pytest.raises(InputError, match="unknown value for teach: assistent; did you mean assistant"):
        load([document(TALK)], tokenizer, teach="assistent")


@pytest.mark.parametrize(("context", "taught", "cut"), [(28, "Anna.|Home.|", 0), (27, "Anna.|", 1), (13, "Anna.|", 1)])
def test_a_long_dialogue_ends_with_the_last_reply_that_fits(document, tokenizer, context, taught, cut):
    """Every reply that is kept is learnt to its end, and the cut is counted."""
    store, counts = load([document(TALK)], tokenizer, context)
    assert live(store) == taught
    assert (counts["truncated"], counts["replies_cut"], counts["too_long"]) == (cut, cut, 0)


def test_what_cannot_be_kept_is_counted(document, tokenizer):
    """Too long before the first reply ends, and never answered: left out, each under its own name."""
    talks = [TALK, {"turns": ["x" * 90, "y"]}, {"turns": ["Hello?"]}, {"prompt": "a", "completion": "b"}]
    store, counts = load([document(talk) for talk in talks], tokenizer)
    assert len(store) == 2
    assert (counts["dialogues"], counts["kept"], counts["too_long"], counts["unanswered"]) == (4, 2, 1, 1)


def test_tools_are_shown_to_the_template(document, tokenizer):
    """Dialogues with tools keep their place among those without."""
    talks = [TALK, TALK | {"tools": '[{"name": "add"}]'}, TALK]
    store, counts = load([document(talk) for talk in talks], tokenizer)
    assert store.lengths.tolist() == [28, 28 + 9, 28]
    assert counts["kept"] == 3


def test_a_record_the_template_refuses_is_named(document, tokenizer, monkeypatch):
    """Foreign templates refuse some dialogues; which one is said, also out of many."""

    def chat(self, messages, tools=None):
        raise InputError("roles must alternate")

    monkeypatch.setattr(type(tokenizer), "chat", chat)
    with pytest.raises(InputError, match="here, record 7: roles must alternate"):
        load([document(TALK, 7)], tokenizer)


def test_a_document_is_no_dialogue(document, tokenizer):
    """SFT on plain texts says what it found and where."""
    with pytest.raises(InputError, match="here, record 1: a record with the keys text; wanted one of"):
        load([document("A story.")], tokenizer)


def test_the_same_dialogue_is_held_out_as_a_record_and_as_tokens(document, tokenizer):
    """The hash is of what was said, whatever the shape of the record."""
    from instar.data.corpus import is_held_out

    talks = [document({"turns": [f"question {n}", f"answer {n}"]}) for n in range(200)]
    store, _ = load(talks, tokenizer)
    assert len(store.split(0.2)[1]) == sum(is_held_out(talk, 0.2) for talk in talks)


MARKED = {
    "messages": [
        {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Anna.", "weight": 0},
        {"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Home."},
    ]
}  # fmt: skip


@pytest.mark.parametrize(
    ("teach", "taught"), [("assistant", "Home.|"), ("all", "Who?|\u0102\u0102Where?|\u0102Home.|")]
)
def test_a_reply_marked_so_does_not_teach(document, tokenizer, teach, taught):
    """Its tokens are read and not learnt, also where all tokens are; what is counted is what is learnt."""
    store, counts = load([document(MARKED)], tokenizer, teach=teach)
    assert live(store) == taught
    assert (counts["replies"], counts["bytes"], counts["teaching"]) == (1, 5, len(taught))


def test_what_is_left_of_a_cut_dialogue_must_teach(document, tokenizer):
    """A dialogue whose only reply to learn does not fit is too long; one with none at all is untaught."""
    silent = {"messages": [*MARKED["messages"][:2]]}
    _, counts = load([document(MARKED), document(silent), document(TALK)], tokenizer, context=27)
    assert (counts["kept"], counts["too_long"], counts["untaught"], counts["replies_cut"]) == (1, 1, 1, 2)


def test_of_a_prompt_and_its_completion_the_completion_teaches(document, tokenizer):
    """Earlier answers in a prompt are read only."""
    asked = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    store, _ = load([document({"prompt": asked, "completion": "d"}), document({"prompt": "e", "completion": "f"})],
                    tokenizer)  # fmt: skip
    assert live(store) == "d|f|"


def test_bad_records_are_counted_told_and_left_out(document, tokenizer, monkeypatch):
    """Another shape, and what the template refuses, up to a share; the first are said with where they stand."""
    chat = type(tokenizer).chat

    def refuse(self, messages, **options):
        if messages[0]["role"] == "system":
            raise InputError("no system here")
        return chat(self, messages, **options)

    monkeypatch.setattr(type(tokenizer), "chat", refuse)
    system = {"messages": [{"role": "system", "content": "x"}, *MARKED["messages"]]}
    documents = [document(record, n) for n, record in enumerate([TALK, {"text": "x"}, system, TALK], 1)]
    told = []
    store, counts = load(documents, tokenizer, bad_records=0.5, say=told.append)
    assert (len(store), counts["malformed"], counts["refused"], counts["kept"]) == (2, 1, 1, 2)
    assert told[1] == "left out here, record 3: no system here"
    with pytest.raises(InputError, match=r"2 of 4 records .* 1 malformed, first here, record 2: .* 1 refused, first "):
        load(documents, tokenizer, bad_records=0.25)
    with pytest.raises(InputError, match=r"have no reply and 1 are at fault \(1 .*, first here, record .*\); raise"):
        load(documents[1:2], tokenizer, bad_records=1.0)


def test_marks_that_nobody_could_place_are_a_fault(document, tokenizer, monkeypatch):
    """A template that makes one stretch of two replies leaves open which of them is not to be learnt."""
    chat = type(tokenizer).chat

    def joined(self, messages, **options):
        rendered = chat(self, messages, **options)
        rendered.teaches = [place >= rendered.teaches.index(True) for place in range(len(rendered.ids))]
        return rendered

    monkeypatch.setattr(type(tokenizer), "chat", joined)
    with pytest.raises(InputError, match="2 replies, some marked not to teach, are 1 stretches"):
        load([document(MARKED)], tokenizer)
    assert load([document(TALK)], tokenizer)[1]["replies"] == 1


def test_without_a_template_a_completion_is_text_and_an_end(document, tokenizer, monkeypatch):
    """The prompt as it stands, then what is learnt; more than one reply needs a template."""
    monkeypatch.setattr(type(tokenizer), "template", None)
    store, counts = load([document({"prompt": "Who?", "completion": " Anna."})], tokenizer)
    assert store.tokens(0).tolist() == [*b"Who? Anna.", 256]
    assert live(store) == " Anna." + chr(256)
    assert counts["bytes"] == 6
    with pytest.raises(InputError, match="without a chat template, which this tokenizer lacks, wanted a prompt"):
        load([document(TALK)], tokenizer)


READING = {
    "context": "Anna put the ball at home.",
    "qas": [
        {"question": "Who?", "answer": "Anna."},
        {"question": "Where is the ball?", "answers": [{"text": "Home."}, {"text": "There."}]},
        {"question": "What?", "answer": "Ball."},
    ],
}


def test_questions_about_one_text_share_it(document, tokenizer):
    """The text stands once, each question sees it and itself, and what is learnt of each is what it teaches alone."""
    store, counts = load([document(READING)], tokenizer, context=200, fold=True)
    apart, alone = load([document(READING)], tokenizer, context=200)
    assert (len(store), len(apart)) == (1, 3)
    assert live(store, 200) == "Anna.|Home.|Ball.|"
    assert sorted(live(apart, 200).split("|")) == ["", "Anna.", "Ball.", "Home."]
    assert counts["dialogues"] == alone["dialogues"] == 3
    assert (counts["shared"], alone["shared"]) == (alone["tokens"] - counts["tokens"], 0)
    assert counts["shared"] > 2 * len(READING["context"])
    assert counts["teaching"] == alone["teaching"]


def test_a_text_that_leaves_no_room_for_all_its_questions_is_read_again(document, tokenizer):
    """No question is lost: the rest of them go on in another document, which begins with the text too."""
    store, counts = load([document(READING)], tokenizer, context=66, fold=True)
    assert len(store) > 1
    assert store.lengths.max() <= 66
    assert sorted(live(store, 66).split("|")) == ["", "Anna.", "Ball.", "Home."]
    assert counts["replies_cut"] == 0


def test_a_text_that_teaches_is_not_shared(document, tokenizer):
    """With teach=all its last token has to say several first tokens, so each question keeps its own."""
    store, counts = load([document(READING)], tokenizer, context=200, teach="all", fold=True)
    assert (len(store), counts["shared"]) == (3, 0)


@pytest.mark.parametrize("positions", ["rotary", "learned", "alibi"])
def test_what_shares_a_text_is_learnt_as_by_itself(document, tokenizer, positions):
    """Loss and gradients of questions in one row with their text are those of three rows, packed with others or not."""
    model = Transformer(
        ModelConfig(vocab_size=264, d_model=16, layers=2, heads=2, max_positions=256, positions=positions)
    ).double()
    found = []
    for fold in (True, False):
        documents = [document(TALK), document(READING, 2)]  # two records of one file
        store, _ = load(documents, tokenizer, context=200, fold=fold)
        assert len(store) == (2 if fold else 4)
        model.zero_grad()
        total, count = cross_entropy(model, Collate(store, 200)(list(best_fit(store.lengths, 200)))).terms["loss"]
        total.backward()
        found.append([total.detach(), torch.tensor(count), *(weight.grad for weight in model.parameters())])
    for folded, whole in zip(*found):
        torch.testing.assert_close(folded, whole, rtol=1e-9, atol=1e-10)


def named(store, batch_of=200):
    """What each target rests on, in words, target by target."""
    rows = list(best_fit(store.lengths, batch_of))
    batch = Collate(store, batch_of)(rows)
    spelt = {}
    for row, (begin, end) in zip(
        *torch.where(batch.evidence[..., 1] > 0)[:1], batch.evidence[batch.evidence[..., 1] > 0]
    ):
        words = "".join(map(chr, batch.tokens[row, begin:end].tolist()))
        spelt[words] = spelt.get(words, 0) + 1
    return spelt


@pytest.mark.parametrize("fold", [True, False])
def test_evidence_is_where_the_text_has_it(document, tokenizer, fold):
    """Each target of a reply points at the words that the record names, wherever packing puts them; replies without
    evidence, and everything else, point nowhere."""
    qas = [one | {"evidence": words} for one, words in zip(READING["qas"], ["Anna put", "", "the ball"])]
    told = {
        "turns": [
            {"role": "user", "content": "It rains. Wet?"},
            {"role": "assistant", "content": "Yes.", "evidence": "It rains."},
        ]
    }
    store, _ = load(
        [document(READING | {"qas": qas}), document(told, 2)], tokenizer, context=200, fold=fold, evidence=True
    )
    assert len(store) == (2 if fold else 4)
    assert named(store) == {"Anna put": 6, "the ball": 6, "It rains.": 5}
    assert load([document(told)], tokenizer)[0].evidence(0, 0, 9) is None


def test_evidence_that_does_not_stand_before_its_reply_is_a_fault(document, tokenizer):
    """Words of nobody, or of the reply itself: told with the words, and the record is left out."""
    said = []
    for words in ("It snows.", "Yes."):
        told = {"turns": ["It rains. Wet?", {"role": "assistant", "content": "Yes.", "evidence": words}]}
        store, counts = load([document(told), document(TALK)], tokenizer, evidence=True, bad_records=1, say=said.append)
        assert (len(store), counts["refused"]) == (1, 1)
    assert "the evidence of reply 1, 'It snows.', does not stand before it" in said[0]
    with pytest.raises(InputError, match='"evidence" of message 1 is int'):
        load([document({"turns": ["Wet?", told["turns"][1] | {"evidence": 3}]})], tokenizer, evidence=True)


def test_evidence_within_a_question_moves_with_it(document, tokenizer):
    """Words of the question itself are found where it stands in the row; words that begin in the text and end in the
    question count as far as the text goes."""
    qas = [
        {"question": "Is blue nice?", "answer": "Yes.", "evidence": "blue"},
        {"question": "Was green seen?", "answer": "Yes!", "evidence": "green"},
        {"question": "Was it?", "answer": "So.", "evidence": "home.\nWas"},
    ]
    text = {"context": READING["context"], "qas": qas}
    store, _ = load([document(text)], tokenizer, context=200, fold=True, evidence=True)
    assert len(store) == 1
    assert named(store) == {"blue": 5, "green": 5, "home.\n": 4}


def test_many_questions_on_one_text_stay_apart(document, tokenizer):
    """More of them than a byte counts."""
    qas = [{"question": f"{number}?", "answer": "A."} for number in range(300)]
    store, _ = load([document({"context": "Anna is here.", "qas": qas})], tokenizer, context=4096, fold=True)
    assert len(store) == 1
    assert len(set(store.branches(0, 0, 4096).tolist())) == 301


def test_questions_keep_what_is_said_of_them(document, tokenizer):
    """A reply marked not to teach does not, and tools are shown with every question."""
    qas = [READING["qas"][0] | {"train": False}, READING["qas"][1]]
    text = {"context": READING["context"], "qas": qas, "tools": [{}]}
    store, counts = load([document(text)], tokenizer, context=200, fold=True)
    assert live(store, 200) == "Home.|"
    assert counts["untaught"] == 1
    assert "1 tools" in "".join(map(chr, store.tokens(0).tolist()))


def test_a_text_is_held_out_with_all_its_questions(document, tokenizer):
    """Folded or not, in one stretch or in several, all have the text's own hash."""
    keys = set()
    for context, fold in ((200, True), (66, True), (200, False)):
        store, _ = load([document(READING)], tokenizer, context=context, fold=fold)
        keys |= set(store.parts[0].keys.tolist())
    assert len(keys) == 1


def test_evidence_of_other_shapes(document, tokenizer):
    """A completion in messages, a pair with a key of its own; without being asked for it is nobody's business."""
    pair = {"question": "It rains. Wet?", "answer": "Yes.", "evidence": "It rains."}
    said = {"role": "assistant", "content": "Yes.", "evidence": "It rains."}
    for record in (pair, {"prompt": "It rains. Wet?", "completion": [said]}):
        store, _ = load([document(record)], tokenizer, evidence=True)
        assert named(store) == {"It rains.": 5}
    listed = {"turns": ["Wet?", said | {"evidence": ["It rains."]}]}
    assert len(load([document(listed)], tokenizer)[0]) == 1
    for turns in (listed["turns"], [{"role": "user", "content": "Wet?", "evidence": "Wet"}, said]):
        with pytest.raises(InputError, match='"evidence" of message'):
            load([document({"turns": turns})], tokenizer, evidence=True)
