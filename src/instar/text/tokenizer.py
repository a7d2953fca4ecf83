"""Text <-> tokens: byte-level BPE trained by us, or a stranger's `tokenizer.json`, in the layout of Hugging Face.

A stranger's WordPiece (BERT) knows words and not bytes: it drops accents, cases and blanks, and a word that it cannot
spell is its unknown token, so decoding does not give back the text.

Text never becomes a control token. Control tokens come from `document`, which ends a text, and from the structure of a
chat template, and from nowhere else.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Encoding

from ..config import InputError
from . import bpe, layout
from .chat import Chat, ChatFormat, Message, Run, Teach
from .controls import BEGIN, END_OF_TEXT, MASK, PAD, Markups, framed, rows_for, sentinels_of, specials
from .markup import MARKUPS
from .vocabulary import MAX_ID, Vocabulary, display, library, require_text

_PRIVATE = "instar"
_BEGINS, _ENDS = ("bos_token", "cls_token"), ("eos_token", "sep_token")


class Tokenizer:
    """bos, eos, pad, mask: ids, or None; specials: every control token and its id; sentinels: ids of the marks that
    stand for a hole, in order; vocab_size: rows that a model gives it.

    The tokenizer of an encoder names cls and sep where others name bos and eos; they are those here.
    """

    bos: int | None
    eos: int | None
    pad: int | None
    mask: int | None

    def __init__(
        self,
        spec: Mapping[str, Any],
        config: Mapping[str, Any],
        template: str | None = None,
        ends: Iterable[int] = (),
    ) -> None:
        """From the contents of tokenizer.json and tokenizer_config.json. Raises InputError where they do not agree."""
        self.vocabulary = Vocabulary(spec)
        self.config = dict(config)
        self.template = template
        self.specials = {text: control.id for text, control in self.vocabulary.controls.items()}
        self.bos, self.eos, self.pad = (self._role(*roles) for roles in (_BEGINS, _ENDS, ("pad_token",)))
        self.mask = self._role("mask_token")
        self.sentinels = sentinels_of(self.specials)
        self.vocab_size = self._rows()
        self._encoder = self.vocabulary.encoder
        self._table = self.vocabulary.table
        self._hidden = frozenset(control.id for control in self.vocabulary.controls.values() if control.hidden)
        self._ends = tuple(ends)
        self._before = [self.bos] if self.bos is not None and self._adds_bos() else []
        self._after = [self.eos] if self.eos is not None else []

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        max_token_bytes: int = 16,
        split: bpe.Split = "qwen2",
        single_han: bool = False,
        words: Iterable[str] = (),
        markup: Markups = "chatml",
        masks: bool = False,
        sentinels: int = 0,
    ) -> Tokenizer:
        """Learn byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) from texts.

        `vocab_size` counts everything, rounded up to a multiple of 64: bytes, merges, the control tokens after them,
        and unused rows where the texts have no more pairs to merge. The same texts, in any order and with any number
        of workers, give the same tokenizer.

        `masks` adds what an encoder needs: a mask, and a begin token before every document, whose place stands for the
        whole text; `sentinels` adds so many marks for the holes of span corruption.
        """
        controls = specials(markup, masks, sentinels)
        rows = rows_for(vocab_size, controls)
        spec = bpe.train(
            texts, rows - len(controls), max_token_bytes=max_token_bytes, split=split, single_han=single_han,
            words=words,
        )  # fmt: skip
        return cls.assemble(spec, rows, split, markup, masks, sentinels)

    @classmethod
    def assemble(
        cls,
        spec: Mapping[str, Any],
        rows: int,
        split: str,
        markup: Markups = "chatml",
        masks: bool = False,
        sentinels: int = 0,
    ) -> Tokenizer:
        """A trained vocabulary with our control tokens after it and our chat template."""
        start, controls = len(spec["model"]["vocab"]), specials(markup, masks, sentinels)
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        added = [{"id": start + n, "content": text, **flags, "special": True} for n, text in enumerate(controls)]
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN if masks else None,
            "eos_token": END_OF_TEXT,
            "pad_token": PAD,
            "unk_token": None,
            **({"cls_token": BEGIN, "sep_token": END_OF_TEXT, "mask_token": MASK} if masks else {}),
            "add_bos_token": masks,
            "add_eos_token": False,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "padding_side": "right",
            _PRIVATE: {"split": split, "vocab_size": rows},
        }
        frame = {"post_processor": framed(start + controls.index(BEGIN), start)} if masks else {}
        return cls({**spec, "added_tokens": added, **frame}, config, MARKUPS[markup].template)

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read a folder that we, Hugging Face or OpenAI's GPT-2 wrote. Raises InputError naming what is wrong."""
        files = layout.read(Path(folder))
        return cls(files.spec, files.config, files.template, files.ends)

    def with_controls(self, texts: Iterable[str]) -> Tokenizer:
        """The same with these control tokens besides, those it has left out: their ids come after the last one. Raises
        InputError for a text that is a piece of ordinary text already."""
        new = [text for text in dict.fromkeys(texts) if text not in self.specials]
        for text in new:
            if not text.strip() or text in self.vocabulary.ids:
                raise InputError(f"{text!r} is ordinary text to this tokenizer; an added token wants another name")
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        first, spec = self.vocabulary.size, dict(self.vocabulary.spec)
        added = [{"id": first + n, "content": text, **flags, "special": True} for n, text in enumerate(new)]
        spec["added_tokens"] = [*(spec.get("added_tokens") or []), *added]
        private = self.config.get(_PRIVATE)
        rows = max(self.vocab_size, first + len(new))
        own = {_PRIVATE: {**private, "vocab_size": rows}} if isinstance(private, Mapping) else {}
        return Tokenizer(spec, self.config | own, self.template, self._ends)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
        layout.write(Path(folder), self.vocabulary.spec, self.config, self.template)

    @property
    def split(self) -> str | None:
        """The name by which llama.cpp knows our split pattern; None for a stranger's tokenizer."""
        private = self.config.get(_PRIVATE)
        return private.get("split") if isinstance(private, Mapping) else None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all that decides which ids a text, a document or a chat becomes."""
        decisive = [self.vocabulary.spec, self.template, self.bos, self.eos, self.pad, self._before, self.vocab_size]
        canonical = json.dumps(decisive, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def stops(self) -> tuple[int, ...]:
        """Ids that end an answer: the end of a turn in the chat template, the end of a text, and what the folder's
        generation_config.json adds."""
        turn_end = self._format.turn_end if self.template is not None else None
        found = [turn_end, self.eos, *self._ends]
        return tuple(dict.fromkeys(end for end in found if end is not None))

    def encode(self, text: str) -> list[int]:
        """Plain text -> ids: never a control token, nothing before or after. Raises InputError on a lone surrogate."""
        return self._encode(text).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Many texts, on all cores of the machine."""
        return [encoding.ids for encoding in self._encode_many(texts, offsets=False)]

    def encode_places(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """`encode_batch`, and for each id the characters of the text that it stands for, as (start, stop)."""
        return [(encoding.ids, encoding.offsets) for encoding in self._encode_many(texts, offsets=True)]

    def document(self, text: str) -> list[int]:
        """What pretraining sees of one text: its ids, with exactly one begin (where there is such) and one end."""
        return [*self._before, *self.encode(text), *self._after]

    def documents(self, texts: Sequence[str]) -> list[list[int]]:
        """`document` of many texts, on all cores of the machine."""
        return [[*self._before, *ids, *self._after] for ids in self.encode_batch(texts)]

    def prompt(self, text: str) -> list[int]:
        """What a text to be continued begins with: a document that has not ended."""
        return [*self._before, *self.encode(text)]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True, continues: bool = False) -> str:
        """Ids -> text; bytes that are no UTF-8 become U+FFFD.

        `continues`: the ids go on from others, so a blank that some vocabularies put before a text is kept.
        """
        text = b"".join(self.visible_bytes(ids, skip_special)).decode(errors="replace")
        return text[1:] if self.drops_first_space(continues) and text.startswith(" ") else text

    def visible_bytes(self, ids: Iterable[int], skip_special: bool = True) -> list[bytes]:
        """The bytes of each id; of none where it is a control token to be skipped, or a row that nothing uses."""
        table, size = self._table, len(self._table)
        hidden = self._hidden if skip_special else frozenset()
        return [self.token_bytes(i) if not 0 <= i < size else b"" if i in hidden else table[i] for i in ids]

    def drops_first_space(self, continues: bool) -> bool:
        return not continues and self.vocabulary.drops_first_space

    def token_bytes(self, id: int) -> bytes:
        """The bytes that an id stands for. A row above the vocabulary stands for none; a negative id is an error."""
        if not 0 <= id < MAX_ID:
            raise InputError(f"found the token id {id}; wanted one from 0 to {self.vocab_size - 1}")
        return self._table[id] if id < len(self._table) else b""

    def piece(self, id: int) -> str:
        """A token for the eye: its text, or where it is no whole text its bytes. Example: "<E4 B8>"."""
        return display(self.token_bytes(id))

    def chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        teach: Teach = "assistant",
        tools: Sequence[Any] | None = None,
    ) -> Chat:
        """Messages -> ids, and which of them teach: every answer with its end marker, or everything but the first id.

        Raises InputError naming the message at fault, and where no id would teach.
        """
        if isinstance(messages, (str, Mapping)):
            raise InputError(f"messages: found {type(messages).__name__}, wanted a list of messages")
        return self.chat_batch([messages], add_generation_prompt=add_generation_prompt, teach=teach, tools=tools)[0]

    def chat_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        add_generation_prompt: bool = False,
        teach: Teach = "assistant",
        tools: Sequence[Any] | None = None,
    ) -> list[Chat]:
        """`chat` of many conversations, encoded on all cores of the machine."""
        plans = [
            self._format.runs(messages, add_generation_prompt=add_generation_prompt, tools=tools)
            for messages in conversations
        ]
        encodings = iter(self._encode_many([run.text for plan in plans for run in plan if run.text], offsets=True))
        chats = [_join(plan, [next(encodings) if run.text else None for run in plan]) for plan in plans]
        if teach == "all":
            return [Chat(chat.ids, [place > 0 for place in range(len(chat.ids))]) for chat in chats]
        if not add_generation_prompt and not all(any(chat.teaches) for chat in chats):
            raise InputError('no id teaches: the conversation has no message of role "assistant"; or pass teach="all"')
        return chats

    @cached_property
    def _format(self) -> ChatFormat:
        if self.template is None:
            raise InputError("this tokenizer has no chat template; wanted chat_template.jinja in its folder")
        ends = [end for end in (self.eos, *self._ends) if end is not None]
        strings = {role: text for role in layout.ROLES if (text := _content(self.config.get(role)))}
        return ChatFormat(self.template, self.vocabulary.controls, strings, ends)

    def _encode(self, text: str) -> Encoding:
        try:
            with library("the tokenizer failed"):
                return self._encoder.encode(text, add_special_tokens=False)
        except InputError:
            require_text(text)
            raise

    def _encode_many(self, texts: Sequence[str], offsets: bool) -> list[Encoding]:
        encode = self._encoder.encode_batch if offsets else self._encoder.encode_batch_fast
        try:
            with library("the tokenizer failed"):
                return encode(list(texts), add_special_tokens=False)
        except InputError:
            for number, text in enumerate(texts):
                require_text(text, f"text {number}")
            raise

    def _role(self, *roles: str) -> int | None:
        """The id of the first of these tokens that tokenizer_config.json names. Raises InputError where the vocabulary
        lacks it."""
        role, content = self._named(roles)
        if content is None:
            return None
        if content not in self.vocabulary.ids:
            raise InputError(f"tokenizer_config.json: {role} is {content!r}, which the vocabulary does not have")
        return self.vocabulary.ids[content]

    def _named(self, roles: Sequence[str]) -> tuple[str, str | None]:
        """The first of these roles that has a token, and the token."""
        named = ((role, _content(self.config.get(role))) for role in roles)
        return next(((role, content) for role, content in named if content is not None), (roles[0], None))

    def _rows(self) -> int:
        private = self.config.get(_PRIVATE)
        rows = private.get("vocab_size") if isinstance(private, Mapping) else None
        if rows is None:
            return self.vocabulary.size
        if type(rows) is not int or not self.vocabulary.size <= rows <= MAX_ID:
            raise InputError(f"tokenizer_config.json: vocab_size={rows!r}, wanted at least {self.vocabulary.size}")
        return rows

    def _adds_bos(self) -> bool:
        said = self.config.get("add_bos_token")
        if isinstance(said, bool):
            return said
        return self._named(_BEGINS)[1] in self.vocabulary.template_adds()[0]


class Stream:
    """Decodes as ids arrive. All that `push` and `end` return, joined, is `decode` of all the ids.

    A character split over tokens waits for its last byte. `continues` is that of `decode`.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True, continues: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._drop_space = tokenizer.drops_first_space(continues)

    def push(self, id: int) -> str:
        """The text that this id completes; often one token's, sometimes nothing yet."""
        return self._text(self._tokenizer.visible_bytes([id], self._skip_special)[0], final=False)

    def end(self) -> str:
        """What is left: U+FFFD where the ids stopped inside a character."""
        return self._text(b"", final=True)

    def _text(self, raw: bytes, final: bool) -> str:
        text = self._decoder.decode(raw, final)
        if text and self._drop_space:
            self._drop_space = False
            return text.removeprefix(" ")
        return text


def check_fits(tokenizer: Tokenizer, model_vocab: int) -> None:
    """Raise InputError, naming both sizes, where the tokenizer has ids that the model has no row for."""
    needed = tokenizer.vocabulary.size
    if needed > model_vocab:
        raise InputError(
            f"the tokenizer has {needed} ids but the model only {model_vocab} rows for them; "
            "use the tokenizer that was saved with the model, or make a model with a larger vocab_size"
        )


def _content(token: Any) -> str | None:
    """A token in tokenizer_config.json is a string or an object with its content."""
    if isinstance(token, Mapping):
        token = token.get("content")
    if token is not None and not isinstance(token, str):
        raise InputError(f"tokenizer_config.json: found the token {token!r}, wanted a string")
    return token


def _join(plan: Sequence[Run], encodings: Sequence[Encoding | None]) -> Chat:
    """Encoded runs and the control tokens after them, in order."""
    ids: list[int] = []
    teaches: list[bool] = []
    for run, encoding in zip(plan, encodings, strict=True):
        if encoding is not None:
            ids += encoding.ids
            teaches += _taught(run, encoding)
        if run.control is not None:
            ids.append(run.control)
            teaches.append(run.control_teaches)
    return Chat(ids, teaches)


def _taught(run: Run, encoding: Encoding) -> list[bool]:
    """A token teaches where it begins inside what teaches: one that begins before it could not follow the prompt."""
    if not run.spans:
        return [False] * len(encoding.ids)
    return [any(start <= first < end for start, end in run.spans) for first, _ in encoding.offsets]
