"""When an attempt has been silent for too long, and is lost."""

from daemon.backends import Status
from daemon.settings import Settings


def too_silent(status: Status, silence: float, settings: Settings) -> str:
    """Why an attempt that was silent for so many seconds counts as lost; empty if it does not.

    One on this host shows that its process hangs; of one elsewhere the host may be gone.
    """
    if status.signs == "here" and silence >= settings.job_status_ttl:
        return (
            f"stale_status: no sign of life for {settings.job_status_ttl} s (setting "
            "job_status_ttl), although its process is there"
        )
    limit = settings.host_heartbeat_ttl + settings.worker_stale_grace_seconds
    if status.signs == "elsewhere" and silence >= limit:
        return (
            f"worker_offline: no sign of life {status.reason} for {limit} s (settings "
            "host_heartbeat_ttl and worker_stale_grace_seconds)"
        )
    return ""
