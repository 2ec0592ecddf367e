"""Who this process runs as, for what is recorded with their name."""

import getpass
import os
import socket


def person() -> str:
    """The user and the host that this process runs as: "sam@max-display001"."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # in containers, numbers need not have names
    return f"{user}@{socket.gethostname()}"
