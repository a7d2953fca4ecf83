"""U8: what a model is taught can be seen, token by token, before any training."""

from instar.data.preview import preview
from instar.data.sources import Document
from instar.text.tokenizer import Tokenizer

CHAT = {
    "messages": [
        {"role": "user", "content": "Who has the hat?"},
        {"role": "assistant", "content": "Anna."},
        {"role": "user", "content": "谁有帽子？"},
        {"role": "assistant", "content": "安娜。"},
    ]
}


def test_the_preview_shows_the_replies_and_only_them():
    """Traps 2 to 8 went unseen because nobody could look at the labels: the preview is read off real batches."""
    tokenizer = Tokenizer.train(["Who has the hat? Anna. 谁有帽子？安娜。"] * 3, 320)
    documents, counts = preview([Document(CHAT, "chat.jsonl", 1)], tokenizer, context=256)
    taught = b"".join(tokenizer.token_bytes(token.id) for token in documents[0] if token.teaches).decode()
    assert taught == "Anna.<|im_end|>安娜。<|im_end|>"
    assert counts["teaching"] == sum(token.teaches for token in documents[0])
