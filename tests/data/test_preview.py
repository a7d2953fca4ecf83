"""The preview shows what training would see, token by token."""

from instar.data.preview import preview

TALK = {"turns": ["Who?", "Anna."]}


def spell(tokens):
    """Taught tokens in brackets."""
    return "".join(f"[{seen.piece}]" if seen.teaches else seen.piece for seen in tokens)


def test_dialogues_show_their_replies_as_taught(document, tokenizer):
    """What teaches is the reply and its end; each token names its document."""
    shown, counts = preview([document(TALK), document(TALK), document(TALK)], tokenizer, records=2)
    assert [spell(tokens) for tokens in shown] == ["<258>Who?<259><258>[A][n][n][a][.][<259>]"] * 2
    assert [{seen.document for seen in tokens} for tokens in shown] == [{0}, {1}]
    assert counts["dialogues"] == 2


def test_texts_teach_all_but_their_first_token(document, tokenizer):
    """Nothing predicts a document's first token, also where a row ends inside it."""
    shown, counts = preview([document("abc"), document("hello world")], tokenizer, context=5)
    assert [spell(tokens) for tokens in shown] == ["a[b][c][<256>]", "h[e][l][l][o][ ][w][o][r][l][d][<256>]"]
    assert counts["documents"] == 2


def test_what_is_cut_off_is_not_shown(document, tokenizer):
    """A dialogue that is too long shows only the part that is learnt from."""
    shown, counts = preview([document({"turns": ["Who?", "Anna.", "Where?", "Home."]})], tokenizer, context=20)
    assert spell(shown[0]).endswith("[.][<259>]")
    assert counts["replies_cut"] == 1


PAIR = {"prompt": "Who?", "chosen": "Anna.", "rejected": "Ben"}


def test_pairs_show_what_answers_are_compared_by(document, tokenizer):
    """The prompt is read, each answer counts to its end, and every token tells which part it is of."""
    shown, counts = preview([document(PAIR | {"prompt": "Why?"}), document(PAIR)], tokenizer)
    parts = ("prompt", "chosen", "rejected")
    spelt = [[spell(seen for seen in pair if seen.part == part) for part in parts] for pair in shown]
    answers = ["[A][n][n][a][.][<259>]", "[B][e][n][<259>]"]
    assert spelt == [["<258>Why?<259><258>", *answers], ["<258>Who?<259><258>", *answers]]
    assert [{seen.document for seen in pair} for pair in shown] == [{0}, {1}]
    assert counts["kept"] == 2


def test_records_at_fault_are_told(document, tokenizer):
    """Of pairs and of dialogues, however many; what is left is shown."""
    told = []
    shown, counts = preview([document(PAIR | {"chosen": "Ben"}), document(PAIR, 2)], tokenizer, say=told.append)
    assert (len(shown), counts["identical"]) == (1, 1)
    strange = {"messages": [{"role": "teacher", "content": "x"}]}
    shown, counts = preview([document(TALK), document(strange, 2)], tokenizer, say=told.append)
    assert (len(shown), counts["malformed"]) == (1, 1)
    assert [note.split(":")[0] for note in told] == ["left out here, record 1", "left out here, record 2"]


def test_one_record_of_no_kind_changes_nothing_for_the_others(document, tokenizer):
    """Story: a file of dialogues was shown as text, and refused, for one line that training would leave out."""
    for good in (TALK, PAIR):
        told = []
        shown, counts = preview([document({"foo": 1}), document(good, 2)], tokenizer, say=told.append)
        assert (len(shown), counts["malformed"]) == (1, 1)
        assert [note.split(":")[0] for note in told] == ["left out here, record 1"]
