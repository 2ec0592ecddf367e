"""`python -m daemon.listener.child FOLDER PARENT`: the daemon of one database, for a listener."""

import signal
import sys
from pathlib import Path

from ctxlib.processes import die_with_parent
from daemon.control import ServiceError
from daemon.database import SchemaError
from daemon.listen import AlreadyServedError, run


def main() -> None:
    """Serve FOLDER until told to stop, or until PARENT, the listener, is gone."""
    folder, parent = sys.argv[1:]
    die_with_parent(int(parent), signal.SIGTERM)
    try:
        run(Path(folder), patient=False)
    except (AlreadyServedError, ServiceError, SchemaError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
