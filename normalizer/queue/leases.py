"""Claims, leases and settlements of jobs: the Lua scripts beside this module, typed, and what they hand out, read.

Who owns a job, and until when others keep off, is told in record.lua. A lease that ran out while nobody else took the
group is still its owner's. Every claim has a token of its own and a `fence`, a number that grows with every claim, also
over a flushed Redis.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from arq.constants import abort_jobs_ss
from arq.jobs import (
    DeserializationError,
    Deserializer,
    SerializationError,
    Serializer,
    deserialize_job_raw,
    serialize_result,
)
from arq.utils import timestamp_ms

from normalizer.queue.replicas import book_put_back
from normalizer.queue.serializer import MAX_PICKLE_BYTES

if TYPE_CHECKING:
    from redis.asyncio import Redis

#: How long arq remembers how often a job was tried (its own figure).
TRY_TTL_S = 88_400
#: How far single jobs move ahead of a bulk import. Also how long an import can be overtaken at most.
HEAD_START_MS = 600_000
#: A job is declared poison after MIN_CRASHES crashes of its process if it ran alone in the last one, or after
#: MAX_CRASHES in any case. Fewer would condemn innocent rows of small groups when an operator kills workers in a row.
MIN_CRASHES = 4
MAX_CRASHES = 12
_KEYS_PER_CALL = 1_000  # Lua's unpack() takes some 8,000 values; and no call may hold up Redis for long
_SWEPT_PER_CALL = 2  # groups: five hundred jobs take Redis some milliseconds
TOO_LARGE: Final = f"o conteúdo do job tem mais que {MAX_PICKLE_BYTES} bytes; enfileire só o id"
DAMAGED: Final = "as chaves deste job no Redis não são do tipo que o arq grava; apague-as e enfileire de novo"


@cache
def script(name: str) -> str:
    """The text of `lua/<name>.lua`, with what all scripts share in front."""
    folder = resources.files(__package__).joinpath("lua")
    return "".join(folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("record", name))


@dataclass(frozen=True, slots=True)
class Keys:
    """Our own keys beside arq's, all starting with the queue's name; what they hold is told in record.lua."""

    queue: str
    leases: str
    holds: str
    sizes: str
    claims: str
    suspects: str
    quarantine: str
    foreign: str
    fence: str
    paused: str
    quarantine_owner: str
    rerun: str
    wake: str  # a channel

    @classmethod
    def of(cls, queue: str) -> Keys:
        """The keys of one queue."""
        return cls(queue, *(f"{queue}:{name}" for name in cls.__dataclass_fields__ if name != "queue"))


class GroupKind(StrEnum):
    """What may run beside a claimed group."""

    NORMAL = "normal"
    SUSPECT = "suspect"  # its jobs were in a group that died or failed: half the size
    EXCLUSIVE = "exclusive"  # its jobs saw two crashes or more: this process must run nothing else meanwhile
    DEAD = "dead"  # its jobs are condemned: bury them, do not run them


class ClaimedPayload(NamedTuple):
    """One job of a claimed group, as it lies in Redis. `tries` is 0 where somebody asked to abort it."""

    job_id: bytes
    score: float
    tries: int
    payload: bytes  # empty where it was too large to be handed out


class ClaimedJob(NamedTuple):
    """One job of a group. `fence` grows with every claim and guards writes elsewhere.

    `try_` counts from 1; 0 says that somebody asked to abort the job. `score` is its place in the queue, `payload` what
    its producer wrote.
    """

    job_id: str
    function: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    try_: int
    enqueued_at_ms: int
    fence: int
    token: str
    score: float = 0.0
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim brought: a group, jobs for stock arq, or why nothing."""

    #: "more" says to ask again at once, "isolate" to let running groups end first, "emptied" to refill Redis.
    status: Literal["ok", "empty", "more", "paused", "emptied", "isolate"]
    token: str  # of this claim
    wait_ms: int = -1  # until the next job is due; -1 if none is known of
    now_ms: int = 0  # Redis's clock
    fence: int = 0  # number of the claim
    kind: GroupKind = GroupKind.NORMAL  # of the group
    group: Sequence[ClaimedPayload] = ()  # the jobs claimed
    stock: Sequence[tuple[bytes, float]] = ()  # ids and scores of jobs that arq's own `run_job` has to run


class SettleAction(StrEnum):
    """How a job of a group ends; the letters are settle.lua's."""

    FINISH = "D"
    RETRY = "R"
    SNOOZE = "H"
    SPLIT = "S"
    SPLIT_COUNTED = "C"


@dataclass(slots=True)
class JobEnd:
    """One job's end, with what its action takes."""

    action: SettleAction
    counter: str | None = None  # of the worker's: complete, failed or retried
    result: bytes = b""
    tried: bool = True  # FINISH: whether earlier tries may have been counted
    result_ms: int | None = None  # FINISH: None is for ever
    after_ms: int = 0
    score: float = 0.0  # RETRY, SNOOZE: its place in the queue before the claim
    limit: int = 0  # SPLIT…: the largest group it may join

    def arguments(self) -> tuple[str, bytes | int, int | float]:
        """The three values settle.lua takes after the job's id."""
        if self.action is SettleAction.FINISH:
            return "E" if self.tried else "D", self.result, 0 if self.result_ms is None else max(1, self.result_ms)
        is_split = self.action in {SettleAction.SPLIT, SettleAction.SPLIT_COUNTED}
        return self.action.value, max(0, self.after_ms), self.limit if is_split else self.score


@dataclass(slots=True)
class ClaimTerms:
    """What stays the same from claim to claim of a worker; see claim.lua.

    `hold_ms` is how long stock arq workers, which know no leases, keep off a job of a worker that died; `refills` asks
    for "emptied" in place of a first claim.
    """

    worker_id: str
    functions: Sequence[str]
    max_items: int
    lease_ms: int
    hold_ms: int
    stock_ms: int
    heed_aborts: bool
    refills: bool = False
    _tokens: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    def token(self) -> str:
        """A token no claim ever had."""
        return f"{self.worker_id}:{next(self._tokens)}"


class Leases:
    """The claim scripts on one queue. A method is one round trip (one per 1,000 jobs) and raises redis-py's errors."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self.keys = redis, keys
        names = ("claim", "renew", "settle", "sweep", "abandon", "pardon")
        self._scripts = {name: redis.register_script(script(name)) for name in names}
        self._group_keys = [keys.queue, keys.leases, keys.holds, keys.sizes, keys.claims]

    async def claim(
        self,
        terms: ClaimTerms,
        *,
        token: str,
        slots: int,
        alone: bool,
        max_items: int | None = None,
        foreign_first: bool = False,
    ) -> Claim:
        """Take one group of due batch jobs, and due jobs of other functions, as far as slots go.

        Args:
            terms: what stays the same from claim to claim.
            token: `terms.token()`; when the call fails, hand it to `abandon` later.
            slots: free places; a group takes one, every job that is not for a batch function takes one.
            alone: whether this worker runs no group now.
            max_items: less than `terms.max_items` now.
            foreign_first: whether a job of another function that found no slot before goes first.
        """
        k = self.keys
        keys = [k.suspects, k.quarantine, k.foreign, k.fence, k.paused, k.quarantine_owner]
        keys = [*self._group_keys, *keys, abort_jobs_ss]
        most = terms.max_items if max_items is None else max_items
        args: list[Any] = [terms.lease_ms, terms.hold_ms, token, terms.worker_id, most, slots, terms.stock_ms]
        args += [HEAD_START_MS, int(alone), int(terms.heed_aborts), int(foreign_first), MAX_PICKLE_BYTES]
        args += [int(terms.refills), *terms.functions]
        return _claim_of(await self._scripts["claim"](keys=keys, args=args), token)

    async def renew(self, tokens: Sequence[str], *, lease_ms: int, hold_ms: int) -> set[str]:
        """Keep others off these groups for another `lease_ms`. Returns the tokens of groups that are lost."""
        reply = await self._scripts["renew"](keys=self._group_keys, args=[lease_ms, hold_ms, *tokens])
        return set(map(bytes.decode, reply))

    async def pardon(self, token: str, job_ids: Iterable[str]) -> None:
        """Take back the crash booked on a lost group: its worker lives."""
        for chunk in _chunks(list(job_ids)):
            await self._scripts["pardon"](keys=[self.keys.suspects], args=[token, *chunk])

    async def settle(self, token: str, ends: Mapping[str, JobEnd], *, keep_ms: int) -> set[str]:
        """End jobs, each its own way. Returns the ids that were lost; nothing of theirs was changed.

        Args:
            token: of the claim the jobs were taken by.
            ends: job id → how it ends.
            keep_ms: how long the payload of a waiting job is kept at least.
        """
        keys = [*self._group_keys, self.keys.suspects, self.keys.rerun, abort_jobs_ss]
        lost: set[str] = set()
        for chunk in _chunks(list(ends)):
            args: list[Any] = [token, keep_ms, TRY_TTL_S]
            for job_id in chunk:
                args.append(job_id)
                args.extend(ends[job_id].arguments())
            reply = await self._scripts["settle"](keys=keys, args=args)
            lost.update(map(bytes.decode, reply))
        return lost

    async def clock_ms(self) -> int:
        """Redis's own time, Unix ms."""
        seconds, micros = await self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def sweep(self, *, before_ms: float = float("inf")) -> dict[str, int]:
        """Put jobs of a few dead groups back. Returns how many jobs by the token they had; empty if none is dead.

        Does nothing if Redis takes it after `before_ms` (see `clock_ms`): what held it up held up renewals, too.
        """
        k = self.keys
        reply = await self._scripts["sweep"](
            keys=[*self._group_keys, k.suspects, k.quarantine, k.quarantine_owner],
            args=[MIN_CRASHES, MAX_CRASHES, _SWEPT_PER_CALL, before_ms],
        )
        swept = {reply[i].decode(): int(reply[i + 1]) for i in range(0, len(reply), 2)}
        put_back: Counter[str] = Counter()
        for token, jobs in swept.items():
            put_back[token.rpartition(":")[0]] += jobs
        if any(put_back.values()):
            await book_put_back(self._redis, +put_back)
        return swept

    async def still_isolating(self, terms: ClaimTerms) -> bool:
        """Whether this worker is still the one that waits to run suspects alone; says so to the others, too."""
        if await self._redis.get(self.keys.quarantine_owner) != f"?{terms.worker_id}".encode():
            return False
        await self._redis.pexpire(self.keys.quarantine_owner, 2 * terms.lease_ms)
        return True

    async def abandon(self, tokens: Iterable[str]) -> int:
        """Give back what claims took whose answer was lost. Returns the number of jobs."""
        return int(await self._scripts["abandon"](keys=self._group_keys, args=list(tokens)))

    async def refilled(self) -> None:
        """Let claims go on: Redis holds again what it held before it was emptied."""
        await self._redis.set(self.keys.fence, 0, nx=True)

    async def drop(self, job_ids: Iterable[bytes]) -> None:
        """Take entries out of the queue whose id is no text: nobody could run or name them."""
        for job_id in job_ids:
            await self._redis.zrem(self.keys.queue, job_id)
            await self._redis.delete(b"arq:in-progress:" + job_id)


def _claim_of(reply: Sequence[Any], token: str) -> Claim:
    status: Any = reply[0].decode()
    wait_ms, now_ms = int(reply[1]), int(reply[2]) if len(reply) > 2 else 0
    if len(reply) <= 3:
        return Claim(status, token, wait_ms, now_ms)
    kind, group, stock = GroupKind(reply[4].decode()), reply[5], reply[6]
    payloads = [
        ClaimedPayload(group[i], float(group[i + 1]), int(group[i + 2]), group[i + 3]) for i in range(0, len(group), 4)
    ]
    foreign = [(stock[i], float(stock[i + 1])) for i in range(0, len(stock), 2)]
    return Claim(status, token, wait_ms, now_ms, int(reply[3]), kind, payloads, foreign)


def _chunks(items: list[str]) -> Iterable[list[str]]:
    return (items[i : i + _KEYS_PER_CALL] for i in range(0, len(items), _KEYS_PER_CALL))


@dataclass(slots=True)
class ReadClaim:
    """What a claim took."""

    groups: dict[str, list[ClaimedJob]] = field(default_factory=dict)  # by the name of their batch function
    #: Looked like a batch function's, and are arq's to run, or to fail with its reason.
    others: list[ClaimedPayload] = field(default_factory=list)
    stock: list[tuple[str, float]] = field(default_factory=list)  # ids and scores of jobs that arq runs
    damaged: list[bytes] = field(default_factory=list)  # ids that are no text; such jobs cannot be told from outside


def read_claim(claim: Claim, functions: Container[str], deserializer: Deserializer | None) -> ReadClaim:
    """Read what a claim took; `functions` are the batch functions."""
    read = ReadClaim()
    for job_id, score in claim.stock:
        if (name := _text(job_id)) is None:
            read.damaged.append(job_id)
        else:
            read.stock.append((name, score))
    for claimed in claim.group:
        if (name := _text(claimed.job_id)) is None:
            read.damaged.append(claimed.job_id)
        elif (job := _job(name, claim, claimed, deserializer)) is None or job.function not in functions:
            read.others.append(claimed)
        else:
            read.groups.setdefault(job.function, []).append(job)
    return read


def _job(job_id: str, claim: Claim, claimed: ClaimedPayload, deserializer: Deserializer | None) -> ClaimedJob | None:
    try:
        name, args, kwargs, tried, at_ms = deserialize_job_raw(claimed.payload, deserializer=deserializer)
        tries = max(claimed.tries, tried or 0) if claimed.tries else 0
        place = (claim.fence, claim.token, claimed.score, claimed.payload)
        return ClaimedJob(job_id, name, tuple(args), kwargs, tries, at_ms, *place)
    except (SerializationError, TypeError):  # arq fails it, and says why
        return None


def refusal(queue_name: str, job_id: str, why: str, serializer: Serializer | None) -> bytes | None:
    """The result of a job that could not be read."""
    now, error = timestamp_ms(), DeserializationError(why)
    where = (now, now, job_id, queue_name, job_id)
    return serialize_result("<unknown>", (), {}, 1, 0, False, error, *where, serializer=serializer)


def _text(job_id: bytes) -> str | None:
    """The id as arq writes it; None if it is no text."""
    try:
        return job_id.decode()
    except UnicodeDecodeError:
        return None
