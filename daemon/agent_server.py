"""What our agent says to the web interface of a database, and what it hears."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

REQUEST_SECONDS = 30.0


class Refused(Exception):
    """The server has answered with an error."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        """The HTTP status, the code and the words of the answer."""
        self.status = status
        self.code = code
        super().__init__(detail)


class Away(Exception):
    """The server cannot be reached now, or its daemon is away."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirection for an error: the token would go along, to whatever host."""

    def redirect_request(self, *_: Any) -> None:
        """None, so that it is not followed."""


_OPENER = urllib.request.build_opener(_NoRedirects)


class Server:
    """The web interface of a database, for one agent."""

    def __init__(self, url: str, name: str, token: Callable[[], str]) -> None:
        """At `url`; `name` is the agent's."""
        self.url = url
        self._name = name
        self._token = token

    def post(self, path: str, **content: Any) -> dict[str, Any] | None:
        """The answer of an agent's call; None for none. Raises Refused and Away."""
        try:
            token = self._token()
        except (OSError, ValueError) as error:  # it is just being renewed, perhaps
            raise Away(f"the token cannot be read: {error}") from error
        request = urllib.request.Request(
            f"{self.url}/api/agent/{path}",
            data=json.dumps({"worker_id": self._name, **content}).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {token}",
            },
        )
        try:
            with _OPENER.open(request, timeout=REQUEST_SECONDS) as answer:
                body = answer.read()
                return dict(json.loads(body)) if body else None
        except urllib.error.HTTPError as error:
            raise _refused(error) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Away(f"{self.url} cannot be reached: {error}") from error


def _refused(error: urllib.error.HTTPError) -> Exception:
    try:
        said = json.loads(error.read())
        code, detail = str(said["code"]), str(said["detail"])
    except (OSError, ValueError, TypeError, KeyError, http.client.HTTPException):
        code, detail = "", str(error)
    if error.code >= 500 or error.code in (408, 429):
        return Away(detail)
    return Refused(error.code, code, detail)
