"""What a command chooses has to be in the context file."""

from types import SimpleNamespace

import pytest

from daemon import chosen
from daemon.control import ServiceError
from daemon.operations import Operations

VARIABLES = [
    {"name": "energy", "title": "XGM/Pulse energy"},
    {"name": "delay", "title": "Delay"},
]


@pytest.mark.parametrize(
    ("names", "match"), [([], []), (["energy", "delay"], []), ([], ["pulse", "DEL"])]
)
def test_what_is_there(names: list[str], match: list[str]) -> None:
    assert chosen.unknown(names, match, VARIABLES) is None


@pytest.mark.parametrize(
    ("names", "match", "said"),
    [
        (["enrgy"], [], "context.py has no variable 'enrgy': did you mean 'energy'?"),
        (["zzz"], [], "context.py has no variable 'zzz': `read-context` lists them"),
        ([], ["del", "Dealy"], "has 'Dealy' in its title: did you mean 'Delay'?"),
        ([], ["zzz"], "has 'zzz' in its title: `read-context` lists them"),
    ],
)
def test_what_is_not(names: list[str], match: list[str], said: str) -> None:
    assert said in str(chosen.unknown(names, match, VARIABLES))


def test_a_name_that_no_title_has() -> None:
    variables = [{"name": "xgm", "title": "Pulse energy"}]
    said = str(chosen.unknown([], ["xgm"], variables))
    assert said.endswith("it is the name of one: choose it with --var xgm")


class Context:
    """A context file whose modules have changed since it was looked at."""

    def __init__(self, *known: list[dict[str, str]] | None) -> None:
        self._next = iter(known)
        self.variables: list[dict[str, str]] | None = None

    async def state(self) -> None:
        self.variables = next(self._next)

    async def read(self) -> None:
        self.variables = next(self._next)


@pytest.mark.parametrize("choice", [{"variables": ["nope"]}, {"match": ["nope"]}])
async def test_nothing_is_queued_for_what_is_not_there(choice: dict[str, list[str]]) -> None:
    service = SimpleNamespace(
        context=Context(VARIABLES, VARIABLES), settings=SimpleNamespace(proposal=1234)
    )
    with pytest.raises(ServiceError, match="'nope'"):
        await Operations(service).reprocess([1], **choice)  # type: ignore[arg-type]


async def _no_runs(_proposal: int) -> dict[int, str]:
    raise LookupError("the choice was accepted")


@pytest.mark.parametrize(
    "context",
    [Context(None), Context([], [{"name": "nope", "title": "Nope"}])],
    ids=["broken", "changed"],
)
async def test_what_may_be_there_is_accepted(context: Context) -> None:
    service = SimpleNamespace(
        context=context, settings=SimpleNamespace(proposal=1234), runs_on_disk=_no_runs
    )
    with pytest.raises(LookupError, match="was accepted"):
        await Operations(service).reprocess([1], variables=["nope"])  # type: ignore[arg-type]
