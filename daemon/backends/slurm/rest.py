"""Slurm by its service slurmrestd, over HTTP, in the newest version that both sides know."""

import asyncio
import grp
import os
import pwd
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import httpx

from daemon.backends.configurations.slurm_rest import SlurmRestConfig
from daemon.backends.slurm import rest_shapes as shapes
from daemon.backends.slurm import rest_submission
from daemon.backends.slurm.rest_token import Token
from daemon.backends.slurm.said import is_gone, refusal
from daemon.backends.slurm.scheduler import (
    Later,
    NoAnswer,
    Node,
    NotAsked,
    Partition,
    Reservation,
    SlurmJob,
    Submission,
)
from daemon.backends.slurm.transport import CALL_SECONDS

NEWEST, OLDEST = 46, 36
"""The last numbers of the versions to try with a service that does not list its own."""

_SERVED = re.compile(r"/slurm/(v0\.0\.\d+)/")
_NOT_ACCEPTED = re.compile("authenticat|token|credential", re.IGNORECASE)
_NOTHING_SAID = "Unspecified error"
_NOT_LET_IN = (401, 403)
_MENDS = {
    "WRONG_VERSION_NUMBER": "it may speak http alone: use_http: true",
    "CERTIFICATE_VERIFY_FAILED": "SSL_CERT_FILE names a file with the certificates to trust",
}
"""By what the library for https says."""
_AT_ONCE = 8


class _NoJson(NoAnswer):
    """Somebody else has answered: Slurm has not, and may not even have been asked."""


class Rest:
    """The service that a configuration names."""

    def __init__(
        self,
        config: SlurmRestConfig,
        *,
        seconds: float = CALL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Requests are given up after `seconds`; `clock` tells how old a token is."""
        self._config = config
        self._seconds = seconds
        self._client = httpx.AsyncClient(timeout=seconds)
        self._token = Token(config, self._client, clock=clock)
        self._version = config.version
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def submit(self, submission: Submission) -> str:
        """Queue an array; see `Scheduler`."""
        try:
            version = await self._known_version()
            await self._token.get()
        except NoAnswer as error:
            raise NotAsked(str(error)) from error
        environment = await asyncio.to_thread(_environment, self._config.login)
        content = rest_submission.body(submission, environment, version)
        status, answer = await self._ask("POST", f"slurm/{version}/job/submit", content)
        found = answer.get("job_id") or (answer.get("result") or {}).get("job_id")
        if number := shapes.number(found):
            return str(number)  # it was taken, whatever else there is to say
        said = _errors(answer)
        words = await self._trouble(status, said)
        if status in _NOT_LET_IN or _NOT_ACCEPTED.search(said):
            raise Later(words)
        if not said or (said == _NOTHING_SAID and status >= 500) or await self._token.wrong():
            raise NoAnswer(words)
        raise refusal(said)

    async def jobs(self) -> list[SlurmJob]:
        """All jobs of ours that the controller remembers; see `Scheduler`."""
        return shapes.jobs_of(await self._list("jobs"), self._config.login)

    async def ended(
        self, batch: str, array: str, index: int, number: str | None, begun: float | None
    ) -> SlurmJob | None:
        """What the accounting has on record, where there is one; see `Scheduler`.

        All that the controller itself remembers is among `jobs`.
        """
        version = await self._known_version()
        status, answer = await self._ask("GET", f"slurmdb/{version}/job/{array}_{index}")
        if status >= 400 or _errors(answer):
            return None
        return shapes.recorded(answer.get("jobs") or [], batch, array, index, number, begun)

    async def cancel(self, jobs: Sequence[tuple[str, int]]) -> None:
        """End jobs; see `Scheduler`."""
        version = await self._known_version()
        paths = [f"slurm/{version}/job/{array}_{index}" for array, index in jobs]
        answers = await asyncio.gather(*(self._ask("DELETE", path) for path in paths))
        for status, answer in answers:
            said = _errors(answer)
            if status != 404 and (status >= 400 or said) and not is_gone(said):
                raise NoAnswer(await self._trouble(status, said))

    async def partitions(self) -> list[Partition]:
        """The partitions."""
        return [shapes.partition_of(record) for record in await self._list("partitions")]

    async def nodes(self) -> list[Node]:
        """The nodes."""
        return [shapes.node_of(record) for record in await self._list("nodes")]

    async def reservations(self) -> list[Reservation]:
        """The reservations."""
        now = time.time()
        records = await self._list("reservations")
        return [shapes.reservation_of(record, now) for record in records]

    async def groups(self) -> list[str]:
        """The groups that the user has on this machine: the service does not tell."""
        return await asyncio.to_thread(_groups, self._config.login)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    # Versions

    async def _known_version(self) -> str:
        """The version to speak: as configured, or the newest that the service has."""
        if self._version is None:
            served = await self._served()
            numbers = {shapes.version_number(version): version for version in served}
            # v0.0.39 is neither of the two shapes in everything: it is for want of others.
            good = [n for n in numbers if n >= 40] or [n for n in numbers if n < 39] or [*numbers]
            if not good:
                raise NoAnswer(
                    f"{self._config.url} has no version of slurmrestd that is known here: correct "
                    "host, port and path, or name its version as api_version, as v0.0.40"
                )
            self._version = numbers[max(good)]
        return self._version

    async def _served(self) -> Iterable[str]:
        """The versions that the service lists, or else those that answer."""
        with suppress(_NoJson):  # a proxy may not lead there
            status, answer = await self._ask("GET", "openapi/v3")
            if status in _NOT_LET_IN:
                raise NoAnswer(await self._trouble(status, ""))
            if paths := _SERVED.findall(" ".join(answer.get("paths") or ())):
                return set(paths)
        for last in range(NEWEST, OLDEST - 1, -1):
            with suppress(_NoJson):
                status, _ = await self._ask("GET", f"slurm/v0.0.{last}/ping")
                if status == 200:
                    return [f"v0.0.{last}"]
        return []

    # Requests

    async def _list(self, what: str) -> list[Any]:
        """The records of one kind; none is a list like others."""
        version = await self._known_version()
        status, answer = await self._ask("GET", f"slurm/{version}/{what}")
        said = _errors(answer)
        if status >= 400 or said:
            words = await self._trouble(status, said)
            if status == 404 and self._config.version is None:
                self._version = None  # another version of Slurm may be there by now
            raise NoAnswer(words)
        return list(answer.get(what) or [])

    async def _ask(self, method: str, path: str, content: Any = None) -> tuple[int, dict[str, Any]]:
        """Ask, once more when the token was renewed since; the status and the answer as JSON.

        Raises NoAnswer when there is none in time.
        """
        token = await self._token.get()
        status, answer = await self._once(method, path, content, token)
        refused = status in _NOT_LET_IN or (
            # Which error a bad token makes differs; only reading can be repeated for nothing.
            status >= 500 and (method == "GET" or _NOT_ACCEPTED.search(_errors(answer)))
        )
        if refused and await self._token.another(token):
            status, answer = await self._once(method, path, content, await self._token.get())
        return status, answer

    async def _once(
        self, method: str, path: str, content: Any, token: str
    ) -> tuple[int, dict[str, Any]]:
        url = f"{self._config.url.removesuffix('/slurm')}/{path}"
        headers = {
            "Accept": "application/json",
            "X-SLURM-USER-NAME": self._config.login,
            "X-SLURM-USER-TOKEN": token,
        }
        try:
            async with self._slots, asyncio.timeout(self._seconds):
                answer = await self._client.request(method, url, json=content, headers=headers)
        except (TimeoutError, httpx.TimeoutException):
            raise NoAnswer(f"{url} has not answered within {self._seconds:g} s") from None
        except httpx.HTTPError as error:
            words = f"{url} cannot be reached: {str(error) or type(error).__name__}"
            for said, mend in _MENDS.items():
                if said in words:
                    words += f"; {mend}"
            kind = NotAsked if isinstance(error, httpx.ConnectError) else NoAnswer
            raise kind(words) from None
        found: Any = None
        with suppress(ValueError):  # errors of the server or a proxy may be texts
            found = answer.json()
        if isinstance(found, dict):
            return answer.status_code, found
        if answer.status_code in (*_NOT_LET_IN, 404):
            return answer.status_code, {}
        raise _NoJson(f"{url} {_instead(answer)}")

    async def _trouble(self, status: int, said: str) -> str:
        """What is wrong when `status` was answered, and `said` are the errors; the mend."""
        url, user, place = self._config.url, self._config.login, self._token.place
        wrong = await self._token.wrong()
        if status in _NOT_LET_IN or _NOT_ACCEPTED.search(said):
            why = f" ({wrong})" if wrong else ""
            return f"{url} does not accept the token of {user}{why}: renew what {place} gives"
        if wrong:
            return f"{wrong}: renew what {place} gives ({url} says: {said or status})"
        if said == _NOTHING_SAID:
            return (
                f"{url} gives no reason ({said}): Slurm's controller is away, or does not accept "
                f"the token of {user} that {place} gives"
            )
        if status == 404 and not said:
            return f"{url} does not have what was asked for ({self._version}): HTTP 404"
        return said or f"{url} has answered without a word: HTTP {status}"


def _instead(answer: httpx.Response) -> str:
    """What was answered that is no JSON: a text, or the title of a page."""
    if answer.status_code == 200:
        return "has not answered with JSON: no slurmrestd is there"
    words = f"has answered HTTP {answer.status_code} {answer.reason_phrase}".rstrip()
    if answer.is_redirect:
        return f"{words}, to {answer.headers['Location']}: no slurmrestd is there"
    title = re.search("<title>(.*?)</title>", answer.text, re.IGNORECASE | re.DOTALL)
    text = (title[1] if title else answer.text).strip().partition("\n")[0][:200]
    return f"{words}: {text}" if text and text not in words else words


def _errors(answer: dict[str, Any]) -> str:
    """What is wrong, in one line; nothing when all is well."""
    found = []
    for error in answer.get("errors") or ():
        text = (
            (error.get("error") or error.get("description")) if isinstance(error, dict) else error
        )
        found.append(str(text or "an error without a word"))
    return "; ".join(dict.fromkeys(found))


def _environment(user: str) -> dict[str, str]:
    """Where the job's own begins: there is no login shell that would make one."""
    found = {"PATH": "/usr/local/bin:/usr/bin:/bin", "USER": user, "LOGNAME": user}
    with suppress(KeyError):  # the user is known there, not here
        found["HOME"] = pwd.getpwnam(user).pw_dir
    return found


def _groups(user: str) -> list[str]:
    try:
        found = os.getgrouplist(user, pwd.getpwnam(user).pw_gid)
    except KeyError:
        return []
    names = []
    for number in found:
        with suppress(KeyError):  # a group without a name
            names.append(grp.getgrgid(number).gr_name)
    return names
