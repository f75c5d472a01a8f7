"""Events: what a backend is told once work has ended, at least once, and never with a patient's datum.

A webhook is one signed POST an event, as Standard Webhooks has it (https://www.standardwebhooks.com): `webhook-id` is
the event's id, the same in every repeat; `webhook-timestamp` is when it was sent, in Unix seconds; `webhook-signature`
is `v1,` and the base64 of HMAC-SHA256(secret, "id.timestamp.body"), one for each secret in force, so that a secret can
be changed without a gap. The dispatcher of one replica at a time tells everybody; any may die at any moment.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ipaddress
import random
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import SplitResult, urlsplit

import httpx2
import orjson
import structlog
from redis.exceptions import RedisError

from normalizer.errors import Misconfigured, NormalizerError
from normalizer.queue.waiting import raise_if_cancelled

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from normalizer.llm.pricing import ModelStatus
    from normalizer.store import ImportRecord
    from normalizer.store.outbox import Delivery, Event, Outbox


STREAM_EVENTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Refused:
    """The destination has not taken the event: the reason, for operators; `for_good`: it wants nothing more."""

    reason: str
    for_good: bool = False


class Sender(Protocol):
    """One destination: a webhook, a stream."""

    async def send(self, event: Event) -> Refused | None:
        """Send one event, under the same id each time; None when it is taken. Raises nothing but cancellation."""
        ...


def body_of(event: Event) -> bytes:
    """The JSON that is sent: type, when, data. The same bytes each time."""
    at = event.at.isoformat(timespec="milliseconds")
    return orjson.dumps({"type": event.type, "timestamp": at, "data": event.data}, default=_plain)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class StreamSender:
    """A Redis Stream of the newest events: `XREAD` or a consumer group of the backend reads it.

    Args:
        redis: a client; an outage is a refusal, tried again later.
        name: the stream's key.
        length: how many events it keeps, about.
    """

    def __init__(self, redis: Redis, name: str, *, length: int = STREAM_EVENTS) -> None:
        self._redis, self._name, self._length = redis, name, length

    async def send(self, event: Event) -> Refused | None:
        """Append it; fields `id` (for telling repeats) and `body`."""
        fields: Mapping[Any, Any] = {"id": event.id, "type": event.type, "body": body_of(event)}
        try:
            await self._redis.xadd(self._name, dict(fields), maxlen=self._length, approximate=True)
        except Exception as error:  # noqa: BLE001 — whatever Redis has against it, it is tried again
            return Refused(f"Redis: {type(error).__name__}")
        return None


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

    async def send(self, event: Event) -> Refused | None:
        """POST it, and read no more of the answer than its status."""
        try:
            async with asyncio.timeout(self._answer_s):
                return await self._refused_address() or await self._post(event)
        except (TimeoutError, httpx2.TimeoutException):
            return Refused(f"não respondeu em {self._answer_s:.0f} s")
        except httpx2.HTTPError as error:
            return Refused(_connection_problem(error))

    async def _post(self, event: Event) -> Refused | None:
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
                return None
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


log = structlog.get_logger(__name__)

LEADER: Final = "norm:events:leader"
_LANE: Final = "norm:events:lane"
_LEASE_S: Final = 15.0
_FIRST_AGAIN_S: Final = 5.0
_LONGEST_AGAIN_S: Final = 3600.0
_GIVE_UP_AFTER: Final = timedelta(hours=24)
_WARN_AT: Final = 0.8  # as the ledger's own warning
_TRANSIENT: Final = (NormalizerError, RedisError, OSError, TimeoutError)  # LockError is a RedisError


class Dispatcher:
    """Collects, observes and sends, while it leads.

    Args:
        outbox: marks and events.
        senders: destinations by name; the names are stored with each event.
        redis: says who leads; where it is away nobody does, and events wait.
        read_lane: how the model lane stands; None where that is not known.
        every_s: seconds between two looks.
    """

    def __init__(
        self,
        outbox: Outbox,
        senders: Mapping[str, Sender],
        redis: Redis,
        *,
        read_lane: Callable[[], Awaitable[ModelStatus | None]],
        every_s: float = 1.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._outbox, self._senders, self._redis, self._read_lane = outbox, dict(senders), redis, read_lane
        self._every_s, self._clock = every_s, clock
        self._lock = redis.lock(LEADER, timeout=_LEASE_S, thread_local=False)
        self._led_until = 0.0
        self._names = list(self._senders)
        self._gone: set[str] = set()  # asked not to be sent anything more; tried anew by the next process

    async def run(self) -> None:
        """Go on until cancelled; an outage only delays."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(self._lead))
            group.create_task(self._forever(self.collect))
            group.create_task(self._forever(self.observe))
            for name in self._names:
                group.create_task(self._forever(lambda name=name: self.send_next(name)))  # type: ignore[misc]

    async def close(self) -> None:
        """Let another replica lead at once."""
        with contextlib.suppress(*_TRANSIENT):
            await self._lock.release()

    async def collect(self) -> bool:
        """Make events of what is marked; whether there may be more."""
        return await self._outbox.collect(self._names) > 0

    async def observe(self) -> bool:
        """Tell of imports that ended and of the model lane's changes; whether there may be more."""
        for record in await self._outbox.finished_imports():
            await self._tell_import(record, "import.completed")
        for record in await self._outbox.undone_imports():
            await self._tell_import(record, "import.undone")
        await self._observe_lane()
        return False

    async def send_next(self, name: str) -> bool:
        """Send a destination its oldest event, if it is due; whether the next may follow at once."""
        delivery = None if name in self._gone else await self._outbox.next_for(name)
        if delivery is None or delivery.due_at > self._clock():
            return False
        answer = await self._senders[name].send(delivery.event)
        if answer is None:
            await self._outbox.taken(delivery.event.id, name)
        else:
            await self._refused(delivery, name, answer)
        return answer is None

    async def _refused(self, delivery: Delivery, name: str, answer: Refused) -> None:
        event, now = delivery.event, self._clock()
        wait_s = min(_FIRST_AGAIN_S * 2**delivery.tries, _LONGEST_AGAIN_S) * random.uniform(0.8, 1.2)
        due_at = now + timedelta(seconds=wait_s)
        if answer.for_good or due_at - delivery.since > _GIVE_UP_AFTER:
            log.error("event.failed", destination=name, event_id=event.id, type=event.type, reason=answer.reason)
            await self._outbox.give_up(event.id, name, answer.reason)
            self._gone |= {name} if answer.for_good else set()
            return
        tries = delivery.tries + 1
        log.warning("event.delayed", destination=name, event_id=event.id, tries=tries, reason=answer.reason)
        await self._outbox.later(event.id, name, due_at, answer.reason)

    async def _tell_import(self, record: ImportRecord, kind: str) -> None:
        data = {name: getattr(record, name) for name in ("rows", "new", "changed", "problems")}
        await self._outbox.add(kind, {"import_id": record.id, **data}, self._names, once=f"{kind}:{record.id}")
        await self._outbox.told(record.id, kind)

    async def _observe_lane(self) -> None:
        """Compare with what was told last. A replica that leads anew tells a change it did not see begin."""
        lane = await self._read_lane()
        if lane is None or not lane.has_key:
            return
        now, today = self._clock(), f"{self._clock():%Y-%m-%d}"
        spent = {"usd": round(lane.today.usd, 4), "budget_usd": lane.daily_budget_usd}
        share = lane.today.usd / lane.daily_budget_usd if lane.daily_budget_usd else 0.0
        for reached, kind in ((share >= _WARN_AT, "budget.warned"), (share >= 1.0, "budget.paused")):
            if reached:
                await self._outbox.add(kind, {"day": today, **spent}, self._names, once=f"{kind}:{today}")
        stopped = lane.stopped or ""
        before = (await self._redis.get(_LANE) or b"").decode()
        if stopped != before:
            kind = "lane.stopped" if stopped else "lane.resumed"
            data = {"model": lane.model, "reason": stopped or None}
            await self._outbox.add(kind, data, self._names, once=f"{kind}:{now.isoformat(timespec='seconds')}")
            await self._redis.set(_LANE, stopped)

    async def _lead(self) -> bool:
        """Take or renew the lease."""
        began = time.monotonic()
        if self._leads:
            await self._lock.extend(_LEASE_S, replace_ttl=True)
        elif not await self._lock.acquire(blocking=False):
            return False
        self._led_until = began + _LEASE_S
        return False

    async def _forever(self, step: Callable[[], Awaitable[bool]]) -> None:
        leading = step == self._lead
        while True:
            again = False
            try:
                if leading or self._leads:
                    again = await step()
            except _TRANSIENT as error:
                log.warning("events.delayed", error=type(error).__name__)
            except Exception:  # a bug in one step must not end the others, which nobody would start again
                log.exception("events.broke")
            raise_if_cancelled()
            if not again:
                await asyncio.sleep(_LEASE_S / 3 if leading and self._leads else self._every_s)

    @property
    def _leads(self) -> bool:
        return time.monotonic() < self._led_until
