"""The token with which Slurm's service is asked: given, from a portal, or from a program.

It stands in requests alone: no error, no log and no command line has it.
"""

import asyncio
import base64
import json
import re
import shlex
import time
from collections.abc import Callable
from datetime import datetime

import httpx

from daemon.backends.configurations.secrets import Secret, SecretError
from daemon.backends.configurations.slurm_rest import SlurmRestConfig
from daemon.backends.slurm.scheduler import NoAnswer, Refused
from daemon.backends.slurm.transport import ThisMachine

LIFETIME = 86400.0
"""How long a token of a portal or a program is good for at most, in seconds."""

_FRESH_SECONDS = 60.0
"""A token this new is not asked for anew: another one would be refused as well."""
# Programs print it as NAME=token, and files may hold what they print.
_NAMED = re.compile(r"[A-Z_]+=(.*)")
_PLAIN = re.compile(r"[\x21-\x7e]+")


class Token:
    """The token of one configuration."""

    def __init__(
        self,
        config: SlurmRestConfig,
        client: httpx.AsyncClient,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`client` asks the portal, if there is one."""
        self._config = config
        self._client = client
        self._clock = clock
        self._fetching = asyncio.Lock()
        self._fetched: str | None = None
        self._fetched_at = 0.0

    @property
    def place(self) -> str:
        """Where it comes from, for people."""
        config = self._config
        if config.token is not None:
            return str(config.token)
        return str(config.portal_url) if config.portal_token is not None else config.token_command

    async def get(self) -> str:
        """The token as it is now. Raises NoAnswer when there is none to be had at the moment."""
        if self._config.token is not None:
            return self._checked(await self._read(self._config.token))
        async with self._fetching:
            if self._fetched is None or self._clock() - self._fetched_at > LIFETIME / 2:
                portal = self._config.portal_token is not None
                self._fetched = await (self._from_portal() if portal else self._from_program())
                self._fetched_at = self._clock()
            return self._fetched

    async def another(self, refused: str) -> bool:
        """Whether there is another one than `refused`, which the service has not accepted."""
        if self._config.token is None and self._clock() - self._fetched_at > _FRESH_SECONDS:
            self._fetched = None
        return await self.get() != refused

    async def wrong(self) -> str:
        """What the token says by itself that is wrong with it; nothing where it says nothing."""
        return _wrong(await self.get(), self._config.login, time.time())

    async def _read(self, secret: Secret) -> str:
        try:
            return await asyncio.to_thread(secret.read)
        except SecretError as error:
            raise NoAnswer(f"no token for Slurm: {error}") from error

    async def _from_portal(self) -> str:
        secret, url = self._config.portal_token, self._config.portal_url
        assert secret is not None
        assert url is not None
        password = await self._read(secret)
        try:
            answer = await self._client.get(url, auth=(self._config.login, password))
            answer.raise_for_status()
            token = answer.json()["token"]
        except httpx.HTTPStatusError as error:
            words = f"{url} gives {self._config.login} no token: HTTP {error.response.status_code}"
            raise NoAnswer(words) from None
        except httpx.HTTPError as error:
            raise NoAnswer(f"{url} gives no token: {type(error).__name__} {error}") from None
        except (ValueError, KeyError, TypeError):
            raise NoAnswer(f"{url} has not answered with a token") from None
        return self._checked(str(token))

    async def _from_program(self) -> str:
        command = shlex.split(self._config.token_command)
        try:
            done = await ThisMachine().run(command)
        except Refused:
            words = f"{command[0]} is not on PATH: give token, as file:/path, or token_command"
            raise NoAnswer(f"no token for Slurm: {words}") from None
        if done.code != 0:
            lines = done.err.strip().splitlines() or [f"exit code {done.code}"]
            raise NoAnswer(f"{command[0]} gives no token: {lines[-1]}")
        return self._checked(done.out)

    def _checked(self, text: str) -> str:
        text = text.strip()
        if found := _NAMED.fullmatch(text):
            text = found[1]
        if _PLAIN.fullmatch(text) is None:
            raise NoAnswer(f"what {self.place} holds is no token: it must be one word")
        return text


def _wrong(token: str, user: str, now: float) -> str:
    """What is wrong with a token of Slurm for `user`, if it can be read: it is then a JWT."""
    try:
        middle = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        end, owner = float(claims.get("exp", now)), claims.get("sun", user)
    except (ValueError, IndexError, AttributeError, TypeError):
        return ""
    if end < now:
        when = datetime.fromtimestamp(end).astimezone()
        return f"the token of {user} has expired at {when:%Y-%m-%d %H:%M:%S %Z}"
    return "" if owner == user else f"the token is that of {owner}, not of {user}"
