"""Which kind of filesystem a path is on, as the kernel says it."""

from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

# Other hosts can change files there: no inotify for their changes, and no WAL between hosts.
NETWORK_TYPES = frozenset(
    {"9p", "afs", "auristorfs", "beegfs", "ceph", "cifs", "coda", "cvmfs", "glusterfs", "gpfs"}
    | {"lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "smb3", "smbfs"}
    | {"virtiofs", "wekafs"}
)


def is_network(path: Path, mounts: Path = MOUNTS) -> bool:
    """Tell whether `path`, which need not exist, is on a filesystem shared between hosts.

    FUSE filesystems count as shared, except those over a local block device (`fuseblk`).
    """
    kind = filesystem_type(path, mounts)
    return kind in NETWORK_TYPES or kind == "fuse" or kind.startswith("fuse.")


def filesystem_type(path: Path, mounts: Path = MOUNTS) -> str:
    """Return the type of the filesystem that holds `path` ("ext4", "nfs4"); "" if unknown."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""  # not Linux, or /proc is hidden: nothing speaks for a network
    target = path.resolve()
    best, kind = -1, ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = Path(_unescape(fields.split(" ")[4]))
        # Of two mounts on one point the later one hides the earlier.
        if len(point.parts) >= best and target.is_relative_to(point):
            best, kind = len(point.parts), rest.split(" ")[0]
    return kind


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
