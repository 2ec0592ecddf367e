"""The HTTP service does what its description says, for whatever is sent."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from web_fake import FakeLink

from daemon.control import ServiceError
from daemon.store.table import RunsTable
from daemon.web.access import Access
from daemon.web.app import host_names, make_app
from daemon.web.tokens import Tokens

TOKENS = {"operator": "", "agent": ""}


async def make_table(path: Path) -> None:
    table = RunsTable(path, 1234)
    await table.open()
    await table.ensure_run(1234, 7, 1.0, 2.0)
    await table.close()


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("web")
    asyncio.run(make_table(folder / "runs.sqlite"))
    tokens = Tokens(folder)
    for role in TOKENS:
        agent = "gpu-1" if role == "agent" else None
        TOKENS[role] = tokens.add(role, name=role, agent=agent, by="sam", now=1.0)
    link = FakeLink(folder)
    link.answer = ServiceError("there is no job of this id", "unknown_job")
    names = host_names("127.0.0.1", ("testserver",), ())
    app = make_app(link, Access(tokens, "own", "cookie"), tokens, names)  # type: ignore[arg-type]
    return schemathesis.openapi.from_asgi("/api/openapi.json", app)


def test_every_path_answers_as_it_is_described(schema: Any) -> None:
    """With what fits the description; and with what does not, which is refused."""
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        role = "agent" if "/agent/" in operation.path else "operator"
        headers = {"Authorization": f"Bearer {TOKENS[role]}"}
        for mode in GenerationMode:
            check(operation.as_strategy(generation_mode=mode), headers)


def check(cases: SearchStrategy[schemathesis.Case], headers: dict[str, str]) -> None:
    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def answers(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers)

    with suppress(Unsatisfiable):  # nothing that could be sent is wrong
        answers()


def test_what_is_described_needs_a_token_except_for_health(schema: Any) -> None:
    paths = schema.raw_schema["paths"]
    without = [
        path for path, acts in paths.items() for act in acts.values() if "security" not in act
    ]
    assert without == ["/api/health"]
    assert {"/status/{job_id}", "/api/agent/next-job", "/api/ops/queue/cleanup"} <= set(paths)


def test_nothing_is_changed_by_looking(tmp_path: Path, schema: Any) -> None:
    paths = schema.raw_schema["paths"]
    changing = {path for path, acts in paths.items() if "get" in acts and len(acts) > 1}
    # Looked at and announced; looked at and deleted.
    assert changing == {"/api/events", "/api/experiment-config/{file_name}"}
