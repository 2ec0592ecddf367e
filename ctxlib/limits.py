"""What a job may use: set inside its processes, and measured from outside."""

import os
import resource
import socket
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import threadpoolctl
except ImportError:
    threadpoolctl = None

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)
"""What libraries read, once, to know how many threads they may have."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_pools: Any = None


def apply_inside(cpus: int | None, memory: int | None) -> None:
    """Hold this process to `cpus` cores and, loosely, to `memory` bytes (None: to what it has).

    The data limit is twice the memory beyond what the process has now: an allocation far too big
    then is a MemoryError with a line number; smaller excesses are seen from outside.
    """
    allowed = sorted(os.sched_getaffinity(0))
    # Jobs at the same time have different pids, or those in containers different hosts, and so
    # mostly different cores.
    cpus = len(allowed) if cpus is None else min(cpus, len(allowed))
    first = (os.getpid() + zlib.crc32(socket.gethostname().encode())) * cpus % len(allowed)
    _use_cores({allowed[(first + i) % len(allowed)] for i in range(cpus)})
    if memory is not None:
        _limit_data(memory)


@contextmanager
def narrowed(cpus: int | None, memory: int | None) -> Iterator[None]:
    """Hold this process to less than it may use otherwise; None and more change nothing."""
    cores = os.sched_getaffinity(0)
    data = resource.getrlimit(resource.RLIMIT_DATA)
    fewer = cpus is not None and cpus < len(cores)
    if fewer:
        _use_cores(set(sorted(cores)[:cpus]))
    if memory is not None:
        _limit_data(memory)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, data)
        if fewer:
            _use_cores(cores)


def _use_cores(cores: set[int]) -> None:
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - numbers are all that is needed
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread), cores)
    for name in THREAD_VARIABLES:
        os.environ[name] = str(len(cores))
    _size_thread_pools(len(cores))


def _limit_data(memory: int) -> None:
    """Lower the limit of what this process may allocate to twice `memory` beyond what it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [_status_bytes("VmData") + 2 * memory, soft, hard]
    limit = min(known for known in limits if known != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _size_thread_pools(cores: int) -> None:
    # Pools that exist already do not look at the environment any more.
    if threadpoolctl is not None:
        pools = _pools or threadpoolctl.ThreadpoolController()
        pools.limit(limits=cores)


def find_thread_pools() -> None:
    """Look for the pools of all libraries loaded so far, for processes forked from here to know.

    It takes a third of a small job's time; pools that are loaded later look at the environment.
    """
    global _pools
    if threadpoolctl is not None:
        _pools = threadpoolctl.ThreadpoolController()


def reseed() -> None:
    """Give NumPy's global random state new entropy: forked processes would all have the same."""
    # Where it is not loaded yet there is no state to repeat.
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()


def reset_peak_memory() -> None:
    """Start measuring the peak memory of this process anew."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        # Some containers do not allow it; the peak then counts from the start of the process.
        return


def peak_memory() -> int:
    """Peak resident memory in bytes since `reset_peak_memory`."""
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {field}; is this Linux?")


def exceeds(pids: Iterable[int], memory: int) -> bool:
    """Tell whether processes together use more than `memory` bytes.

    Resident sizes are cheap and count shared pages once for each process; only where their sum
    is too much are proportional sizes asked for, which leave mapped files out.
    """
    pids = list(pids)
    return sum(map(_resident, pids)) > memory and proportional(pids) > memory


def proportional(pids: Iterable[int]) -> int:
    """Sum of the sizes of processes in bytes, pages that they share divided among them."""
    return sum(map(_proportional, pids))


def resident(pids: Iterable[int]) -> int:
    """Sum of the resident sizes of processes, in bytes."""
    return sum(map(_resident, pids))


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    except OSError:
        # It ended meanwhile and uses nothing.
        return 0


def _proportional(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return _resident(pid)
    sizes = {line.split(":")[0]: line.split()[1] for line in rollup.splitlines()[1:]}
    return (int(sizes["Pss"]) - int(sizes.get("Pss_File", 0))) * 1024


def words_for_bytes(memory: int) -> str:
    """A number of bytes for people: 25 GB, 300 MB; the units are of 1024."""
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if memory >= size:
            return f"{memory / size:.3g} {unit}"
    return f"{memory} B"
