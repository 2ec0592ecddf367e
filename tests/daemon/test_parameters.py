"""The values of parameters: rows beside the settings, and what a command gives."""

import pytest

from daemon import parameters
from daemon.jobs.job import Work, columns_of
from daemon.parameters import ParameterError
from daemon.settings import Settings


def test_rows_are_read_as_typed():
    rows = {
        "param.low": "5",
        "param.name": "dark run",
        "param.on": "true",
        "param.digits": '"5"',
        "param.by_another_program": 2.5,
        "param.group.gain": "1e3",
        "param.gone": None,
        "proposal": 1234,
    }
    settings = Settings.from_rows(rows)
    assert settings.params == {
        "low": 5,
        "name": "dark run",
        "on": True,
        "digits": "5",
        "by_another_program": 2.5,
        "group.gain": 1000.0,
    }
    assert settings.warnings == []


def test_rows_that_cannot_be_used_are_warned_of():
    settings = Settings.from_rows({"param.1x": "5", "param.blob": b"x", "param.ok": "1"})
    assert settings.params == {"ok": 1}
    assert settings.warnings == [
        "param.1x: '1x' is not the name of a parameter: use letters, digits and _; it is not used",
        "param.blob: b'x' is no value of a parameter; it is not used",
    ]


def test_keys():
    assert parameters.is_key(" param.low")
    assert not parameters.is_key("params")
    assert parameters.name_of("param.low-energy") == "low_energy"
    for key in ("param.", "param.a b", "param.a."):
        with pytest.raises(ParameterError, match="is not the name of a parameter"):
            parameters.name_of(key)


def test_what_is_stored_is_what_was_typed():
    assert parameters.stored("low", " 5 ") == " 5 "
    assert parameters.stored("low", "1e3", number=True) == "1e3"
    for text in ("many", "true", "[1]"):
        with pytest.raises(ParameterError, match="is no number"):
            parameters.stored("low", text, number=True)
    with pytest.raises(ParameterError, match="not Unicode"):
        parameters.stored("low", "\udcff")


@pytest.mark.parametrize("value", [[1], {}, float("inf")])
def test_values_of_commands_are_checked(value):
    with pytest.raises(ParameterError, match="low cannot be"):
        parameters.check({"low": value})


def test_unknown_names_get_the_nearest():
    assert parameters.unknown(["low"], ["low", "high"]) is None
    said = "context.py has no parameter 'hihg': did you mean 'high'?"
    assert parameters.unknown(["low", "hihg"], ["low", "high"]) == said
    assert parameters.unknown(["x"], ["low", "high"]).endswith("there are low, high")
    assert parameters.unknown(["x"], []).endswith("it has none")


def test_they_are_listed_set_or_declared():
    declared = [
        {"name": "low", "title": "", "description": "Lowest.", "default": 3},
        {"name": "high", "title": "High", "description": ""},
    ]
    found = parameters.listed({"param.low": "5", "param.old": "x"}, declared)
    assert [(i["key"], i["value"], i["default"], i["meaning"], i["set"]) for i in found] == [
        ("param.low", 5, 3, "Lowest.", True),
        ("param.high", None, None, "High", False),
        ("param.old", "x", None, "parameter of the context file", True),
    ]


def test_work_keeps_them():
    work = Work(proposal=1, run=1, data="raw", source="t", live=False, params={"low": None})
    assert columns_of(work)["params"] == '{"low": null}'
