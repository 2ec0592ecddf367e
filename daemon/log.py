"""The folder's log `amore.log`: what the daemon does, and what commands do in its place."""

import logging
import sys
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)-8s %(name)s  %(message)s"
NAME = "amore.log"


def log_to(folder: Path, *, terminal: bool) -> None:
    """Write what this process logs to the log of `folder`, and to standard error if `terminal`.

    The file is made with the first line, so that who only reads needs no permission to write.
    """
    handlers: list[logging.Handler] = [logging.FileHandler(folder / NAME, delay=True)]
    if terminal:
        handlers.append(logging.StreamHandler(sys.stderr))
    logging.basicConfig(level=logging.INFO, format=FORMAT, handlers=handlers, force=True)
