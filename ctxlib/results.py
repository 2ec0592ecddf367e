"""What a pipeline's variables gave for one run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from ctxlib.cell import Cell
from ctxlib.errors import Skip, describe


@dataclass(frozen=True, eq=False)
class Results:
    """What a pipeline's variables gave for one run, by their names.

    `cells` are the results that the table would show, with the summary function and units of their
    variables; None is in it as the data of a Cell too. `errors` are the exceptions of the others,
    `Skip` with its reason among them. Variables named in `transient` have no cells, and neither
    their values nor their errors are saved.
    """

    cells: Mapping[str, Cell]
    errors: Mapping[str, BaseException]
    transient: frozenset[str] = frozenset()
    transient_values: Mapping[str, object] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, object]:
        """The data of all results, without their Cells, transient ones included."""
        return {name: cell.data for name, cell in self.cells.items()} | {**self.transient_values}

    def save(self, damnit_dir: str | os.PathLike[str], proposal: int, run: int) -> None:
        """Put the results into the table of the database folder `damnit_dir`.

        The daemon of that folder takes them in, like those of its own jobs. Raises what
        `ctxlib.submission.submit` raises.
        """
        from ctxlib.submission import submit

        errors = {name: e for name, e in self.errors.items() if name not in self.transient}
        submit(
            *(proposal, run, self.cells),
            provenance="pipeline",
            errors=errors,
            damnit_dir=damnit_dir,
        )

    def __repr__(self) -> str:
        lines = [f"{name}: {_brief(value)}" for name, value in self.values.items()]
        for name, error in self.errors.items():
            skipped = isinstance(error, Skip)
            lines.append(f"{name}: skipped: {error}" if skipped else f"{name}: {describe(error)}")
        return "\n".join(["<Results", *(f"  {line}" for line in lines), ">"])


def _brief(value: object) -> str:
    shape = getattr(value, "shape", None)
    if shape:  # arrays in full would fill the screen
        return f"{type(value).__name__} of {shape}"
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:57]}..."
