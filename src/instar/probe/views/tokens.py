"""A text as the model reads it: its bytes, how they merge, the ids, and which embeddings lie near; byte-true, whatever
a character is split into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...config import InputError
from ...text.show import Word, show, visible
from ...text.tokenizer import Tokenizer
from ..ground import neighbours, plane
from ..look import Look
from ..panel import UNSAID, About, Bars, Check, Panel, Scatter, Strip, Table, Words
from ..subject import Subject, Token

TITLE = Words("Tokens", "词元")
LOST = "\N{REPLACEMENT CHARACTER}"
MOST_ROWS = 200
ABOUT = {"plane": About(None, why=Words("Each model's plane has axes of its own.", "每个模型的平面有各自的坐标轴。"))}


def tokens(look: Look) -> Panel:
    """Works for every model; without a tokenizer there is nothing but ids."""
    subject = look.subject
    sides = [(subject.text, subject.tokens)]
    if subject.source:
        sides.insert(0, (subject.source_text, subject.source))
    data: dict[str, Any] = {"tokens": _records(subject.tokens)}
    if subject.source:
        data["source"] = _records(subject.source)
    arrays = {"ids": np.array([token.id for token in subject.tokens], dtype=np.int64)}
    tokenizer = subject.tokenizer
    if tokenizer is None:
        note = Words("No tokenizer is at hand; these are the ids alone.", "没有分词器;这里只有 id。")
        figures = [*_strips(subject, sides), *_embedded(subject, len(subject.tokens) - 1, data, arrays)]
        return Panel("tokens", TITLE, data, arrays, figures, notes=[note], about=ABOUT)
    notes, checks = [], []
    read = sum(len(token.raw) for _, own in sides for token in own)
    count = sum(not token.control for _, own in sides for token in own)
    data["bytes_per_token"] = read / count if count else 0.0
    lossy = any(tokenizer.decode(tokenizer.encode(text)) != text for text, _ in sides)
    if lossy:
        notes.append(
            Words(
                "This tokenizer does not give this text back (letters it does not have, case, accents or blanks); "
                "bytes are not compared.",
                "该分词器不能还原此文本(缺少的字符、大小写、重音或空白),因此不比较字节。",
            )
        )
    else:
        wrong = sum(_unlike(tokenizer, text, own) for text, own in sides)
        about = Words("bytes of the tokens, joined, are the text", "词元字节拼接后等于原文")
        checks.append(Check("bytes", float(wrong), 0.0, about))
    lost = sum(token.piece.count(LOST) for text, own in sides for token in own if LOST not in text)
    checks.append(Check("characters", float(lost), 0.0, Words("no character is lost to U+FFFD", "没有字符变成 U+FFFD")))
    parts = [_words(tokenizer, own) for _, own in sides]
    data["words"] = [_word_record(word, places) for found, _ in parts for word, places in found]
    unseen = sum(missed for _, missed in parts)
    if unseen:
        notes.append(
            Words(
                f"Of {unseen} tokens the merges cannot be shown: a template joined them, or the tokenizer does more "
                "than cut and merge.",
                f"有 {unseen} 个词元的合并过程无法展示:由对话模板拼接,或该分词器不只是切分与合并。",
            )
        )
    figures = [*_strips(subject, sides), *(_table(subject, text, own) for text, own in sides)]
    merges = _merges(look, parts)
    if merges is not None:
        figures.append(merges)
    figures += _embedded(subject, look.at if look.side is look.trace.own else len(subject.tokens) - 1, data, arrays)
    return Panel("tokens", TITLE, data, arrays, figures, checks, notes, ABOUT)


def _records(own: Sequence[Token]) -> list[dict[str, Any]]:
    return [
        {
            "id": token.id, "piece": token.piece, "start": token.start, "end": token.end,
            "bytes": token.raw.hex(" ").upper(), "part": [part, of], "control": token.control,
        }
        for token, (part, of) in zip(own, parts_of(own))
    ]  # fmt: skip


def parts_of(own: Sequence[Token]) -> list[tuple[int, int]]:
    """Of each token which part it is of the characters that it shares with its neighbours, and of how many. Example:
    中 in three tokens is (1, 3), (2, 3), (3, 3); a token alone is (1, 1)."""
    groups: list[list[int]] = []
    for place, token in enumerate(own):
        before = own[place - 1] if place else token
        if groups and _broken(token) and _broken(before) and token.start < before.end:
            groups[-1].append(place)
        else:
            groups.append([place])
    return [(n + 1, len(group)) for group in groups for n in range(len(group))]


def _broken(token: Token) -> bool:
    """Whether it begins or ends inside a character."""
    return not token.control and token.piece == f"<{token.raw.hex(' ').upper()}>" and len(token.raw) > 0


def _unlike(tokenizer: Tokenizer, text: str, own: Sequence[Token]) -> int:
    """How many bytes of the tokens are not those of the text; a mask stands for its name. An answer may end inside a
    character, and the text then has U+FFFD for its bytes: there characters are compared."""
    raw = b"".join(token.raw or (b"" if token.control else text[token.start : token.end].encode()) for token in own)
    if tokenizer.drops_first_space(False) and raw.startswith(b" ") and not text.startswith(" "):
        raw = raw[1:]
    try:
        raw.decode()
        wanted: bytes | str = text.encode()
        found: bytes | str = raw
    except UnicodeDecodeError:
        wanted, found = text, raw.decode(errors="replace")
    return sum(a != b for a, b in zip(found, wanted)) + abs(len(found) - len(wanted))


def _words(tokenizer: Tokenizer, own: Sequence[Token]) -> tuple[list[tuple[Word, list[int]]], int]:
    """The words of each run of ordinary tokens, with the places of their tokens, merge by merge; and how many tokens
    are left whose merges are not known."""
    runs: list[list[int]] = [[]]
    for place, token in enumerate(own):
        if token.raw and token.id not in tokenizer.specials.values():
            runs[-1].append(place)
        else:
            runs.append([])
    found: list[tuple[Word, list[int]]] = []
    missed = 0
    for run in filter(None, runs):
        words = _shown(tokenizer, [own[place] for place in run])
        if words is None:
            missed += len(run)
            continue
        at = 0
        for word in words:
            found.append((word, run[at : at + len(word.tokens)]))
            at += len(word.tokens)
    return found, missed


def _shown(tokenizer: Tokenizer, run: Sequence[Token]) -> list[Word] | None:
    """The words that make these tokens, None where they cannot be found."""
    text = tokenizer.decode([token.id for token in run])
    try:
        taken = show(tokenizer, text)
    except InputError:  # it does more than cut and merge
        return None
    return list(taken.words) if list(taken.ids) == [token.id for token in run] else None


def _word_record(word: Word, places: list[int]) -> dict[str, Any]:
    steps = [
        {"rank": step.rank, "left": step.left, "right": step.right, "pieces": list(step.pieces)} for step in word.steps
    ]
    return {"text": word.text, "bytes": word.bytes, "places": places, "merges": steps}


def _strips(subject: Subject, sides: Sequence[tuple[str, Sequence[Token]]]) -> list[Any]:
    strips: list[Any] = []
    for number, (text, own) in enumerate(sides):
        source = len(sides) > 1 and number == 0
        title = Words("The source in tokens", "源文本的词元") if source else Words("The text in tokens", "文本的词元")
        parts = parts_of(own)
        notes = [_note(token, part) for token, part in zip(own, parts)]
        sizes = [float(len(token.raw)) for token in own]
        strips.append(Strip(title, [token.piece for token in own], sizes, "plain", notes))
        if any(of > 1 for _, of in parts):
            strips.append(_whole(text, own, parts))
    return strips


def _embedded(subject: Subject, at: int, data: dict[str, Any], arrays: dict[str, Any]) -> list[Any]:
    """What lies near a token among the embeddings, and where the tokens of the text lie on their widest plane; both are
    put into data and arrays too."""
    token = subject.tokens[at]
    near = neighbours(subject.model, token.id)
    data["neighbours"] = [{"id": id, "piece": subject.piece(id), "cosine": cosine} for id, cosine in near]
    figures: list[Any] = [
        Bars(
            Words(f"Nearest embeddings: {visible(token.piece)}", f"最近的嵌入:{visible(token.piece)}"),
            [subject.piece(id) for id, _ in near], {"cosine": [cosine for _, cosine in near]},
            Words("cosine", "余弦"),
        )
    ]  # fmt: skip
    ids = list(dict.fromkeys(each.id for each in subject.tokens))
    if len(ids) > 2:
        points, shares = plane(subject.model, ids)
        arrays["plane"] = points.numpy().astype(np.float32)
        data["plane"] = {"ids": ids, "variance": shares.tolist()}
        x, y = (f"{100 * share:.0f} %" for share in shares.tolist())
        figures.append(
            Scatter(
                Words("Embeddings of these tokens (PCA)", "这些词元的嵌入(PCA)"),
                [(subject.piece(id), *point) for id, point in zip(ids, points.tolist())],
                Words(f"{x} of the variance", f"方差的 {x}"), Words(f"{y} of the variance", f"方差的 {y}"),
            )
        )  # fmt: skip
    return figures


def _note(token: Token, part: tuple[int, int]) -> str:
    raw = token.raw.hex(" ").upper()
    return f"id {token.id}" + (f"   {raw}" if raw else "") + (f"   {part[0]}/{part[1]}" if part[1] > 1 else "")


def _whole(text: str, own: Sequence[Token], parts: Sequence[tuple[int, int]]) -> Strip:
    """The same, where characters that are split over tokens are shown once."""
    pieces, sizes, notes = [], [], []
    for place, (token, (part, of)) in enumerate(zip(own, parts)):
        if part > 1:
            continue
        group = own[place : place + of]
        pieces.append(token.piece if of == 1 else text[token.start : max(each.end for each in group)])
        sizes.append(float(of))
        notes.append(" ".join(str(each.id) for each in group))
    title = Words("Whole characters, shaded by how many tokens each takes", "完整字符(按所用词元数着色)")
    return Strip(title, pieces, sizes, "plain", notes)


def _table(subject: Subject, text: str, own: Sequence[Token]) -> Table:
    rows = []
    for place, (token, (part, of)) in enumerate(zip(own, parts_of(own))):
        if place >= MOST_ROWS:
            break
        letters = "" if token.control else visible(text[token.start : token.end])
        split = f"{letters} {part}/{of}" if of > 1 else letters
        rows.append([place, visible(token.piece), token.id, token.raw.hex(" ").upper(), split])
    columns = [
        Words("place", "位置"), Words("token", "词元"), Words("id", "id"), Words("bytes", "字节"),
        Words("characters", "字符"),
    ]  # fmt: skip
    more = len(own) - len(rows)
    note = Words(f"{more} more are in the data.", f"另有 {more} 个见数据。") if more > 0 else UNSAID
    title = Words("Text, bytes, ids", "文本、字节、id")
    if own is subject.source:
        title = Words("The source: text, bytes, ids", "源文本:文本、字节、id")
    return Table(title, columns, rows, note)


def _merges(look: Look, parts: Sequence[tuple[list[tuple[Word, list[int]]], int]]) -> Table | None:
    """How the word that holds the token that is asked about came together; of a control token, or a word of one byte,
    the word with most merges."""
    encodes = look.side is look.trace.encoder
    found = parts[0 if encodes else -1][0]
    own = [word for word, places in found if look.at in places]
    word = (
        own[0] if own and own[0].steps else max((word for word, _ in found), key=lambda w: len(w.steps), default=None)
    )
    if word is None or not word.steps:
        return None
    rows = [
        [n + 1, step.rank, visible(step.left), visible(step.right), " · ".join(visible(piece) for piece in step.pieces)]
        for n, step in enumerate(word.steps)
    ]
    columns = [
        Words("step", "步"), Words("rank of the merge", "合并序号"), Words("left", "左"), Words("right", "右"),
        Words("the word after it", "合并后"),
    ]  # fmt: skip
    text = visible(word.text)
    note = Words(f"bytes: {word.bytes}", f"字节:{word.bytes}")
    return Table(Words(f"Merge by merge: {text}", f"逐步合并:{text}"), columns, rows, note)
