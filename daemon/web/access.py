"""Who asks, and whether they may: the token of a request, and what its role is good for."""

import hmac
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from daemon.web.errors import Refusal
from daemon.web.tokens import AGENT, Caller, Tokens

BEARER = HTTPBearer(auto_error=False, description="a token of `runtable token add`")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]


class Access:
    """The tokens of a folder, and the one that the program prints at its start."""

    def __init__(self, tokens: Tokens, own: str, cookie: str) -> None:
        """`own` is the printed token, `cookie` the name of the cookie that has one."""
        self._tokens = tokens
        self._own = own
        self.cookie = cookie

    def find(self, text: str) -> Caller | None:
        """Whom a token lets in; None when it is none."""
        if hmac.compare_digest(text.encode(errors="replace"), self._own.encode()):
            return Caller("operator", "web")
        return self._tokens.find(text)

    def caller(self, request: Request, bearer: HTTPAuthorizationCredentials | None) -> Caller:
        """Who asks; raises Refusal without a token that is known."""
        text = bearer.credentials if bearer else request.cookies.get(self.cookie)
        if text is None:
            raise Refusal(
                401,
                "no_token",
                "this needs a token: send `Authorization: Bearer TOKEN`, or open the address that "
                "`runtable web` has printed",
            )
        found = self.find(text)
        if found is None:
            raise Refusal(
                401, "unknown_token", "this token is not known, or was revoked: ask for another one"
            )
        return found


def needs(*roles: str) -> Callable[..., Caller]:
    """A dependency that gives the caller, if they may do what one of `roles` may."""

    def caller(request: Request, bearer: Bearer) -> Caller:
        access: Access = request.app.state.access
        found = access.caller(request, bearer)
        if not any(found.may(role) for role in roles):
            raise Refusal(
                403, "forbidden", f"this needs the role {' or '.join(roles)}, not {found.role}"
            )
        return found

    return caller


Viewer = Annotated[Caller, Depends(needs("viewer"))]
Operator = Annotated[Caller, Depends(needs("operator"))]
Anybody = Annotated[Caller, Depends(needs("viewer", AGENT))]
Agent = Annotated[Caller, Depends(needs(AGENT))]


def acting(request: Request, caller: Caller) -> str:
    """Who acts, for the history: the token's name and the host that asked."""
    return f"{caller.name}@{request.client.host if request.client else '?'}"
