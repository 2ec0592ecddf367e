"""What the HTTP service refuses before anything is asked, and the form of every error."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from web_fake import FakeLink

from daemon.control import GoneError, ServiceError
from daemon.web.access import Access
from daemon.web.app import host_names, make_app
from daemon.web.gate import BODY_LIMIT
from daemon.web.tokens import Tokens

OWN = "printed-token"
EVENT = {"run": 1, "data": "raw"}


@pytest.fixture
def link(tmp_path: Path) -> FakeLink:
    return FakeLink(tmp_path)


@pytest.fixture
async def web(link: FakeLink) -> AsyncIterator[httpx.AsyncClient]:
    tokens = Tokens(link.folder)
    names = host_names("127.0.0.1", (), {"node1"})
    app = make_app(link, Access(tokens, OWN, "cookie"), tokens, names)  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:80") as client:
        client.headers["Authorization"] = f"Bearer {OWN}"
        yield client


def code(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"detail", "code"}
    assert isinstance(body["detail"], str)
    return str(body["code"])


@pytest.mark.parametrize("host", ["evil.example", "", "127.0.0.1.evil.example", "node1", "[x"])
async def test_a_name_that_is_not_ours_is_refused(web: httpx.AsyncClient, host: str) -> None:
    answer = await web.get("/api/health", headers={"Host": host})
    assert code(answer, 421) == "wrong_host"


async def test_our_names_are_good_with_any_port(web: httpx.AsyncClient) -> None:
    for host in ("localhost:9000", "127.0.0.1", "[::1]:80", "LOCALHOST", "10.1.2.3:80"):
        assert (await web.get("/api/health", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_pages_of_others_change_nothing(
    web: httpx.AsyncClient, link: FakeLink, headers: dict[str, str]
) -> None:
    answer = await web.post("/api/events", json=EVENT, headers={"Host": "127.0.0.1:80", **headers})
    assert code(answer, 403) == "wrong_origin"
    assert link.asked == []


async def test_our_own_page_may(web: httpx.AsyncClient, link: FakeLink) -> None:
    headers = {"Host": "127.0.0.1:80", "Origin": "http://127.0.0.1:80"}
    assert (await web.post("/api/events", json=EVENT, headers=headers)).status_code == 202
    assert [op for op, _ in link.asked] == ["event"]


async def test_a_body_has_an_end(web: httpx.AsyncClient, link: FakeLink) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(BODY_LIMIT // 1024 + 2):
            yield b" " * 1024

    assert code(await web.post("/api/events", content=endless()), 413) == "too_large"
    stated = {"Content-Length": str(BODY_LIMIT + 1)}
    assert code(await web.post("/api/events", content=b"{}", headers=stated), 413) == "too_large"
    assert link.asked == []


async def test_without_a_token_or_with_a_wrong_one(web: httpx.AsyncClient, link: FakeLink) -> None:
    del web.headers["Authorization"]
    assert code(await web.get("/api/jobs"), 401) == "no_token"
    assert (await web.get("/api/health")).json()["status"] == "ok"
    for wrong in ("x", "rt_00000000_x", OWN + "x"):
        answer = await web.get("/api/jobs", headers={"Authorization": f"Bearer {wrong}"})
        assert code(answer, 401) == "unknown_token"
    assert link.asked == []


async def test_a_role_may_what_it_may(web: httpx.AsyncClient, link: FakeLink) -> None:
    store = Tokens(link.folder)
    link.answer = {"jobs": []}
    for role, looks, acts in (
        ("viewer", 200, 403),
        ("editor", 200, 403),
        ("operator", 200, 202),
        ("agent", 403, 403),
    ):
        agent = "gpu-1" if role == "agent" else None
        text = store.add(role, name=role, agent=agent, by="sam", now=1.0)
        headers = {"Authorization": f"Bearer {text}"}
        assert (await web.get("/api/jobs", headers=headers)).status_code == looks
        assert (await web.post("/api/events", json=EVENT, headers=headers)).status_code == acts


async def test_the_printed_address_leaves_a_cookie_and_no_token_in_the_address(
    web: httpx.AsyncClient,
) -> None:
    del web.headers["Authorization"]
    assert code(await web.get("/", params={"token": "x"}), 401) == "unknown_token"
    assert code(await web.get("/"), 401) == "no_token"
    answer = await web.get("/", headers={"Authorization": f"Bearer {OWN}"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/api/daemon")
    answer = await web.get("/", params={"token": OWN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    web.cookies.set("cookie", OWN)
    assert (await web.get("/api/daemon")).status_code == 200
    web.cookies.set("cookie", "x")
    assert code(await web.get("/api/daemon", params={"token": OWN}), 401) == "unknown_token"


async def test_every_error_has_the_same_form(web: httpx.AsyncClient, link: FakeLink) -> None:
    nowhere, wrong = await web.get("/api/nowhere"), await web.put("/api/jobs")
    assert code(nowhere, 404) == "not_found"
    assert "nothing at /api/nowhere" in nowhere.json()["detail"]
    assert code(wrong, 405) == "method"
    assert wrong.json()["detail"] == "/api/jobs takes GET, not PUT"
    form = await web.post("/api/events", data={"run": "1"})
    assert code(form, 422) == "wrong_form"
    assert "`Content-Type: application/json`" in form.json()["detail"]
    assert code(await web.get("/api/jobs", params={"limit": "x"}), 422) == "wrong_form"
    assert code(await web.post("/api/events", content=b"{"), 422) == "wrong_form"
    assert code(await web.post("/api/events", json={**EVENT, "more": 1}), 422) == "wrong_form"
    assert code(await web.get("/api/runs"), 503) == "no_table"
    for error, status in (
        (GoneError("no daemon: start it"), 503),
        (ServiceError("there is no job x", "unknown_job"), 404),
        (ServiceError("it has ended", "conflict"), 409),
        (ServiceError("no"), 400),
        (RuntimeError("secret /path"), 500),
    ):
        link.answer = error
        answer = await web.get("/api/jobs")
        code(answer, status)
        assert "secret" not in answer.text


@pytest.mark.parametrize("info", ['{"x": NaN}', '{"x": 1e999}', '{"x": "\\ud800"}'])
async def test_what_agents_say_can_be_told_again(
    web: httpx.AsyncClient, link: FakeLink, info: str
) -> None:
    text = Tokens(link.folder).add("agent", name="a", agent="a", by="sam", now=1.0)
    headers = {"Authorization": f"Bearer {text}", "Content-Type": "application/json"}
    body = f'{{"worker_id": "a", "info": {info}}}'
    answer = await web.post("/api/agent/heartbeat", content=body, headers=headers)
    assert code(answer, 422) == "wrong_form"
    assert link.asked == []


def test_beyond_loopback_it_answers_to_the_names_of_the_machine() -> None:
    assert "node1" not in host_names("127.0.0.1", (), {"node1"})
    assert {"node1", "10.0.0.1", "proxy"} <= host_names("10.0.0.1", ("proxy",), {"node1"})
