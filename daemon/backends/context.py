"""What a manager is given of the service it works for: made as `manager_class()(config, context)`.

`config` is the configuration whose class named the manager's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from daemon.sandbox import Interpreter
from daemon.settings import Settings


@dataclass(frozen=True)
class ManagerContext:
    """The surroundings of a manager; what is a function is asked when it matters.

    `folder` is the database folder, `library` the folder that has ctxlib in it. `interpreter` is
    the Python that runs the context file. `log` takes a warning. `on_wake` is told the id of a job
    with something new to read, `on_end` the id and the number of an attempt that has ended or lost
    its process: whoever can tell neither leaves them, as each attempt is looked at now and then.
    """

    folder: Path
    library: Path
    interpreter: Callable[[], Interpreter]
    settings: Callable[[], Settings]
    log: Callable[[str], None]
    on_wake: Callable[[str], None]
    on_end: Callable[[str, int], None]
