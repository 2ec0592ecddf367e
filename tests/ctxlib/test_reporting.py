"""progress: what reaches whoever listens, and how often."""

import os

import numpy as np
import pytest

import ctxlib
from ctxlib import progress, reporting


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(reporting, "time", clock)
    monkeypatch.setattr(reporting, "_last", 0.0)
    return clock


@pytest.fixture
def told(clock):
    told = []
    reporting.listen(told.append)
    yield told
    reporting.listen(None)


def test_ten_reports_a_second_at_most_are_passed_on(told, clock):
    for number in range(100):
        progress(number, 100)
        clock.now += 1 / 32
    assert [report["done"] for report in told] == list(range(0, 100, 4))


def test_numbers_of_every_kind(told, clock):
    for done, total in [(np.int64(3), np.float32(4.0)), (0.5, 1), (0, 0), (True, "7")]:
        progress(done, total, "x" * 500)
        clock.now += 1
    assert [(r["done"], r["total"]) for r in told] == [(3, 4), (0.5, 1), (0, 0), (1, 7)]
    assert {type(value) for r in told for value in (r["done"], r["total"])} == {int, float}
    assert {len(report["text"]) for report in told} == {200}


def test_wrong_numbers_are_refused_even_when_nobody_listens(clock):
    for done, total in [("many", 1), (1, None), ([1], 2)]:
        with pytest.raises(TypeError, match="is no number"):
            progress(done, total)
    with pytest.raises(ValueError, match=r"progress: total=inf is not finite"):
        progress(1, float("inf"))
    progress(1, 2)


def test_a_process_that_the_variable_forked_says_nothing(told):
    child = os.fork()
    if child == 0:
        progress(1, 2)
        os._exit(len(told))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    progress(1, 2)
    assert len(told) == 1


def test_context_files_import_it():
    assert ctxlib.progress is progress
