"""Lists of runs as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.cli.runs import LAST_RUN, format_runs, parse_runs

run_numbers = st.integers(min_value=0, max_value=LAST_RUN)


@given(st.lists(st.integers(min_value=0, max_value=300), min_size=1))
def test_formatted_runs_are_parsed_back(runs: list[int]) -> None:
    assert parse_runs([format_runs(runs)]) == sorted(set(runs))


@given(st.lists(run_numbers, min_size=1))
def test_runs_keep_the_order_given_and_count_once(runs: list[int]) -> None:
    once = list(dict.fromkeys(runs))
    assert parse_runs([str(run) for run in runs]) == once
    assert parse_runs([",".join(str(run) for run in runs)]) == once


@given(run_numbers, st.integers(min_value=0, max_value=200))
def test_both_ends_of_a_range_count(first: int, length: int) -> None:
    last = min(first + length, LAST_RUN)
    assert parse_runs([f"{first}-{last}"]) == list(range(first, last + 1))


@given(run_numbers, run_numbers)
def test_a_backward_range_is_refused_with_the_right_one(first: int, last: int) -> None:
    if last < first:
        with pytest.raises(ValueError, match=f"did you mean {last}-{first}"):
            parse_runs([f"{first}-{last}"])


@given(st.text())
def test_any_text_is_runs_or_a_value_error(text: str) -> None:
    try:
        runs = parse_runs([text])
    except ValueError:
        return
    assert runs == "all" or (runs and all(0 <= run <= LAST_RUN for run in runs))


@pytest.mark.parametrize(
    ("texts", "runs"),
    [
        (["1-3,205"], [1, 2, 3, 205]),
        (["5", "1-2"], [5, 1, 2]),
        (["1, 2 - 4,"], [1, 2, 3, 4]),
        (["0042"], [42]),
        (["all"], "all"),
    ],
)
def test_examples(texts: list[str], runs: object) -> None:
    assert parse_runs(texts) == runs


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["r5"], "'r5' is no run"),
        (["-5"], "'-5' is no run"),
        (["1-2-3"], "'1-2-3' is no run"),
        (["all", "5"], "'all' stands alone"),
        ([","], "no runs given"),
        (["1-1000000000"], "highest run number is 999999"),
        (["9" * 5000], "highest run number is 999999"),
    ],
)
def test_bad_examples(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_runs(texts)


def test_neighbours_are_joined() -> None:
    assert format_runs([205, 1, 2, 3, 7, 8]) == "1-3,7,8,205"
