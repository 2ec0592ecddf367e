"""Who may use the HTTP service of a folder: tokens with roles, in `tokens.json`.

A token is shown once, when it is made; the file has its digest alone. A token is 256 random bits,
so that a plain digest is enough: there is nothing to guess.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ctxlib.whole_file import write_whole
from daemon.backends.agent_hosts import NAME, NAME_IS

FILE = "tokens.json"
RANKS = {"viewer": 1, "editor": 2, "operator": 3}
"""What people may do: each role what the one before may, and more."""
AGENT = "agent"
ROLES = (*RANKS, AGENT)

Stamp = tuple[int, int, int] | None


class TokenError(Exception):
    """A token cannot be made, found or read; str() says which and what to do."""


@dataclass(frozen=True)
class Caller:
    """Who asks: a role, and a name for the history. `agent` is the one that an agent's token is
    bound to."""

    role: str
    name: str
    agent: str | None = None

    def may(self, role: str) -> bool:
        """Whether this one may do what `role` may."""
        if role == AGENT or self.role == AGENT:
            return self.role == role
        return RANKS[self.role] >= RANKS[role]


@dataclass(frozen=True)
class Token:
    """A token as it is kept: its id, its role and whom it is for, never itself."""

    id: str
    role: str
    name: str
    agent: str | None
    made: float
    by: str
    digest: str

    @property
    def caller(self) -> Caller:
        """Whom it lets in."""
        return Caller(self.role, self.name or self.id, self.agent)


class Tokens:
    """The tokens of one folder. What others change in the file holds at once."""

    def __init__(self, folder: Path) -> None:
        """Keep them in `folder`/tokens.json, which need not be there."""
        self._path = folder / FILE
        self._seen: Stamp = None
        self._known: dict[str, Token] = {}

    def all(self) -> list[Token]:
        """All tokens, the oldest first; raises TokenError when the file cannot be read."""
        return list(self._read().values())

    def add(self, role: str, *, name: str, agent: str | None, by: str, now: float) -> str:
        """Make a token and return it, for this once; raises TokenError.

        `name` says whom it is for, `by` who made it, `now` is in seconds since the epoch.
        """
        if role not in ROLES:
            raise TokenError(f"{role!r} is no role; there are {', '.join(ROLES)}")
        if (role == AGENT) != (agent is not None):
            raise TokenError("a token of an agent is bound to its id, and only such a one is")
        if agent is not None and NAME.fullmatch(agent) is None:
            raise TokenError(f"an agent cannot be called {agent!r}: {NAME_IS}")
        secret = secrets.token_urlsafe(32)
        with self._locked():
            known = self._read()
            while (number := secrets.token_hex(4)) in known:
                pass
            text = f"rt_{number}_{secret}"
            known[number] = Token(number, role, name, agent, now, by, _digest(text))
            self._write(known)
        return text

    def revoke(self, number: str) -> Token:
        """Remove the token with this id, which may be shortened; raises TokenError."""
        with self._locked():
            known = self._read()
            found = [token for token in known.values() if token.id.startswith(number)]
            if number == "" or len(found) != 1:
                what = "several tokens begin with" if number and found else "there is no token"
                raise TokenError(f"{what} {number!r}: `runtable token list` shows them")
            del known[found[0].id]
            self._write(known)
        return found[0]

    def find(self, text: str) -> Caller | None:
        """Whom the token `text` lets in; None when it is none. Raises TokenError."""
        number = text.split("_")[1] if text.count("_") >= 2 else ""
        token = self._read().get(number)
        # Compared in any case, so that an id that is there takes as long as one that is not.
        same = hmac.compare_digest(_digest(text), token.digest if token else _digest(""))
        return token.caller if same and token else None

    def _read(self) -> dict[str, Token]:
        stamp = self._stamp()
        if stamp is None:
            return {}
        if stamp != self._seen:
            try:
                rows = json.loads(self._path.read_bytes())["tokens"]
                self._known = {row["id"]: Token(**row) for row in rows}
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise TokenError(
                    f"{self._path} cannot be read ({error}): mend it, or delete it and make the "
                    "tokens anew with `runtable token add`"
                ) from error
            self._seen = stamp
        return dict(self._known)

    def _stamp(self) -> Stamp:
        try:
            info = self._path.stat()
        except FileNotFoundError:
            return None
        return info.st_mtime_ns, info.st_size, info.st_ino

    def _write(self, tokens: dict[str, Token]) -> None:
        text = json.dumps({"tokens": [asdict(token) for token in tokens.values()]}, indent=1)
        write_whole(self._path, text.encode() + b"\n", mode=0o600, durable=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time; the folder itself is what is locked, as the file is replaced."""
        fd = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
