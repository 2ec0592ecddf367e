"""What catalogues outside of the data know of a run: `"mymdc#sample_name"`.

A catalogue is looked up in when the first variable asks for it, and once for each value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

FIELDS = {"mymdc": ("run_type", "sample_name", "techniques")}
"""The catalogues, and what each of them can be asked for."""


class MetadataError(Exception):
    """A catalogue has no answer; says in words why, and never what is secret."""


class Catalogue(Protocol):
    """One catalogue's view of one run."""

    def look_up(self, field: str) -> object:
        """Give a value, None if the catalogue has none for this run; raises MetadataError."""


class Metadata:
    """All catalogues' view of the run that a job is about."""

    def __init__(
        self, open_catalogue: Callable[[str], Catalogue], log: Callable[[str], None]
    ) -> None:
        """`open_catalogue` opens one by its name, and may raise MetadataError."""
        self._open = open_catalogue
        self._log = log
        self._catalogues: dict[str, Catalogue | MetadataError] = {}
        self._known: dict[tuple[str, str], object] = {}

    @classmethod
    def of_run(cls, request: Mapping[str, Any], log: Callable[[str], None]) -> Metadata:
        """Look up what concerns the run that a job's request names."""

        def open_catalogue(_name: str) -> Catalogue:
            from ctxlib.metadata import mymdc  # only jobs that ask for it pay for it

            return mymdc.open_catalogue(request)

        return cls(open_catalogue, log)

    def value(self, catalogue: str, field: str) -> object:
        """Give a value, None if there is none; raises MetadataError, the same one each time."""
        key = (catalogue, field)
        if key not in self._known:
            try:
                self._known[key] = self._catalogue(catalogue).look_up(field)
            except MetadataError as error:
                self._log(f"{catalogue}#{field}: {error}")
                self._known[key] = error
        known = self._known[key]
        if isinstance(known, MetadataError):
            raise known
        return known

    def _catalogue(self, name: str) -> Catalogue:
        if name not in self._catalogues:
            try:
                self._catalogues[name] = self._open(name)
            except MetadataError as error:
                self._catalogues[name] = error
        catalogue = self._catalogues[name]
        if isinstance(catalogue, MetadataError):
            raise catalogue
        return catalogue
