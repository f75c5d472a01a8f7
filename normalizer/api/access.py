"""Access: API keys in a header, or a session of the page opened with one. Two roles, compared in constant time.

A request is admitted before a byte of its body is read. Without any key everything is allowed, to this machine alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import secrets
import string
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import structlog
from cachetools import TTLCache
from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from normalizer.api.problems import problem
from normalizer.errors import Misconfigured

if TYPE_CHECKING:
    from fastapi.routing import APIRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

log = structlog.get_logger(__name__)

COOKIE: Final = "normalizer_sessao"
SESSION_S: Final = 12 * 3600
_SESSIONS: Final = 10_000  # open at once; beyond that the oldest ends
_KEY_BITS: Final = 128  # of choice among the characters of its classes: what `openssl rand -hex 16` has
_KEY_VARIETY_BITS: Final = 96  # counting only what was not there before: a random key repeats little
_CLASSES: Final = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
_OTHERS: Final = 32  # printable ASCII characters beside those
_TOLERATED: Final = 10  # wrong keys of one address before it is told to wait
_FORGIVEN_S: Final = 600.0
_ADDRESSES: Final = 10_000
_WAIT_S: Final = 60
_DELAY_S: Final = 0.05  # more with each wrong key of an address
_LONGEST_DELAY_S: Final = 1.0
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: Served to anybody: the page's door, which looks for a session itself, its looks, and whether the process lives.
_OPEN: Final = frozenset({"/", "/revisao", "/entrar", "/health/live", "/health/ready", "/problemas"})
_OPEN_FOLDER: Final = "/static/"


class Role(IntEnum):
    """A higher one may do all a lower one may."""

    READER = 1
    OPERATOR = 2


class Access:
    """The keys in force.

    Args:
        operators, readers: keys of each role.
        clock: monotonic seconds.

    Raises:
        Misconfigured: a key has too little variety to be a secret, or has both roles.
    """

    def __init__(
        self, operators: Sequence[str] = (), readers: Sequence[str] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys = [(key.encode(), Role.OPERATOR) for key in operators] + [
            (key.encode(), Role.READER) for key in readers
        ]
        self._sessions: TTLCache[bytes, Role] = TTLCache(_SESSIONS, SESSION_S, timer=clock)
        self._wrong: TTLCache[str, int] = TTLCache(_ADDRESSES, _FORGIVEN_S, timer=clock)
        if not all(_is_secret(key) for key in [*operators, *readers]):
            refused = f"API_KEYS e API_KEYS_READONLY: cada chave precisa da variedade de {_KEY_BITS} bits sorteados."
            raise Misconfigured(refused, fix="Gere uma com: openssl rand -hex 24")
        if len({key for key, _ in self._keys}) < len(self._keys):
            raise Misconfigured("API_KEYS e API_KEYS_READONLY repetem uma chave.", fix="Dê a cada papel a sua.")

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

    def open_session(self, role: Role) -> str:
        """A cookie's value: random, this role's until it is closed, at most `SESSION_S`."""
        token = secrets.token_urlsafe(32)
        self._sessions[_digest(token)] = role
        return token

    def role_of_session(self, token: str) -> Role | None:
        """The role of a session that still holds."""
        return self._sessions.get(_digest(token))

    def close_session(self, token: str) -> None:
        """The session holds no longer, wherever its cookie was copied to."""
        self._sessions.pop(_digest(token), None)

    def count_wrong_key(self, address: str) -> int:
        """How many wrong keys this address has shown lately, this one included."""
        count = self._wrong.get(address, 0) + 1
        self._wrong[address] = count
        return count


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _is_secret(key: str) -> bool:
    """Whether guessing it takes as many tries as a random key's: enough characters, and not the same repeated."""
    used = set(key)
    choice = sum(len(one) for one in _CLASSES if set(one) & used)
    choice += _OTHERS * bool(used - set("".join(_CLASSES)))
    if used <= set(string.hexdigits):
        choice = 16
    new = len({three for at in range(len(key) - 2) if not _is_run(three := key[at : at + 3])}) + 2
    bits = math.log2(max(choice, 1))
    return len(key) * bits >= _KEY_BITS and new * bits >= _KEY_VARIETY_BITS


def _is_run(three: str) -> bool:
    """Whether they go on in one step, as "aaa", "123" and "cba" do."""
    first, second, third = map(ord, three)
    return second - first == third - second and abs(second - first) <= 1


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
        if (request.url.hostname or "") not in LOOPBACK:
            raise HTTPException(403, "Sem API_KEYS, só se atende em localhost.")
        return Role.OPERATOR
    return access.role_of_session(request.cookies.get(COOKIE, ""))


def _is_own_page(request: Request) -> bool:
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site in {"same-origin", "none"}
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _shown_key(request: Request) -> str | None:
    given = request.headers.get("x-api-key")
    if given is not None:
        return given
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None


class Admission:
    """ASGI middleware: a request with no key or a wrong one is answered before the body of the request is read.

    A right key passes whatever others behind the same proxy have shown: guesses are slowed, operators are not.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on who is admitted, with the role in the request's state."""
        if scope["type"] != "http" or scope["path"] in _OPEN or scope["path"].startswith(_OPEN_FOLDER):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        key = _shown_key(request)
        try:
            role = identify(request, key)
            if role is None:
                await self._refuse(request, key)
        except HTTPException as refused:
            answer = problem(refused.status_code, refused.detail, headers=dict(refused.headers or {}))
            await answer(scope, receive, send)
            return
        request.state.role = role
        await self._app(scope, receive, send)

    async def _refuse(self, request: Request, key: str | None) -> None:
        if key is not None:
            await slow_down(request, self._access)
        raise HTTPException(401, "Informe uma chave válida em X-API-Key.", {"WWW-Authenticate": "Bearer"})


async def slow_down(request: Request, access: Access) -> None:
    """Wait a little longer with each wrong key of an address. Raises 429 from the eleventh in ten minutes on."""
    count = access.count_wrong_key(request.client.host if request.client else "")
    if count > _TOLERATED:
        if count == _TOLERATED + 1:
            log.warning("api.keys.guessed", tolerated=_TOLERATED)
        wait = {"Retry-After": str(_WAIT_S)}
        raise HTTPException(429, "Chaves erradas demais: espere antes de tentar de novo.", wait)
    await asyncio.sleep(min(_LONGEST_DELAY_S, _DELAY_S * count))


async def _given(
    request: Request,
    _shown: Annotated[str | None, Security(_header)],
    _or_shown: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Role:
    """What `Admission` found; the parameters tell the OpenAPI document how a key is shown."""
    role: Role = request.state.role
    return role


async def _operator(role: Annotated[Role, Depends(_given)]) -> Role:
    if role < Role.OPERATOR:
        raise HTTPException(403, "Esta chave é só de leitura.")
    return role


def is_for_operators(route: APIRoute) -> bool:
    """Whether a path operation refuses readers."""
    return any(each.call is _operator for each in route.dependant.dependencies)


def of_app(name: str) -> Any:
    """A dependency: what the app was put together with, under this name."""

    async def found(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(found)


#: Parameter types of path operations.
TheAccess = Annotated[Access, of_app("access")]
Reader = Annotated[Role, Depends(_given)]
Operator = Annotated[Role, Depends(_operator)]
