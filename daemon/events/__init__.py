"""Where events come from (sources) and where they are kept until they are jobs (the inbox)."""

import sqlite3
from dataclasses import dataclass, fields
from typing import Literal, Self

Data = Literal["raw", "proc"]


@dataclass(frozen=True)
class MigrationEvent:
    """Data of one kind has arrived for one run.

    `key` identifies the delivery (message id, topic and offset, a folder's fingerprint), `source`
    says who told us ("filesystem", "notify", "kafka", ...), `time` is Unix time in seconds.
    """

    proposal: int
    run: int
    data: Data
    source: str
    key: str
    time: float

    @classmethod
    def of(cls, row: sqlite3.Row) -> Self:
        """The event in a row of a table that has columns of these names."""
        return cls(**{field.name: row[field.name] for field in fields(cls)})
