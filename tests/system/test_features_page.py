"""The page of features names tests that exist, and the reference has all that users import."""

import ast
import re
from pathlib import Path

import ctxlib

ROOT = Path(__file__).parents[2]
NAME = r"\| (?P<name>[CPLB]\d+|[RAOT]-\d\d) \|"
ROW = re.compile(rf"^{NAME} .+ \| (?P<tests>.+) \|$", re.MULTILINE)
WITHOUT = re.compile(rf"^{NAME} [^|]+: [^|]+ \|$", re.MULTILINE)
TEST = re.compile(r"`(?P<path>tests/\S+\.py)::(?P<name>\w+)`")

WHERE_JOBS_RUN = """
R 1-6 10-16 20-46 50-58
A 1-17
O 1-6 10-21 30-33 40-44 50-51 60-62 70-72
T 1-11
"""
"""The rows of each letter that are proved, or that are named as not there."""


def _page() -> str:
    return (ROOT / "docs" / "features.md").read_text(encoding="utf-8")


def _names(ranges: str) -> list[str]:
    names = []
    for line in ranges.split("\n"):
        letter, *parts = line.split() or [""]
        for part in parts:
            first, _, last = part.partition("-")
            names += [f"{letter}-{n:02}" for n in range(int(first), int(last or first) + 1)]
    return names


def functions_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_every_feature_has_tests_that_exist() -> None:
    page, _, rest = _page().partition("\n## What is not there\n")
    rows = list(ROW.finditer(page))
    named = {row["name"]: TEST.findall(row["tests"]) for row in rows}
    assert len(named) == len(rows) == len(re.findall(r"^\| [A-Z]-?\d", page, re.MULTILINE))
    all_of = {"C": 25, "P": 10, "L": 13}
    whole = [f"{letter}{n}" for letter, last in all_of.items() for n in range(1, last + 1)]
    assert [name for name in named if name[0] in all_of] == whole
    without = [row["name"] for row in WITHOUT.finditer(rest)]
    assert len(without) == rest.count("\n| ") - 1
    found = [name for name in named if "-" in name]
    assert sorted(found + without) == sorted(_names(WHERE_JOBS_RUN))
    assert [name for name, tests in named.items() if not tests] == []
    missing = [
        f"{path}::{test}"
        for tests in named.values()
        for path, test in tests
        if not (ROOT / path).is_file() or test not in functions_in(ROOT / path)
    ]
    assert missing == []


def test_the_reference_has_every_word_of_ctxlib() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    words = {*ctxlib.__all__, "RunTable", "submit", "ExecutionBackend"} - {"group"}
    assert [word for word in sorted(words) if not re.search(rf"\b{word}\b", page)] == []
