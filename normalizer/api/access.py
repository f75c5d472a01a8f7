"""Who may do what: API keys in a header, or a signed session of the page made from one. Two roles, compared in constant
time. Without any key everything is allowed, to this machine alone.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from normalizer.errors import Misconfigured

COOKIE: Final = "normalizer_sessao"
SESSION_S: Final = 12 * 3600
_SHORTEST_KEY: Final = 16
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Role(IntEnum):
    """A higher one may do all a lower one may."""

    READER = 1
    OPERATOR = 2


class Access:
    """The keys in force.

    Args:
        operators, readers: keys of each role.
        clock: Unix time in seconds.

    Raises:
        Misconfigured: a key is too short to be a secret, or has both roles.
    """

    def __init__(
        self, operators: Sequence[str] = (), readers: Sequence[str] = (), *, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = [(key.encode(), Role.OPERATOR) for key in operators] + [
            (key.encode(), Role.READER) for key in readers
        ]
        self._clock = clock
        if any(len(key) < _SHORTEST_KEY for key, _ in self._keys):
            problem = f"API_KEYS e API_KEYS_READONLY: cada chave precisa de ao menos {_SHORTEST_KEY} caracteres."
            raise Misconfigured(problem, mend="Gere uma com: openssl rand -hex 24")
        if len({key for key, _ in self._keys}) < len(self._keys):
            raise Misconfigured("API_KEYS e API_KEYS_READONLY repetem uma chave.", mend="Dê a cada papel a sua.")

    @property
    def is_open(self) -> bool:
        """Whether no key is set."""
        return not self._keys

    def role_of(self, key: str) -> Role | None:
        """The role of a key; every known key is compared, whichever fits."""
        found = None
        for known, role in self._keys:
            if hmac.compare_digest(known, key.encode()):
                found = role
        return found

    def session(self, key: str) -> str:
        """A cookie's value for this key; it ends with the key itself, or after `SESSION_S`."""
        until = str(int(self._clock()) + SESSION_S)
        return f"{until}.{_signature(key.encode(), until)}"

    def role_of_session(self, value: str) -> Role | None:
        """The role of a session that still holds."""
        until, _, signature = value.partition(".")
        found = None
        for known, role in self._keys:
            if hmac.compare_digest(_signature(known, until).encode(), signature.encode()):
                found = role
        return found if found and until.isdecimal() and int(until) > self._clock() else None


def _signature(key: bytes, until: str) -> str:
    return hmac.new(key, b"normalizer session " + until.encode(), hashlib.sha256).hexdigest()


_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="Uma chave de API_KEYS ou API_KEYS_READONLY.")
_bearer = HTTPBearer(auto_error=False, description="A mesma chave, como Authorization: Bearer.")


def identify(request: Request, key: str | None) -> Role | None:
    """The role behind a request; None when it shows no key, or a wrong one.

    What a browser sends by itself (a session; anything at all where no key is set) is taken from our own pages only.
    """
    access: Access = request.app.state.access
    if key is not None and not access.is_open:
        return access.role_of(key)
    if request.method not in _SAFE and not _is_own_page(request):
        raise HTTPException(403, "Este pedido veio de outro site.")
    if access.is_open:
        if (request.url.hostname or "") not in _LOOPBACK:
            raise HTTPException(403, "Sem API_KEYS, só se atende em localhost.")
        return Role.OPERATOR
    return access.role_of_session(request.cookies.get(COOKIE, ""))


def _is_own_page(request: Request) -> bool:
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site in {"same-origin", "none"}
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _given(
    request: Request,
    header: Annotated[str | None, Security(_header)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Role:
    role = identify(request, header or (bearer.credentials if bearer else None))
    if role is None:
        raise HTTPException(401, "Informe uma chave válida em X-API-Key.", {"WWW-Authenticate": "Bearer"})
    return role


def _operator(role: Annotated[Role, Depends(_given)]) -> Role:
    if role < Role.OPERATOR:
        raise HTTPException(403, "Esta chave é só de leitura.")
    return role


#: Parameter types of path operations.
Reader = Annotated[Role, Depends(_given)]
Operator = Annotated[Role, Depends(_operator)]
