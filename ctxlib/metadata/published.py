"""myMdC asked through the published package extra_proposal, where that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ctxlib.metadata import Catalogue, MetadataError


def open_catalogue(folder: Path, proposal: int, run: int) -> Catalogue | None:
    """Open myMdC for a run; None where the package does not find the proposal in `folder`.

    It has a way of its own to find a proposal, and would use the credentials of another folder.
    """
    try:
        from extra_proposal import Proposal

        found = Proposal(proposal)
        same = Path(found.directory).samefile(folder)
    except Exception:  # noqa: BLE001  whatever is wrong with the package: we can ask ourselves
        return None
    return Published(found, run) if same else None


class Published:
    """Asks for one run."""

    def __init__(self, proposal: Any, run: int) -> None:
        """Ask with the package's `Proposal`."""
        self._run = run
        self._ask = {
            "run_type": proposal.run_type,
            "sample_name": proposal.run_sample_name,
            "techniques": proposal.run_techniques,
        }

    def look_up(self, field: str) -> object:
        """Give a value; raises MetadataError."""
        try:
            return self._ask[field](self._run)
        except Exception as error:  # noqa: BLE001  its errors are of several libraries' types
            raise MetadataError(self._words(error)) from None

    def _words(self, error: Exception) -> str:
        """Say what went wrong without the error's own text, which may quote a secret."""
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            return "myMdC refuses the credentials of this proposal"
        if status == 404 or type(error) is RuntimeError:
            return f"myMdC does not know run {self._run}"
        if status is not None:
            return f"myMdC answers with status {status}"
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if kinds & {"Timeout", "ConnectionError"}:
            return f"myMdC does not answer ({type(error).__name__})"
        return f"myMdC cannot be asked ({type(error).__name__})"
