"""The pages of the textbook name what is there: files, names in them, tests, commands; and both say the same."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from instar.cli import COMMANDS
from instar.cli.alignment import dpo_options, ppo_options, reward_options
from instar.cli.stages import classify_options, pretrain_options, sft_options
from instar.config.flags import parse
from instar.config.options import (
    EvalOptions,
    GenerateOptions,
    GrowOptions,
    InspectOptions,
    PrepareOptions,
    TokenizerCompareOptions,
    TokenizerShowOptions,
    TokenizerTrainOptions,
    VerifyOptions,
)
from instar.data.world.address import parse as address_of

ROOT = Path(__file__).parents[1]
PAGES = ("textbook.md", "textbook.zh.md")
OPTIONS = {
    "eval": EvalOptions,
    "generate": GenerateOptions,
    "grow": GrowOptions,
    "inspect": InspectOptions,
    "data prepare": PrepareOptions,
    "tokenizer compare": TokenizerCompareOptions,
    "tokenizer show": TokenizerShowOptions,
    "tokenizer train": TokenizerTrainOptions,
    "verify": VerifyOptions,
}
STAGES = {
    "pretrain": pretrain_options,
    "sft": sft_options,
    "classify": classify_options,
    "reward": reward_options,
    "dpo": dpo_options,
    "ppo": ppo_options,
}
BLOCK = re.compile(r"^```sh\n.*?^```$", re.MULTILINE | re.DOTALL)
CLAIMED = re.compile(r"^    \"(\w+)\",$", re.MULTILINE)  # the first word of a Claim


def text_of(page):
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def rows_of(page):
    """The rows that have a number: number, sentence, where, command, test, claim."""
    rows = [line.strip("|").split("|") for line in text_of(page).splitlines() if re.match(r"\| \d+ \|", line)]
    return [[cell.strip() for cell in row] for row in rows]


def quoted(text):
    return re.findall(r"`([^`\n]+)`", text)


@cache
def names_in(path):
    """What a module defines: functions, classes with their methods, constants."""
    found = set()

    def look(nodes, within):
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(within + node.name)
                look(node.body if isinstance(node, ast.ClassDef) else (), f"{within}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(within + target.id for target in targets if isinstance(target, ast.Name))

    look(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


def read(command):
    """The options that a command line of `instar` says, by the road that the command itself takes."""
    words = shlex.split(command, comments=True)[1:]
    if words[0] == "plan":
        words = words[1:]
    size = 1 if words[0] in COMMANDS else 2
    name, arguments = " ".join(words[:size]), words[size:]
    assert name in COMMANDS, command
    return STAGES[name](arguments) if name in STAGES else parse(OPTIONS[name], arguments, program=f"instar {name}")


def test_both_languages_have_the_same_rows():
    """Numbered from 1, under as many headings, with the same places, commands, tests and claims."""
    one, other = (rows_of(page) for page in PAGES)
    assert [row[0] for row in one] == [str(number + 1) for number in range(len(one))]
    assert all(len(row) == 6 and all(row[:5]) for row in one + other)
    assert [[row[0], *row[2:]] for row in one] == [[row[0], *row[2:]] for row in other]
    assert len({tuple(re.findall(r"^#+ ?", text_of(page), re.MULTILINE)) for page in PAGES}) == 1


@pytest.mark.parametrize("page", PAGES)
def test_places_are_there(page):
    """Every file of the code is one, and defines the names that stand behind it."""
    for number, _, where, *_ in rows_of(page):
        path = None
        for word in quoted(where):
            if word.endswith(".py"):
                path = ROOT / "src" / "instar" / word
                assert path.is_file(), f"row {number}: {word}"
            else:
                assert path, f"row {number}: {word} stands behind no file"
                assert word in names_in(path), f"row {number}: {word} is not in {path.name}"


@pytest.mark.parametrize("page", PAGES)
def test_tests_links_and_recipes_are_there(page):
    """Every test is a file with tests in it; every page that is linked, but for the verdicts, lies beside this one."""
    for number, _, _, _, test, _ in rows_of(page):
        for word in quoted(test):
            path = ROOT / word
            assert path.is_file(), f"row {number}: {word}"
            assert any(name.startswith("test_") for name in names_in(path)), f"row {number}: {word}"
    links = set(re.findall(r"\]\(([^)]+)\)", text_of(page)))
    assert all((ROOT / "docs" / link).is_file() for link in links), links
    recipes = re.findall(r"recipes/[\w/-]+\.yaml", text_of(page))
    assert recipes
    assert all((ROOT / recipe).is_file() for recipe in recipes), recipes


@pytest.mark.parametrize("page", PAGES)
def test_commands_can_be_said(page):
    """Each is a command with options that it has, and what it asks of the built-in world is told there."""
    prose, blocks = BLOCK.sub("", text_of(page)), "".join(BLOCK.findall(text_of(page)))
    commands = re.findall(r"^instar .+", blocks, re.MULTILINE)
    commands += [word for word in quoted(prose) if word.startswith("instar ")]
    assert len(commands) > len(rows_of(page))
    assert all(row[3].startswith("`instar ") for row in rows_of(page))
    for command in commands:
        options = read(command)
        sources = (*getattr(options, "data", ()), *getattr(options, "prompts", ()))
        for source in sources:
            address_of(source)
    made = [read(command).out for command in commands if re.search(r" --out runs/", command)]
    assert len(set(made)) == len(made), "two commands write one folder"


def test_claims_are_those_that_are_measured():
    """Every claim stands beside a line of the textbook, and every one that is named is measured."""
    folder = ROOT / "src" / "instar" / "eval" / "claims"
    said = {
        name
        for path in sorted(folder.glob("*.py"))
        for call in re.findall(r"= Claim\(\n(.+\n)", path.read_text(encoding="utf-8"))
        for name in CLAIMED.findall(call)
    }
    assert said
    assert {word for row in rows_of(PAGES[0]) for word in quoted(row[5])} == said
