"""Claim, renew and settle jobs: the Lua scripts beside this module, typed.

Who owns a job, and until when others keep off, is told in record.lua. A lease that ran out while nobody else took the
job is still its owner's. Every claim has a token of its own and a `fence`, a number that grows with every claim, also
over a flushed Redis.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from arq.constants import abort_jobs_ss

if TYPE_CHECKING:
    from redis.asyncio import Redis

#: How long arq remembers how often a job was tried (its own figure).
TRY_TTL_S = 88_400
#: How far single jobs move ahead of a bulk import. Also how long an import can be overtaken at most.
HEAD_START_MS = 600_000
#: A row is condemned only after so many crashes, the last one alone; or after MAX_CRASHES in whatever company.
#: Fewer would condemn innocent rows of small groups when an operator kills workers a few times in a row.
MIN_CRASHES = 4
MAX_CRASHES = 12
_KEYS_PER_CALL = 1_000  # Lua's unpack() takes some 8,000 values; and no call may hold up Redis for long
_SWEEP_LIMIT = 20  # groups; the next sweep takes the next


def script(name: str) -> str:
    """The text of `lua/<name>.lua`, with what all scripts share in front."""
    folder = resources.files(__package__).joinpath("lua")
    return "".join(folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("record", name))


@dataclass(frozen=True, slots=True)
class Keys:
    """Our own keys beside arq's, all starting with the queue's name; what they hold is told in record.lua."""

    queue: str
    leases: str
    sizes: str
    claims: str
    suspects: str
    fence: str
    paused: str
    isolating: str
    again: str
    replicas: str

    @classmethod
    def of(cls, queue: str) -> Keys:
        """The keys of one queue."""
        own = ("leases", "sizes", "claims", "suspects", "fence", "paused", "isolating", "again", "replicas")
        return cls(queue, *(f"{queue}:{name}" for name in own))

    def replica(self, worker_id: str) -> str:
        """Where one replica tells how it is."""
        return f"{self.queue}:replica:{worker_id}"


class Kind(StrEnum):
    """What company a claimed group may keep."""

    NORMAL = "normal"
    SUSPECT = "suspect"  # its jobs were in a group that died or failed: half the size
    EXCLUSIVE = "exclusive"  # its jobs saw two crashes or more: this process must run nothing else meanwhile
    DEAD = "dead"  # its jobs are condemned: bury them, do not run them


class Taken(NamedTuple):
    """One job of a claimed group, as it lies in Redis. `tries` is 0 where somebody asked to abort it."""

    job_id: str
    score: float
    tries: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim brought: a group, jobs for stock arq, or why nothing and for how long (`wait_ms`, -1 unknown)."""

    status: Literal["ok", "empty", "linger", "paused", "isolate"]
    token: str
    wait_ms: int = -1
    fence: int = 0
    kind: Kind = Kind.NORMAL
    group: Sequence[Taken] = ()
    stock: Sequence[tuple[str, float]] = ()


@dataclass(slots=True)
class Ending:
    """How one job of a group ends, in the terms of settle.lua."""

    how: Literal["D", "R", "H", "S", "C"]
    result: bytes = b""
    tried: bool = True  # "D": whether earlier tries may have been counted
    result_ms: int | None = None  # None: for ever
    after_ms: int = 0
    place: float = 0.0  # "R", "H": its score before the claim
    limit: int = 0  # "S", "C": the largest group it may join

    def arguments(self) -> tuple[str, bytes | int, int | float]:
        """The three values settle.lua takes after the job's id."""
        if self.how == "D":
            return "E" if self.tried else "D", self.result, 0 if self.result_ms is None else max(1, self.result_ms)
        return self.how, max(0, self.after_ms), self.place if self.how in "RH" else self.limit


@dataclass(slots=True)
class ClaimTerms:
    """What a worker claims by; see claim.lua."""

    worker_id: str
    functions: Sequence[str]
    max_items: int
    linger_ms: int
    lease_ms: int
    stock_ms: int
    heed_aborts: bool
    head_start_ms: int = HEAD_START_MS
    _tokens: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    def token(self) -> str:
        """A token no claim ever had."""
        return f"{self.worker_id}:{next(self._tokens)}"


class Leases:
    """The claim scripts on one queue. A method is one round trip (one per 1,000 jobs) and raises redis-py's errors."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self.keys = redis, keys
        register = redis.register_script
        self._claim, self._renew, self._settle = (register(script(n)) for n in ("claim", "renew", "settle"))
        self._sweep, self._abandon = (register(script(n)) for n in ("sweep", "abandon"))

    async def claim(
        self,
        terms: ClaimTerms,
        *,
        token: str,
        now_ms: int,
        slots: int,
        alone: bool,
        max_items: int | None = None,
        linger: bool = True,
    ) -> Claim:
        """Take one group of due batch jobs, and due jobs of other functions, as far as slots go.

        Args:
            terms: what stays the same from claim to claim.
            token: `terms.token()`; when the call fails, hand it to `abandon` later.
            now_ms: Unix time; what is due is judged by the worker's clock, as in stock arq.
            slots: free places; a group takes one, every job that is not for a batch function takes one.
            alone: whether this worker runs no group now.
            max_items: less than `terms.max_items` now.
            linger: whether a small queue may wait for company.
        """
        k = self.keys
        reply = await self._claim(
            keys=[
                *(k.queue, k.leases, k.sizes, k.claims, k.suspects),
                *(k.fence, k.paused, k.isolating, abort_jobs_ss),
            ],
            args=[
                now_ms,
                terms.lease_ms,
                token,
                terms.worker_id,
                terms.max_items if max_items is None else max_items,
                slots,
                terms.stock_ms,
                terms.linger_ms if linger else 0,
                terms.head_start_ms,
                int(alone),
                int(terms.heed_aborts),
                *terms.functions,
            ],
        )
        return _claim_of(reply, token)

    async def renew(self, token: str, job_ids: Iterable[str], *, lease_ms: int) -> set[str]:
        """Keep others off for another `lease_ms`. Returns the ids that are not this claim's any more."""
        keys = [self.keys.queue, self.keys.leases, self.keys.suspects]
        lost: set[str] = set()
        for chunk in _chunks(list(job_ids)):
            lost.update(map(bytes.decode, await self._renew(keys=keys, args=[lease_ms, token, *chunk])))
        return lost

    async def settle(self, token: str, endings: Mapping[str, Ending], *, now_ms: int, keep_ms: int) -> set[str]:
        """End jobs, each its own way. Returns the ids that were lost; nothing of theirs was changed.

        Args:
            token: of the claim the jobs were taken by.
            endings: job id → how it ends.
            now_ms: Unix time, from which waiting jobs wait.
            keep_ms: how long the payload of a waiting job is kept at least.
        """
        k = self.keys
        keys = [k.queue, k.leases, k.sizes, k.claims, k.suspects, k.again, abort_jobs_ss]
        lost: set[str] = set()
        for chunk in _chunks(list(endings)):
            args: list[Any] = [now_ms, token, keep_ms, TRY_TTL_S]
            for job_id in chunk:
                args.append(job_id)
                args.extend(endings[job_id].arguments())
            reply = await self._settle(keys=keys, args=args)
            lost.update(map(bytes.decode, reply))
        return lost

    async def clock_ms(self) -> int:
        """Redis's own time, Unix ms."""
        seconds, micros = await self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def sweep(self, *, before_ms: float = float("inf")) -> dict[str, int]:
        """Put jobs of dead replicas back. Returns how many jobs by the token they had.

        Does nothing if Redis takes it after `before_ms` (see `clock_ms`): what held it up held up renewals, too.
        """
        k = self.keys
        reply = await self._sweep(
            keys=[k.queue, k.leases, k.sizes, k.claims, k.suspects, k.isolating],
            args=[MIN_CRASHES, MAX_CRASHES, _SWEEP_LIMIT, before_ms],
        )
        return {reply[i].decode(): int(reply[i + 1]) for i in range(0, len(reply), 2)}

    async def still_isolating(self, terms: ClaimTerms) -> bool:
        """Whether this worker is still the one that waits to run suspects alone; says so to the others, too."""
        if await self._redis.get(self.keys.isolating) != f"?{terms.worker_id}".encode():
            return False
        await self._redis.pexpire(self.keys.isolating, 2 * terms.lease_ms)
        return True

    async def abandon(self, tokens: Iterable[str]) -> int:
        """Give back what claims took whose answer was lost. Returns the number of jobs."""
        k = self.keys
        return int(await self._abandon(keys=[k.queue, k.leases, k.sizes, k.claims], args=list(tokens)))


def _claim_of(reply: Sequence[Any], token: str) -> Claim:
    status: Any = reply[0].decode()
    if len(reply) < 3:
        return Claim(status, token, wait_ms=int(reply[1]))
    group, stock = reply[4], reply[5]
    return Claim(
        status,
        token,
        wait_ms=int(reply[1]),
        fence=int(reply[2]),
        kind=Kind(reply[3].decode()),
        group=[
            Taken(group[i].decode(), float(group[i + 1]), int(group[i + 2]), group[i + 3])
            for i in range(0, len(group), 4)
        ],
        stock=[(stock[i].decode(), float(stock[i + 1])) for i in range(0, len(stock), 2)],
    )


def _chunks(items: list[str]) -> Iterable[list[str]]:
    return (items[i : i + _KEYS_PER_CALL] for i in range(0, len(items), _KEYS_PER_CALL))
