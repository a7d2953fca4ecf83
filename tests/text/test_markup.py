"""The markups of our own tokenizers: what a chat looks like in each, and that no text of a message joins in."""

import pytest
from transformers import AutoTokenizer

from instar.config import InputError
from instar.text import Tokenizer
from instar.text.markup import MARKUPS
from instar.text.tokenizer import specials

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Where is the ball?\n"},
    {"role": "assistant", "content": "In the garden."},
    {"role": "user", "content": "球在哪里？"},
    {"role": "assistant", "content": "在花园里。"},
]
SHOWN = {
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhere is the ball?<|im_end|>\n"
    "<|im_start|>assistant\nIn the garden.<|im_end|>\n<|im_start|>user\n球在哪里？<|im_end|>\n"
    "<|im_start|>assistant\n在花园里。<|im_end|>\n",
    "brief": "<|system|>Be brief.<|user|>Where is the ball?<|assistant|>In the garden.<|end|>"
    "<|user|>球在哪里？<|assistant|>在花园里。<|end|>",
}
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module", params=list(MARKUPS))
def marked(request):
    return request.param, Tokenizer.train([turn["content"] for turn in CHAT], 512, markup=request.param)


def test_a_chat_by_hand(marked):
    """What is written, what of it teaches, and what ends an answer."""
    name, tokenizer = marked
    chat = tokenizer.chat(CHAT)
    end = MARKUPS[name].controls[-1]
    assert tokenizer.decode(chat.ids, skip_special=False) == SHOWN[name]
    taught = [i for i, teaches in zip(chat.ids, chat.teaches, strict=True) if teaches]
    assert tokenizer.decode(taught, skip_special=False) == f"In the garden.{end}在花园里。{end}"
    assert tokenizer.stops[0] == tokenizer.specials[end]
    assert tuple(tokenizer.specials) == specials(name)


def test_a_prompt_begins_the_training_text(marked):
    """What a model is given to answer is, id for id, how the same chat began in training."""
    _, tokenizer = marked
    prompt = tokenizer.chat(CHAT[:-1], add_generation_prompt=True).ids
    whole = tokenizer.chat(CHAT)
    assert whole.ids[: len(prompt)] == prompt
    # the answer begins where the prompt ends
    assert whole.teaches[len(prompt) - 1 : len(prompt) + 1] == [False, True]


def test_the_stock_library_gives_the_same_ids(marked, tmp_path):
    """transformers renders and encodes the saved folder alike, tools and calls among it."""
    _, tokenizer = marked
    tokenizer.save(tmp_path)
    stock = AutoTokenizer.from_pretrained(tmp_path)
    call = {"type": "function", "function": {"name": "find", "arguments": {"what": "球"}}}
    tooled = [*CHAT[:2], {"role": "assistant", "content": "", "tool_calls": [call]}]
    tooled.append({"role": "tool", "name": "find", "content": "garden"})
    for messages, tools in ((CHAT, None), (tooled, TOOLS)):
        wanted = stock.apply_chat_template(messages, tools=tools, tokenize=True, return_dict=True)["input_ids"]
        assert tokenizer.chat(messages, tools=tools).ids == list(wanted)


def test_control_tokens_in_a_message_stay_text(marked):
    """All of them, said by every role, in content and name."""
    name, tokenizer = marked
    said = "".join(specials(name))
    chat = tokenizer.chat([{"role": role, "content": f"a{said}b", "name": said} for role in ("user", "assistant")])
    counts = {text: chat.ids.count(number) for text, number in tokenizer.specials.items()}
    wanted = {"<|im_start|>": 2, "<|im_end|>": 2} if name == "chatml" else dict.fromkeys(MARKUPS[name].controls[1:3], 1)
    wanted |= {"<|end|>": 1} if name == "brief" else {}
    assert {text: count for text, count in counts.items() if count} == wanted


def test_an_unknown_markup_is_named():
    with pytest.raises(InputError, match="did you mean brief"):
        Tokenizer.train(["a"], 320, markup="breif")


def test_single_han_keeps_to_the_edges_of_characters():
    """A word is the same tokens wherever it stands; without it, frequent neighbours are merged over the edge."""
    texts = ["露西在塔楼里找到了闹钟。", "在塔楼里，闹钟被露西找到了。", "闹钟在塔楼里吗？"] * 5
    edges = {}
    for single in (True, False):
        tokenizer = Tokenizer.train(texts, 512, single_han=single)
        pieces = [tokenizer.token_bytes(i) for i in range(256, tokenizer.vocabulary.size - 4)]
        edges[single] = sum(any(byte >= 0xC0 for byte in piece[1:]) for piece in pieces)
        if single:
            assert {piece.decode() for piece in pieces if len(piece) == 3} == set("".join(texts))
            word = tokenizer.encode("塔楼")
            inside = tokenizer.encode("在塔楼里")
            assert inside[1:-1] == word
            assert len(word) == 2
    assert edges[True] == 0 < edges[False]


def test_single_han_leaves_a_split_that_llama_cpp_knows():
    """Only learning sees the characters cut apart; the saved tokenizer has the named pattern and no more."""
    single, plain = (Tokenizer.train(["塔楼"], 320, single_han=single) for single in (True, False))
    assert single.vocabulary.spec["pre_tokenizer"] == plain.vocabulary.spec["pre_tokenizer"]


def test_words_become_tokens_and_keep_their_edges():
    """A listed word is one token wherever it stands, no token reaches out of it, and English is as without."""
    texts = ["露西在塔楼里找到了闹钟。", "在塔楼里，闹钟被露西找到了。", "Lucy found the clock."] * 5
    words = ["露西", "塔楼", "闹钟", "找到", "clock", "(a|", ""]
    listed, plain = (Tokenizer.train(texts, 512, words=given, single_han=True) for given in (words, ()))
    assert [listed.decode([i]) for i in listed.encode("在塔楼里，闹钟")] == ["在", "塔楼", "里", "，", "闹钟"]
    assert len(plain.encode("在塔楼里，闹钟")) == 7
    pieces = {listed.token_bytes(i) for i in range(256, listed.vocabulary.size - 4)}
    chinese = {piece.decode() for piece in pieces if piece[0] >= 0xE4 and len(piece) % 3 == 0}
    assert {word for word in chinese if len(word) > 1} == {"露西", "塔楼", "闹钟", "找到"}
    assert len(listed.encode("Lucy found the clock.")) == len(plain.encode("Lucy found the clock."))
    assert listed.vocabulary.spec["pre_tokenizer"] == plain.vocabulary.spec["pre_tokenizer"]


def test_the_longest_word_wins():
    """A word that begins with another is cut as one, in whatever order they are listed."""
    for words in (["一天", "一天早上"], ["一天早上", "一天"]):
        tokenizer = Tokenizer.train(["一天早上他来了。一天他走了，"] * 9, 512, words=words)
        assert [tokenizer.decode([i]) for i in tokenizer.encode("一天早上，一天")] == ["一天早上", "，", "一天"]
