"""`make traps`: run every trap and print one line for each: its number, what goes wrong, its thread, pass or fail.

What a trap is called and where somebody was hurt stands in docs/traps.md. Exits 1 where one fails or has no test.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "traps.md"
ROW = re.compile(r"^\| (\w+) \| (.+?) \| (?:\[(.+?)\]\(.+?\))? ?\| (.+?) \|$", re.MULTILINE)
FILE = re.compile(r"test_0*([A-Z]?\d+)")
STYLES = {"pass": "green", "FAIL": "bold red", "NO TEST": "bold red", "skipped": "yellow"}


def listed(page: Path = PAGE) -> dict[str, tuple[str, str]]:
    """Trap -> what goes wrong and its thread, in the order of the page."""
    return {number: (wrong, thread) for number, wrong, thread, _ in ROW.findall(page.read_text(encoding="utf-8"))}


def trap_of(path: str) -> str:
    """Example: test_26b_engine_parity.py -> 26."""
    found = FILE.match(Path(path).name)
    assert found, f"{path} is not named after a trap"
    return found[1]


class Tally:
    """A pytest plugin that counts outcomes by trap."""

    def __init__(self) -> None:
        self.outcomes: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes.setdefault(trap_of(report.nodeid.split("::")[0]), []).append(report.outcome)

    def verdict(self, trap: str) -> str:
        outcomes = self.outcomes.get(trap, [])
        if not outcomes:
            return "NO TEST"
        if "failed" in outcomes:
            return "FAIL"
        return "pass" if "passed" in outcomes else "skipped"


def main(arguments: list[str]) -> int:
    tally = Tally()
    status = pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", str(FOLDER), *arguments], plugins=[tally])
    board = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="\ntraps", title_justify="left", title_style="bold")
    for column in ("trap", "what goes wrong", "somebody was hurt in", "tests", ""):
        board.add_column(column, justify="right" if column == "tests" else "left", overflow="fold")
    traps = listed()
    verdicts = {trap: tally.verdict(trap) for trap in traps}
    for trap, (wrong, thread) in traps.items():
        count, verdict = len(tally.outcomes.get(trap, [])), verdicts[trap]
        board.add_row(trap, wrong, thread, str(count), Text(verdict, style=STYLES[verdict]))
    Console(width=None if sys.stdout.isatty() else 120).print(board)
    kept = sum(verdict == "pass" for verdict in verdicts.values())
    print(f"{kept} of {len(traps)} traps are kept out")
    return int(status) or int(kept + sum(v == "skipped" for v in verdicts.values()) < len(traps))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
