"""The published `damnit` package, run by the Python that it is installed in."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]
READER = REPOSITORY / "tests/system/peer_reader.py"
PEER = Path(os.environ.get("RUNTABLE_PEER_PYTHON") or REPOSITORY / ".venv-peer/bin/python")
INSTALL = "python3 -m venv .venv-peer && .venv-peer/bin/pip install damnit==0.4.0 extra_data"

needs_peer = pytest.mark.skipif(
    not PEER.exists(), reason=f"the published package is missing: {INSTALL}"
)


def ask(folder: Path, run: int) -> dict[str, Any]:
    """What its API gives of a run, and its table; see `described`."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.json"
        command = [str(PEER), str(READER), str(folder), str(run), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(out.read_text())
        return found
