"""What panels say to people."""

import ast
import re
from pathlib import Path

import instar.probe

FOLDER = Path(instar.probe.__file__).parent


def said(tree):
    """The texts of each Words(...) in a module, with a blank for what is filled in."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Words":
            for one in call.args:
                parts = one.values if isinstance(one, ast.JoinedStr) else [one]
                yield "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))


def test_no_words_of_a_command_line():
    """Panels are shown on a page too, which has no options and no backticks."""
    found = {path.name: list(said(ast.parse(path.read_text("utf-8")))) for path in FOLDER.rglob("*.py")}
    assert sum(map(len, found.values())) > 500
    wrong = [(name, text) for name, texts in found.items() for text in texts if re.search("--[a-z]|`", text)]
    assert wrong == []
