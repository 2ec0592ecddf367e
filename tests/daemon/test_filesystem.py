from pathlib import Path

import pytest

from daemon.filesystem import filesystem_type, is_network

MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /gpfs rw shared:2 master:3 - gpfs exfel rw
31 30 0:41 / /gpfs/local rw - xfs /dev/sdb rw
32 22 0:42 / /home/a\\040b rw - nfs4 server:/home rw
33 22 0:43 / /mnt/ssh rw - fuse.sshfs me@there: rw
34 22 0:44 / /mnt/usb rw - fuseblk /dev/sdc1 rw
35 22 0:45 / /over rw - nfs server:/x rw
36 22 0:46 / /over rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/tmp/somewhere", "ext4", False),
        ("/gpfs/exfel/p1234", "gpfs", True),
        ("/gpfs/local/x", "xfs", False),
        ("/gpfsother", "ext4", False),
        ("/home/a b/not/there", "nfs4", True),
        ("/mnt/ssh", "fuse.sshfs", True),
        ("/mnt/usb", "fuseblk", False),
        ("/over/x", "tmpfs", False),
    ],
)
def test_the_innermost_last_mount_decides(tmp_path, path, kind, network):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTINFO)
    assert filesystem_type(Path(path), mounts) == kind
    assert is_network(Path(path), mounts) is network


def test_without_proc_a_path_counts_as_local(tmp_path):
    assert is_network(tmp_path, tmp_path / "missing") is False


def test_here(tmp_path):
    assert filesystem_type(tmp_path)
