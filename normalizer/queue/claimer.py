"""Claims of a worker from its queues in turn, and the wake-ups that tell an idle one that a claim may bring something.

In turn, so that no queue starves; woken, so that it need not ask. Our producer publishes on the queue's channel. A
stock producer publishes nothing; where the server sends key-space events for sorted sets (`notify-keyspace-events Kz`),
those wake as well. Polling is the net under both.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import ResponseError

from normalizer.errors import TransientError
from normalizer.queue.connection import OUTAGE, is_damage
from normalizer.queue.leases import Claim, ClaimTerms, Leases
from normalizer.queue.waiting import raise_if_cancelled

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from normalizer.queue.leases import Keys

log = structlog.get_logger(__name__)

_NEVER: Final = float("inf")
_REMIND_S: Final = 60.0
_REFILL_AGAIN_MS: Final = 2_000
_LISTEN_S: Final = 10.0  # then redis-py looks whether the connection still lives
_RETRY_S: Final = 1.0
_REFUSED_RETRY_S: Final = 300.0  # the user may not subscribe: polling has to do
#: The first event wakes at once; further ones, e.g. of other workers' claims, at most so often.
_APART_S: Final = 0.02
_ADDS: Final = frozenset({b"zadd", b"zincr"})


@dataclass(slots=True)
class Claimer:
    """Claims from several queues as one worker, from each in its turn."""

    redis: Redis
    queues: InitVar[Sequence[Leases]]
    terms: ClaimTerms  # what stays the same from claim to claim
    #: Puts back what an emptied Redis held and no job brings back; nothing is claimed before it has.
    refill: Callable[[], Awaitable[None]] | None = None
    #: After a claim that brought nothing: when the next job is due; 0 if asking again helps at once.
    wait_s: float = field(default=_NEVER, init=False)
    empty: bool = field(default=False, init=False)  # whether the queues held nothing at all when they were last asked
    paused: bool = field(default=False, init=False)  # whether an operator paused all of them
    #: The queue whose suspects this worker is about to run alone, once its groups have ended.
    isolating: Leases | None = field(default=None, init=False)
    redis_ahead_ms: float = field(default=0.0, init=False)  # Redis's clock before this host's
    _turns: deque[Leases] = field(init=False)
    _doubtful: list[tuple[Leases, str]] = field(default_factory=list, init=False)
    _is_foreigns_turn: bool = field(default=False, init=False)
    _told_at: dict[str, float] = field(default_factory=dict, init=False)
    _problems: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self, queues: Sequence[Leases]) -> None:
        self._turns = deque(queues)

    @property
    def problem(self) -> str | None:
        """What is wrong with a queue that cannot be claimed from, until a claim from it succeeds."""
        return next(iter(self._problems.values()), None)

    async def next(self, slots: int, *, alone: bool, max_items: int | None = None) -> tuple[Leases, Claim] | None:
        """The next claim that brought something, and from where; None if no queue has anything for us now."""
        self.wait_s, found = _NEVER, []
        for _ in range(len(self._turns)):
            leases = self._turns[0]
            self._turns.rotate(-1)
            claim = await self._claim(leases, slots, alone=alone, max_items=max_items)
            if claim.status == "emptied":
                claim = await self._refilled(leases, claim)
            found.append(claim)
            self.isolating = leases if claim.status == "isolate" else None
            if claim.group or claim.stock:
                self.empty = self.paused = False
                return leases, claim
            if self.isolating:
                break
        self.empty = all(claim.status == "empty" and claim.wait_ms < 0 for claim in found)
        self.paused = all(claim.status == "paused" for claim in found)
        waits = [claim.wait_ms for claim in found if claim.status in {"empty", "more"} and claim.wait_ms >= 0]
        self.wait_s = min(waits, default=_NEVER) / 1000
        return None

    async def anything_due(self) -> bool:
        """Whether a claim may bring something: one small command while the queues are empty."""
        self.empty = not await self.redis.exists(*(leases.keys.queue for leases in self._turns))
        if self.empty:
            return False
        if self.paused or self.problem:
            return True
        async with self.redis.pipeline(transaction=False) as pipe:
            for leases in self._turns:
                pipe.zcount(leases.keys.queue, "-inf", int(time.time() * 1000 + self.redis_ahead_ms))
                pipe.exists(leases.keys.quarantine, leases.keys.foreign)  # set aside, with a score in the future
            return any(await pipe.execute(raise_on_error=False))  # an error, too, is for the claim to tell

    async def give_back_doubtful(self) -> None:
        """Give back what claims took whose answer was lost."""
        while self._doubtful:
            leases, token = self._doubtful[-1]
            await leases.abandon([token])
            self._doubtful.pop()

    async def keep_isolating(self) -> None:
        """Tell other workers that this one still waits to run suspects alone, if it does."""
        if self.isolating is not None and not await self.isolating.still_isolating(self.terms):
            self.isolating = None

    async def _claim(self, leases: Leases, slots: int, *, alone: bool, max_items: int | None) -> Claim:
        token = self.terms.token()
        self._is_foreigns_turn = not self._is_foreigns_turn
        try:
            claim = await leases.claim(
                self.terms,
                token=token,
                slots=slots,
                alone=alone,
                max_items=max_items,
                foreign_first=self._is_foreigns_turn,
            )
        except ResponseError as error:
            if not is_damage(error):
                self._doubtful.append((leases, token))
                raise
            self._tell_damage(leases.keys.queue, error)
            return Claim("empty", token)
        except (*OUTAGE, asyncio.CancelledError):
            self._doubtful.append((leases, token))  # it may have been taken all the same
            raise
        if claim.status != "emptied":  # which keeps what kept us from filling it
            self._problems.pop(leases.keys.queue, None)
        if claim.now_ms:
            self.redis_ahead_ms = claim.now_ms - time.time() * 1000
        return claim

    async def _refilled(self, leases: Leases, claim: Claim) -> Claim:
        """Fill the emptied Redis, and come again; later, where that cannot be done now."""
        try:
            if self.refill is not None:
                await self.refill()
        except TransientError as error:
            self._problems[leases.keys.queue] = f"{leases.keys.queue}: {error}"
            return Claim("empty", claim.token, _REFILL_AGAIN_MS)
        for each in self._turns:
            await each.refilled()
        return Claim("more", claim.token, 0)

    def _tell_damage(self, queue: str, error: ResponseError) -> None:
        """A queue that is no sorted set, or keys of ours that are something else: the other queues go on."""
        self._problems[queue] = f"{queue}: {str(error).split(' ', 1)[0]}"
        if time.monotonic() - self._told_at.get(queue, -_NEVER) >= _REMIND_S:
            self._told_at[queue] = time.monotonic()
            fix = f"apague ou renomeie a chave que não é do tipo esperado (TYPE {queue}) ou mude ARQ_QUEUE_NAMES"
            log.error("queue.unusable", queue=queue, error=str(error)[:200], fix=fix)


class Wakeups:
    """Calls `wake` when something may have come into one of the queues."""

    def __init__(self, redis: Redis, queues: Sequence[Keys], wake: Callable[[], None]) -> None:
        self._redis, self._wake = redis, wake
        database = redis.connection_pool.connection_kwargs.get("db", 0)
        self._channels = [keys.wake for keys in queues]
        self._channels += [f"__keyspace@{database}__:{keys.queue}" for keys in queues]
        self._not_before = 0.0
        self._planned = False

    async def listen(self) -> None:
        """Listen until cancelled."""
        while True:
            raise_if_cancelled()
            try:
                await self._listen()
            except ResponseError as error:
                log.info("queue.wakeups.refused", error=type(error).__name__)
                await asyncio.sleep(_REFUSED_RETRY_S)
            except OUTAGE:
                await asyncio.sleep(_RETRY_S)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as events:
            await events.subscribe(*self._channels)
            while True:
                raise_if_cancelled()
                message = await events.get_message(ignore_subscribe_messages=True, timeout=_LISTEN_S)
                if message and (message["channel"].endswith(b":wake") or message["data"] in _ADDS):
                    self._heard()

    def _heard(self) -> None:
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_at(self._not_before, self._now)

    def _now(self) -> None:
        self._planned = False
        self._not_before = asyncio.get_running_loop().time() + _APART_S
        self._wake()
