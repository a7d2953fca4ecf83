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
