"""Text under way: words with single blanks, paragraphs with one empty line between, and what must stay as it is.

Readers of marked-up papers add to it in the order of the file and never look back, so that they are linear in its size.
"""

from __future__ import annotations

import re

_BLANKS = re.compile(r"[ \t\r\n\f\v]+")  # a no-break space is somebody's intention, and stays


class Prose:
    """Parts of a text. Line ends owed at the end of a part are written once words follow, so that the last part of a
    paragraph is never touched again but for its trailing blank."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._owed = ""

    @property
    def fresh(self) -> bool:
        """Whether a line begins here."""
        return bool(self._owed) or not self._parts

    @property
    def text(self) -> str:
        return "".join(self._parts).rstrip()

    @property
    def text_so_far(self) -> str:
        """With the blank at its end, where there is one."""
        return "".join(self._parts)

    @property
    def line(self) -> str:
        """All of it on one line."""
        return _BLANKS.sub(" ", self.text)

    def add(self, text: str) -> None:
        """Words; blanks and line ends between them count as one blank, and as none where a line begins."""
        text = _BLANKS.sub(" ", text)
        if text[:1] == " " and (self._owed or not self._parts or self._parts[-1][-1] == " "):
            text = text[1:]
        self.keep(text)

    def keep(self, text: str) -> None:
        """Exactly this."""
        if text:
            if self._owed and self._parts:
                self._parts.append(self._owed)
            self._owed = ""
            self._parts.append(text)

    def apart(self, sign: str) -> None:
        """A blank, where this sign stands last: $a$$b$ would be read in another way."""
        if self._parts and not self._owed and self._parts[-1][-1] == sign:
            self._parts.append(" ")

    def end_line(self) -> None:
        """What follows begins a line."""
        self._strip()
        self._owed = self._owed or "\n"

    def end_paragraph(self) -> None:
        """What follows begins a paragraph."""
        self._strip()
        self._owed = "\n\n"

    def paragraph(self, text: str) -> None:
        """Exactly this, between empty lines."""
        self.end_paragraph()
        self.keep(text)
        self.end_paragraph()

    def code(self, code: str, language: str = "") -> None:
        """A listing between backticks, more of them than it has itself."""
        fence = "`" * max(3, 1 + max(map(len, re.findall("`{3,}", code)), default=0))
        self.paragraph(f"{fence}{language}\n{code.strip(chr(10))}\n{fence}" if code.strip() else "")

    def _strip(self) -> None:
        if not self._owed and self._parts and self._parts[-1][-1] == " ":
            self._parts[-1] = self._parts[-1].rstrip(" ")
            if not self._parts[-1]:
                self._parts.pop()
