import os
import subprocess
import sys

import pytest
from helpers import wait_until

from ctxlib import limits

MB = 1 << 20


def python(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_cores_hold_for_the_process_its_pools_and_what_it_starts():
    code = """
import os, numpy, threadpoolctl
from ctxlib import limits
limits.apply_inside(1, None)
pools = {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
print(len(os.sched_getaffinity(0)), pools, os.environ["OMP_NUM_THREADS"])
"""
    assert python(code).split() == ["1", "{1}", "1"]


@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="one core has no choice; run on two or more"
)
def test_pools_grow_to_the_cores_although_the_environment_said_one():
    code = """
import numpy, threadpoolctl
from ctxlib import limits
limits.apply_inside(2, None)
print({pool["num_threads"] for pool in threadpoolctl.threadpool_info()})
"""
    assert python(code, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1").strip() == "{2}"


def test_pools_found_before_a_fork_are_those_of_the_forked_process():
    code = """
import os, numpy, threadpoolctl
from ctxlib import limits
limits.find_thread_pools()
if os.fork() == 0:
    limits.apply_inside(1, None)
    print({pool["num_threads"] for pool in threadpoolctl.threadpool_info()})
else:
    os.wait()
"""
    assert python(code, OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2").strip() == "{1}"


@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="one core has no choice; run on two or more"
)
def test_a_variable_can_have_less_than_its_job():
    code = """
import os, resource, threading, numpy, threadpoolctl
from ctxlib import limits
limits.apply_inside(2, 1 << 30)
stop, ready = threading.Event(), threading.Event()
def wait():
    ready.set()
    stop.wait()
thread = threading.Thread(target=wait)
thread.start()
ready.wait()

def seen():
    pools = {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    cores = {len(os.sched_getaffinity(t)) for t in (0, thread.native_id)}
    return cores, pools, os.environ["OMP_NUM_THREADS"], resource.getrlimit(resource.RLIMIT_DATA)

before = seen()
with limits.narrowed(1, 64 << 20):
    during = seen()
    try:
        bytearray(1 << 30)
    except MemoryError:
        print("refused")
assert before[:3] == ({2}, {2}, "2"), before
assert during[:3] == ({1}, {1}, "1"), during
assert during[3][0] < before[3][0]
assert seen() == before
with limits.narrowed(64, 64 << 30):
    assert seen() == before
with limits.narrowed(None, None):
    assert seen() == before
stop.set()
"""
    assert python(code) == "refused\n"


def test_more_cores_than_there_are_means_all():
    code = """
import os
from ctxlib import limits
before = os.sched_getaffinity(0)
limits.apply_inside(10_000, None)
print(os.sched_getaffinity(0) == before)
"""
    assert python(code).strip() == "True"


@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="one core has no choice; run on two or more"
)
def test_processes_of_one_number_on_different_hosts_use_different_cores():
    # As the first processes of containers are, on one machine.
    code = """
import os, socket
from ctxlib import limits
before = os.sched_getaffinity(0)
chosen = set()
for host in "abcdefgh":
    socket.gethostname = lambda: host
    os.getpid = lambda: 7
    os.sched_setaffinity(0, before)
    limits.apply_inside(1, None)
    chosen |= os.sched_getaffinity(0)
print(len(chosen) > 1)
"""
    assert python(code).strip() == "True"


def test_one_allocation_far_beyond_the_memory_is_a_memory_error():
    code = """
import numpy
from ctxlib import limits
limits.apply_inside(1, 200 << 20)
numpy.zeros(100 << 20, dtype="u1")
try:
    numpy.zeros(1 << 30, dtype="u1")
except MemoryError as error:
    print(error)
"""
    assert "1.00 GiB" in python(code)


def test_forked_processes_draw_different_random_numbers():
    code = """
import os, numpy, numpy.random
from ctxlib import limits
for _ in range(2):
    if os.fork() == 0:
        limits.reseed()
        print(numpy.random.randint(1 << 62), flush=True)
        os._exit(0)
    os.wait()
"""
    first, second = python(code).split()
    assert first != second


def test_peak_memory_is_measured_anew():
    code = """
from ctxlib import limits
def peak(size):
    limits.reset_peak_memory()
    b"x" * size
    return limits.peak_memory()
big = peak(200 << 20)
small = peak(1)
print(big - small > 150 << 20, small < 150 << 20)
"""
    assert python(code).split() == ["True", "True"]


def hold(code: str) -> "subprocess.Popen[str]":
    program = f"{code}\nprint(1, flush=True)\nimport sys; sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    return process


def test_memory_is_that_of_all_processes_together():
    with hold("x = bytearray(b'x') * (60 << 20)") as one, hold("x = b'x' * (60 << 20)") as two:
        assert limits.exceeds([one.pid, two.pid], 100 * MB)
        assert not limits.exceeds([one.pid], 100 * MB)
        assert not limits.exceeds([one.pid, two.pid], 400 * MB)
        one.communicate()
        two.communicate()


def test_mapped_files_are_no_memory_of_the_job(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(bytes(120 * MB))
    code = f"""
import mmap
file = open({str(path)!r}, "rb")
mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
sum(mapped[:: mmap.PAGESIZE])"""
    with hold(code) as process:
        wait_until(lambda: limits.resident([process.pid]) > 120 * MB)
        assert not limits.exceeds([process.pid], 100 * MB)
        process.communicate()


def test_a_process_that_is_gone_uses_nothing():
    assert limits.resident([2**22 - 1]) == 0


@pytest.mark.parametrize(
    ("memory", "words"),
    [(25 << 30, "25 GB"), (300 * MB, "300 MB"), (1536 * MB, "1.5 GB"), (2048, "2 kB"), (5, "5 B")],
)
def test_sizes_in_words(memory, words):
    assert limits.words_for_bytes(memory) == words
