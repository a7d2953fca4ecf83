"""How deeply the elements of a page are nested, by one pass over its tags in time linear in its length.

Parsers and what walks over their trees go as deep as a page asks; this tells before one of them is asked to. It closes
elements as parsers do: a list item ends the one before it, the end of a division ends what was left open in it.
"""

from __future__ import annotations

import re

__all__ = ["deeper_than"]

SLASH = ord("/")
TAG = re.compile(rb"<(!--|/?[a-z][^\s/<>]*)[^<>]*")
# what holds no markup, and what ends it
RAW = {
    b"!--": b"-->", b"iframe": b"</iframe", b"noembed": b"</noembed", b"noframes": b"</noframes",
    b"script": b"</script", b"style": b"</style", b"textarea": b"</textarea", b"title": b"</title", b"xmp": b"</xmp",
}  # fmt: skip
EMPTY = frozenset(
    b"area base basefont br col embed frame hr img input isindex keygen link meta param source track wbr".split()
)
_CELLS, _ROWS = {b"p", b"td", b"th"}, {b"p", b"td", b"th", b"tr"}
_PARTS = _ROWS | {b"caption", b"colgroup", b"tbody", b"tfoot", b"thead"}
# an element -> those that its start tag ends
BLOCKS = frozenset(
    b"address article aside blockquote center details dir div dl fieldset figure footer form h1 h2 h3 h4 h5 h6 header "
    b"main menu nav ol p pre section table ul".split()
)
ENDS: dict[bytes, set[bytes]] = {
    **{block: {b"p"} for block in BLOCKS},
    **dict.fromkeys((b"colgroup", b"tbody", b"tfoot", b"thead"), _PARTS),
    b"li": {b"li", b"p"}, b"dt": {b"dd", b"dt", b"p"}, b"dd": {b"dd", b"dt", b"p"}, b"a": {b"a"}, b"head": {b"head"},
    b"option": {b"option"}, b"optgroup": {b"optgroup", b"option"}, b"body": {b"body", b"head"}, b"html": {b"html"},
    b"td": _CELLS, b"th": _CELLS, b"tr": _ROWS,
}  # fmt: skip
# an end tag reaches no farther out than an element of a higher rank than its own
RANKS = {
    b"div": 1,
    b"td": 2,
    b"th": 2,
    b"tr": 3,
    b"tbody": 4,
    b"tfoot": 4,
    b"thead": 4,
    b"table": 5,
    b"head": 6,
    b"body": 6,
}


def deeper_than(html: str, most: int) -> bool:
    """Whether more than `most` elements are open at a time. It looks no further than the tags that follow could matter,
    and not at all into most pages."""
    left = html.count("<") - html.count("</")
    if left <= most:
        return False
    page = html.encode("utf-8", "replace").lower()  # several times faster than letters, and tags are ASCII
    stack: list[bytes] = []
    place = 0
    for tag in TAG.finditer(page):
        start, end = tag.span()
        if start < place:
            continue
        name = tag[1]
        if name[:1] == b"/":
            _end(stack, name[1:])
            continue
        left -= 1
        if name in RAW:
            place = page.find(RAW[name], start + len(name))
            if place < 0:
                break
        elif name not in EMPTY and page[end - 1] != SLASH:
            if name in ENDS:
                ended = ENDS[name]
                while stack and stack[-1] in ended:
                    stack.pop()
            stack.append(name)
            if len(stack) > most:
                return True
        if len(stack) + left <= most:
            break
    return False


def _end(stack: list[bytes], name: bytes) -> None:
    if stack and stack[-1] == name:
        stack.pop()
        return
    if name not in stack:
        return
    rank = RANKS.get(name, 0)
    for place in range(len(stack) - 1, -1, -1):
        if stack[place] == name:
            del stack[place:]
            return
        if RANKS.get(stack[place], 0) > rank:
            return
