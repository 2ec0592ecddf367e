"""The page that says where things are names every room of the house."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ctxlib", "daemon")


def rooms() -> set[str]:
    """The repository's folders, those in its packages, and the modules beside the latter."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode != 0:
        pytest.skip("not a git repository: `git clone` it to run this test")
    paths = [Path(line) for line in listing.stdout.splitlines()]
    within = [path.parts for path in paths if len(path.parts) > 1 and path.name != "__init__.py"]
    folders = {f"{parts[0]}/" for parts in within}
    folders |= {"/".join(p[:2]) + "/" for p in within if p[0] in PACKAGES and len(p) > 2}
    modules = {p[1] for p in within if p[0] == "daemon" and p[1].endswith(".py")}
    return {room for room in folders | modules if not room.startswith(".")}


def test_every_room_is_named() -> None:
    page = (ROOT / "docs/how-it-works.md").read_text().partition("## Where things are")[2]
    missing = {r for r in rooms() if f"`{r}`" not in page and f"`daemon/{r}`" not in page}
    assert missing == set()
