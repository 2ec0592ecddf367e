"""`db-config` as documented: list, show, set, delete."""

import pytest
from cli_fake import FakeService, Run

from daemon.control import ServiceError

SETTINGS = [
    {"key": "noncluster_cpus", "value": 4, "default": 4, "meaning": "Cores.", "set": False},
    {
        "key": "slurm_reservation",
        "value": "upex_001234",
        "default": None,
        "meaning": "Reservation.",
        "set": True,
    },
]


@pytest.fixture(autouse=True)
def _answers(cli_service: FakeService) -> None:
    cli_service.answers["settings"] = {"rows": {}, "settings": SETTINGS}
    cli_service.answers["set"] = {"value": 8}
    cli_service.answers["delete"] = {}


def test_without_arguments_all_are_listed(cli: Run) -> None:
    assert cli("db-config").output.splitlines() == [
        "key                value        default  meaning",
        "noncluster_cpus    4            4        Cores.",
        "slurm_reservation  upex_001234           Reservation.",
    ]


def test_one_is_shown_alone(cli: Run) -> None:
    assert cli("db-config", "noncluster-cpus").output == "4\n"


def test_set(cli: Run, cli_service: FakeService) -> None:
    assert cli("db-config", "noncluster-cpus", "8").output == "noncluster_cpus = 8\n"
    assert cli("db-config", "noncluster_cpus", "8", "--num").exit_code == 0
    assert [asked for asked in cli_service.asked if asked[0] == "set"] == [
        ("set", {"key": "noncluster_cpus", "value": "8", "number": False}),
        ("set", {"key": "noncluster_cpus", "value": "8", "number": True}),
    ]


def test_delete(cli: Run, cli_service: FakeService) -> None:
    result = cli("db-config", "slurm_reservation", "--delete")
    assert result.output == "Deleted slurm_reservation (was upex_001234; now no value)\n"
    assert cli_service.asked[-1] == ("delete", {"key": "slurm_reservation"})
    assert cli("db-config", "-d", "noncluster_cpus").output == "noncluster_cpus was not set\n"


def test_parameters(cli: Run, cli_service: FakeService) -> None:
    note = "context.py has no parameter 'low': it has none"
    cli_service.answers["set"] = {"key": "param.low", "value": 5, "note": note}
    result = cli("db-config", "param.low", "5")
    assert (result.stdout, result.stderr) == ("param.low = 5\n", f"Note: {note}\n")
    assert cli("db-config", "--delete", "param.low").output == "param.low was not set\n"
    assert cli_service.asked[-1] == ("delete", {"key": "param.low"})
    shown = cli("db-config", "param.low")
    assert shown.exit_code == 1
    assert "there is no setting 'param.low'" in shown.stderr


@pytest.mark.parametrize("more", [[], ["8"], ["--delete"]])
def test_an_unknown_key_names_the_nearest(
    cli: Run, cli_service: FakeService, more: list[str]
) -> None:
    result = cli("db-config", "noncluster-cpu", *more)
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: there is no setting 'noncluster_cpu': did you mean noncluster_cpus?\n"
    )
    assert [op for op, _ in cli_service.asked] == ["settings"]


def test_a_refused_value_is_one_line(cli: Run, cli_service: FakeService) -> None:
    cli_service.answers["set"] = ServiceError("noncluster_cpus: 'many' is no number, such as 4")
    result = cli("db-config", "noncluster_cpus", "many")
    assert result.exit_code == 1
    assert result.stderr == "Error: noncluster_cpus: 'many' is no number, such as 4\n"


@pytest.mark.parametrize(
    "arguments", [["--delete"], ["--num"], ["a", "--num"], ["a", "b", "--delete"]]
)
def test_used_wrongly(cli: Run, arguments: list[str]) -> None:
    assert cli("db-config", *arguments).exit_code == 2
