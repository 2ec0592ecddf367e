"""The page of features names tests that exist, and the reference has all that users import."""

import ast
import re
from pathlib import Path

import ctxlib

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<name>[CPLB]\d+) \| .+ \| (?P<tests>.+) \|$", re.MULTILINE)
TEST = re.compile(r"`(?P<path>tests/\S+\.py)::(?P<name>\w+)`")


def functions_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_every_feature_has_tests_that_exist() -> None:
    page = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    named = {row["name"]: TEST.findall(row["tests"]) for row in ROW.finditer(page)}
    all_of = {"C": 25, "P": 10, "L": 13}
    whole = [f"{letter}{n}" for letter, last in all_of.items() for n in range(1, last + 1)]
    assert [name for name in named if not name.startswith("B")] == whole
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
