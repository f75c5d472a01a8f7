"""Webhook: one signed POST an event, as Standard Webhooks has it (https://www.standardwebhooks.com).

`webhook-id` is the event's id, the same in every repeat; `webhook-timestamp` is when it was sent, in Unix seconds;
`webhook-signature` is `v1,` and the base64 of HMAC-SHA256(secret, "id.timestamp.body"), one for each secret in force,
so that a secret can be changed without a gap.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

import httpx2

from normalizer.errors import Misconfigured
from normalizer.operations.events.senders import Refused, Taken, body_of

if TYPE_CHECKING:
    from normalizer.store.outbox import Event

ANSWER_S: Final = 10.0
_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)  # Standard Webhooks: 24 to 64
_MOST_OF_AN_ANSWER: Final = 64 * 1024  # its status is what counts
_GONE: Final = 410
_MEND_SECRET: Final = "Gere um com: echo whsec_$(openssl rand -base64 32)"  # noqa: S105 — a command, not a secret


class Webhook:
    """One receiver.

    Args:
        url: http or https.
        secrets: keys in force, the newest first.
        allowed_hosts: hosts that may be in a private network; None allows every address.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        url: str,
        secrets: Sequence[bytes],
        *,
        allowed_hosts: Collection[str] | None,
        clock: Callable[[], float] = time.time,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._url, self._secrets, self._allowed, self._clock = url, secrets, allowed_hosts, clock
        self._answer_s = answer_s
        self._client = httpx2.AsyncClient(follow_redirects=False, timeout=answer_s)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def send(self, event: Event) -> Taken | Refused:
        """POST it, and read no more of the answer than its status."""
        try:
            async with asyncio.timeout(self._answer_s):
                if (refused := await self._refused_address()) is not None:
                    return refused
                return await self._post(event)
        except (TimeoutError, httpx2.TimeoutException):
            return Refused(f"não respondeu em {self._answer_s:.0f} s")
        except httpx2.HTTPError as error:
            return Refused(_connection_problem(error))

    async def _post(self, event: Event) -> Taken | Refused:
        body, sent_at = body_of(event), str(int(self._clock()))
        headers = {
            "content-type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": sent_at,
            "webhook-signature": " ".join(signature(key, event.id, sent_at, body) for key in self._secrets),
        }
        async with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
            if answer.is_success:
                await _skim(answer)
                return Taken()
            if answer.status_code == _GONE:
                return Refused("o destino pediu que não se envie mais (410)", for_good=True)
            if answer.is_redirect:
                return Refused(f"redireciona ({answer.status_code}); WEBHOOK_URL deve ser o endereço final")
            return Refused(f"HTTP {answer.status_code}")

    async def _refused_address(self) -> Refused | None:
        """Whether the name leads into a private network now; a name may lead elsewhere than it did at start."""
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        if self._allowed is None or host in self._allowed:
            return None
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
        except OSError:
            return Refused("o nome do host não se resolve")
        if all(ipaddress.ip_address(str(address[4][0]).partition("%")[0]).is_global for address in found):
            return None
        return Refused("o host leva a uma rede privada; permita-o em WEBHOOK_ALLOWED_HOSTS se é seu")


def signature(key: bytes, event_id: str, sent_at: str, body: bytes) -> str:
    """One entry of `webhook-signature`."""
    signed = hmac.new(key, f"{event_id}.{sent_at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def webhook_of(url: str, secret: str | None, *, production: bool, allowed_hosts: str = "") -> Webhook:
    """The receiver that the settings name.

    Raises:
        Misconfigured: the URL or the secret cannot be used; says which and why, without the secret.
    """
    try:
        parts = _address(url.strip())
    except (ValueError, httpx2.InvalidURL):
        fix = "Use por exemplo https://api.exemplo.com.br/webhooks/normalizer."
        raise Misconfigured("WEBHOOK_URL: esperado um endereço http ou https com host.", fix=fix) from None
    if parts.username or parts.password:
        raise Misconfigured("WEBHOOK_URL traz usuário ou senha.", fix="Tire-os: a assinatura prova quem envia.")
    secrets = [_key(one) for one in (secret or "").replace(",", " ").split()]
    if not secrets:
        raise Misconfigured("WEBHOOK_URL pede WEBHOOK_SECRET: sem ele nada se assina.", fix=_MEND_SECRET)
    allowed = {one.strip().lower() for one in allowed_hosts.split(",") if one.strip()}
    return Webhook(url.strip(), secrets, allowed_hosts=allowed if production else None)


def _address(url: str) -> SplitResult:
    """Its parts, if a POST can be sent there. Raises ValueError or InvalidURL."""
    httpx2.URL(url)
    parts = urlsplit(url)
    host = parts.hostname or ""
    host.encode("idna")  # as the look-up of the name does it
    if parts.scheme not in {"http", "https"} or not host or parts.port == 0 or re.search(r"\s", host):
        raise ValueError("no address")
    return parts


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        raise Misconfigured("WEBHOOK_SECRET: esperado whsec_ e base64.", fix=_MEND_SECRET) from None
    if len(key) not in _SECRET_BYTES:
        problem = f"WEBHOOK_SECRET: esperado de 24 a 64 bytes em base64; encontrado {len(key)}."
        raise Misconfigured(problem, fix=_MEND_SECRET)
    return key


async def _skim(answer: httpx2.Response) -> None:
    """Read an ordinary answer to its end, so that its connection can be used again; leave a long one."""
    seen = 0
    async for piece in answer.aiter_raw():
        seen += len(piece)
        if seen > _MOST_OF_AN_ANSWER:
            return


def _connection_problem(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"o certificado não confere ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return "a conexão TLS não se estabelece"
        cause = cause.__cause__ or cause.__context__
    return f"não se conecta ({type(error).__name__})"
