"""One contract for every way to map a function over items, and what is particular to each."""

import contextlib
import faulthandler
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from helpers import wait_until

from ctxlib import processes
from ctxlib.execution import (
    ExecutionBackend,
    ItemError,
    LocalExecutionBackend,
    SequentialExecutionBackend,
    isolated,
)

LONG = 60.0  # longer than any test waits


class ThreadedBackend(ExecutionBackend):
    """Somebody's own: threads that each wait for one isolated call."""

    def __init__(self):
        self.pool = ThreadPoolExecutor(2)

    def map(self, func, items, *, max_workers=None, timeout=None):
        return self._map(func, iter(items), max_workers or 2, timeout)

    def _map(self, func, items, workers, timeout):
        going = set()
        for item in itertools.chain(itertools.islice(items, workers), [None]):
            if item is not None:
                going.add(self.pool.submit(isolated, func, item, timeout=timeout))
        while going:
            done, going = wait(going, return_when=FIRST_COMPLETED)
            for item in itertools.islice(items, len(done)):
                going.add(self.pool.submit(isolated, func, item, timeout=timeout))
            yield from (future.result() for future in done)

    def shutdown(self):
        self.pool.shutdown()


EVERY = {
    "sequential": SequentialExecutionBackend,
    "local": lambda: LocalExecutionBackend(2),
    "custom": ThreadedBackend,
}
CONCURRENT = ["local", "custom"]
OURS = ["sequential", "local"]


@pytest.fixture
def backend(request):
    with EVERY[request.param]() as made:
        yield made
    assert processes.descendants(os.getpid()) == []
    assert not [p for p in processes.everyone() if p.parent == os.getpid()], "a zombie is left"


def gone(pid):
    """Whether a process has ended; nobody may have waited for it yet."""
    process = processes.read(pid)
    return process is None or process.zombie


every = pytest.mark.parametrize("backend", EVERY, indirect=True)
ours = pytest.mark.parametrize("backend", OURS, indirect=True)
concurrent = pytest.mark.parametrize("backend", CONCURRENT, indirect=True)


# the contract


@every
def test_results_of_all_items_come(backend):
    factor = 2  # functions and what they refer to need no way to another process
    assert sorted(backend.map(lambda x: x * factor, [1, 2, 3])) == [2, 4, 6]
    assert list(backend.map(lambda x: x, [])) == []


@every
def test_items_that_never_end_are_taken_one_after_the_other(backend):
    taken = []

    def numbers():
        for number in itertools.count(1):
            taken.append(number)
            yield number

    results = backend.map(lambda x: x, numbers())
    first = [next(results) for _ in range(5)]
    assert set(first) <= set(range(1, 8))
    assert len(taken) <= 5 + 2
    results.close()


@every
def test_an_item_that_goes_wrong_costs_only_itself(backend):
    def work(item):
        if item == "raises":
            raise ValueError("no beam")
        if item == "exits":
            sys.exit(3)
        if item == "leaves":
            os._exit(0)
        if item == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "crashes":
            faulthandler.disable()  # pytest's would tell of it
            os.kill(os.getpid(), signal.SIGSEGV)
        if item == "gives what cannot be sent":
            return lambda: None
        return "fine"

    items = ["raises", "exits", "leaves", "is killed", "crashes", "gives what cannot be sent", "ok"]
    results = list(backend.map(work, items))
    assert results.count("fine") == 1
    errors = {e.item: (e.reason, e.kind, str(e)) for e in results if isinstance(e, ItemError)}
    text = errors.pop("gives what cannot be sent")
    assert text[:2] == ("refused", "TypeError")
    assert "function cannot be given to another process" in text[2]
    assert errors == {
        "raises": ("raised", "ValueError", "ValueError: no beam"),
        "exits": ("raised", "SystemExit", "SystemExit: 3"),
        "leaves": ("killed", "", "ended by itself with exit code 0"),
        "is killed": ("killed", "", "killed by signal SIGKILL (Killed)"),
        "crashes": ("killed", "", "killed by signal SIGSEGV (Segmentation fault)"),
    }


@every
def test_the_time_is_each_items_own_and_ends_all_that_it_started(backend, tmp_path):
    def work(item):
        if item == "slow":
            code = f"import os, time; print(os.getpid(), flush=True); time.sleep({LONG})"
            with (tmp_path / "pid").open("w") as file:
                subprocess.Popen([sys.executable, "-c", code], stdout=file, start_new_session=True)
            wait_until(lambda: (tmp_path / "pid").read_text())
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.pause()
        wait_until(lambda: time.monotonic() > began + 1.0)
        return item

    began = time.monotonic()
    results = list(backend.map(work, ["slow", "a", "b", "c"], timeout=2.0))
    error = next(result for result in results if isinstance(result, ItemError))
    assert sorted(r for r in results if r is not error) == ["a", "b", "c"]
    assert (error.item, error.reason) == ("slow", "timeout")
    assert str(error) == "killed: took longer than 2 s"
    assert processes.read(int((tmp_path / "pid").read_text())) is None


@ours
def test_what_the_items_raise_comes_after_their_results(backend):
    def broken():
        yield from (1, 2, 3)
        raise OSError("the list of runs is gone")

    results = backend.map(lambda x: x, broken())
    assert sorted(next(results) for _ in range(3)) == [1, 2, 3]
    with pytest.raises(OSError, match="the list of runs is gone"):
        next(results)


# what ours promise beyond it


@concurrent
def test_every_call_works_on_several_at_once(backend, tmp_path):
    def meet(item):
        """Each waits for the other: one after the other would take for ever."""
        (tmp_path / f"{call}-{item}").touch()
        wait_until(lambda: len(list(tmp_path.glob(f"{call}-*"))) == 2, timeout=20)
        return item

    for call in range(3):  # noqa: B007  the function sees it
        assert sorted(backend.map(meet, ["a", "b"])) == ["a", "b"]


def test_a_call_has_its_own_number_of_workers(tmp_path):
    def count(item):
        own = tmp_path / str(item)
        own.touch()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: len(list(tmp_path.iterdir())) > 3, timeout=0.5)
        number = len(list(tmp_path.iterdir()))
        own.unlink()
        return number

    with LocalExecutionBackend(1) as backend:
        assert max(backend.map(count, range(6), max_workers=3)) == 3
        assert max(backend.map(count, range(2))) == 1
        assert max(backend.map(count, range(4), max_workers=2)) == 2


def test_one_after_the_other_and_none_before_it_is_asked_for(tmp_path):
    def note(item):
        with (tmp_path / "log").open("a") as log:
            log.write(f"{item} ")
        return item

    with SequentialExecutionBackend() as backend:
        results = backend.map(note, itertools.count(), max_workers=7)
        assert [next(results), next(results)] == [0, 1]
        assert (tmp_path / "log").read_text() == "0 1 "
        assert list(backend.map(note, range(5))) == [0, 1, 2, 3, 4]


def test_the_first_to_be_ready_comes_first(tmp_path):
    def work(item):
        if item == "slow":
            wait_until((tmp_path / "go").exists)
        return item

    with LocalExecutionBackend(2) as backend:
        results = backend.map(work, ["slow", "fast"])
        assert next(results) == "fast"
        (tmp_path / "go").touch()
        assert next(results) == "slow"


def test_work_goes_on_while_a_result_is_looked_at(tmp_path):
    with LocalExecutionBackend(1) as backend:
        results = backend.map(lambda item: (tmp_path / item).touch(), ["a", "b"])
        next(results)
        wait_until((tmp_path / "b").exists)
        assert list(results) == [None]


@ours
def test_large_results_come_whole(backend):
    arrays = list(backend.map(lambda n: np.full((1000, 1000), n), [1, 2]))
    assert sorted(array[0, 0] for array in arrays) == [1, 2]
    assert all((array == array[0, 0]).all() for array in arrays)


@ours
def test_random_numbers_differ(backend):
    numbers = list(backend.map(lambda _: float(np.random.random()), range(4)))
    assert len(set(numbers)) == 4


@ours
def test_a_map_in_a_map(backend):
    def inner(item):
        with LocalExecutionBackend(2) as own:
            return sorted(own.map(lambda x: x + item, [10, 20]))

    assert sorted(backend.map(inner, [1, 2])) == [[11, 21], [12, 22]]


@ours
def test_a_fork_that_comes_back_from_the_function_gives_no_second_result(backend):
    def twice(item):
        os.fork()
        return item

    assert list(backend.map(twice, ["a"])) == ["a"]


@ours
def test_leaving_early_ends_what_is_going_on(backend, tmp_path):
    def work(item):
        (tmp_path / str(item)).write_text(str(os.getpid()))
        if item:
            signal.pause()
        return item

    results = backend.map(work, itertools.count())
    assert next(results) == 0
    results.close()
    assert processes.descendants(os.getpid()) == []
    with pytest.raises(StopIteration):
        next(results)


@ours
def test_an_interrupt_ends_what_is_going_on(backend):
    # Whoever runs the tests may have switched interrupts off, as one of several processes does.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        list(backend.map(lambda _: signal.pause(), [1]))
    timer.join()
    signal.signal(signal.SIGINT, before)
    assert processes.descendants(os.getpid()) == []


@ours
def test_a_shutdown_ends_what_is_going_on(backend):
    results = backend.map(lambda _: signal.pause(), itertools.count())
    timer = threading.Timer(0.5, backend.shutdown)
    timer.start()
    with pytest.raises(RuntimeError, match="was shut down; make a new one"):
        next(results)
    timer.join()
    backend.shutdown()  # once more does no harm
    with pytest.raises(RuntimeError, match="was shut down; make a new one"):
        backend.map(str, [1])


def test_a_shutdown_leaves_nothing_to_a_map_that_nobody_goes_on_with(tmp_path):
    def work(item):
        if item:
            (tmp_path / "there").touch()
            signal.pause()

    with LocalExecutionBackend(1) as backend:
        results = backend.map(work, [0, 1])
        next(results)
        wait_until((tmp_path / "there").exists)
    assert not [p for p in processes.everyone() if p.parent == os.getpid()]
    with pytest.raises(RuntimeError, match="was shut down"):
        next(results)


def test_an_error_in_the_block_passes_and_shuts_down():
    backend = LocalExecutionBackend()
    with pytest.raises(ZeroDivisionError), backend:
        raise ZeroDivisionError
    with pytest.raises(RuntimeError):
        backend.map(str, [1])


def test_a_killed_guard_is_its_items_error_and_takes_the_item_along(tmp_path):
    def work(item):
        (tmp_path / "pid").write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()

    error = isolated(work, "item")
    assert error.reason == "killed"
    assert str(error) == "the guard of its process was lost: killed by signal SIGKILL (Killed)"
    wait_until(lambda: gone(int((tmp_path / "pid").read_text())))


@pytest.mark.parametrize("workers", [0, -1, 1.5])
def test_wrong_numbers_are_refused_at_once(workers):
    with pytest.raises(ValueError, match=f"max_workers={workers}: give a whole number"):
        LocalExecutionBackend(workers)
    with LocalExecutionBackend() as backend:
        with pytest.raises(ValueError, match="max_workers"):
            backend.map(str, [], max_workers=workers)
        with pytest.raises(ValueError, match="timeout=0: give a number of seconds above 0"):
            backend.map(str, [], timeout=0)


def test_the_interface_itself_cannot_be_used():
    with pytest.raises(TypeError, match="abstract"):
        ExecutionBackend()


# in programs of their own


def program(text: str, tmp_path: Path) -> subprocess.Popen[str]:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(text))
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def test_in_a_main_program_with_threads_output_is_whole_and_written_once(tmp_path):
    done = program(
        """
        import threading
        from ctxlib.execution import LocalExecutionBackend
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        print("before")  # held back: stdout is a pipe

        class Mine:
            def __init__(self, n): self.n = n

        offset = 10
        def work(item):
            print("working on", item.n)
            return item.n + offset

        with LocalExecutionBackend(2) as backend:
            print(sorted(backend.map(work, [Mine(1), Mine(2)])))
        """,
        tmp_path,
    )
    out, _ = done.communicate(timeout=60)
    assert sorted(out.splitlines()) == ["[11, 12]", "before", "working on 1", "working on 2"]


def test_a_killed_caller_takes_everything_along(tmp_path):
    caller = program(
        f"""
        import os, subprocess, sys, time
        from ctxlib.execution import LocalExecutionBackend
        def work(item):
            below = subprocess.Popen(["sleep", "{LONG}"], start_new_session=True)
            print(os.getppid(), os.getpid(), below.pid, flush=True)
            below.wait()
        list(LocalExecutionBackend(1).map(work, [1]))
        """,
        tmp_path,
    )
    assert caller.stdout is not None
    pids = [int(pid) for pid in caller.stdout.readline().split()]
    caller.kill()
    caller.wait()
    caller.stdout.close()
    assert len(pids) == 3
    wait_until(lambda: all(gone(pid) for pid in pids))
