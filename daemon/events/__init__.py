"""Where events come from (sources) and where they are kept until they are jobs (the inbox)."""

from dataclasses import dataclass
from typing import Literal

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
