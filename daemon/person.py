"""Who this process runs as, for what is recorded with their name."""

import socket

from ctxlib.claim import user_name


def person() -> str:
    """The user and the host that this process runs as: "sam@max-display001"."""
    return f"{user_name()}@{socket.gethostname()}"
