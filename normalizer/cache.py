"""Answers given before: a bounded first tier in this process over a second one in Redis, shared by all replicas.

A key is the HMAC of the canonical text (a bare hash of a CPF is reversed in minutes) beside everything the answer
depends on: rules, prompt, model. Values are sealed and bound to their key, so that nobody who merely reaches Redis
reads or writes one. An address is grounded in its text before it is kept, and again before use once the grounding has
changed. Redis being away makes the worker slower, never wrong and never stopped: nothing here raises.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
from cachetools import TTLCache
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from normalizer.domain.address import Address, deduced, grounding_version
from normalizer.domain.address.grounding import violations
from normalizer.domain.appointment import Kind
from normalizer.domain.decision import Decision, Reason, Settled, Undecided
from normalizer.domain.text import fingerprint
from normalizer.queue.connection import OUTAGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from redis.asyncio import Redis

log = structlog.get_logger(__name__)

DAY_S: Final = 86_400.0
_POSITIVE_TTL_S, _NEGATIVE_TTL_S = 90 * DAY_S, 7 * DAY_S
_PAUSE_S: Final = 5.0
PREFIX: Final = "norm"
_SCHEMA: Final = 1
_SEALED: Final = b"\x01"
_ENTRIES_PER_LOOP_TURN: Final = 50  # about 25 ms of grounding before other tasks get their turn
_OWED: Final = 5_000  # answers kept for a Redis that is away; some 3 MB


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a text: its address, or the reason why there is none. Positive iff `address`."""

    address: dict[str, str | None] | None = None
    reason: Reason | None = None
    manual: bool = False
    """A person said so: it never expires, and no machine's answer replaces it."""
    inferred: tuple[str, ...] = ()
    """What of the address its text does not say itself."""

    @classmethod
    def of(cls, decision: Decision[Address]) -> Entry:
        """Return what is worth remembering of a decision."""
        if isinstance(decision, Settled):
            return cls(address=decision.value.as_dict(), inferred=decision.inferred)
        return cls(reason=decision.reason)

    @property
    def decision(self) -> Decision[Address]:
        """The decision that was remembered; raises ValueError if the address is not whole."""
        if self.address is not None:
            return Settled(Address.from_dict(self.address), inferred=self.inferred)
        return Undecided(self.reason or Reason.MODEL_NO_ANSWER)


@dataclass(slots=True)
class CacheStats:
    """Counts since start, for this process."""

    l1_hits: int = 0
    l2_hits: int = 0
    misses: int = 0
    writes: int = 0
    outages: int = 0
    rejected: int = 0
    """Values that were unreadable, forged, or not (or no longer) grounded in their text."""


class Cache:
    """Two tiers of answers, keyed by text.

    Args:
        redis: a client that returns bytes.
        secret: keys the HMAC and seals the values; replicas must share it.
        previous_secret: also accepted for reading, so that a secret can be changed without losing the cache.
        model, prompt_version, rules_version: an answer of another of these is another answer. Rules that ask a postal
            base are another version with each base.
        l1_max_bytes, l1_ttl_s: bounds of the tier in this process; the TTL is how long a correction may go unseen.
        redis_timeout_s: a slower Redis counts as away, and is then left alone for some seconds.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        secret: bytes,
        model: str,
        prompt_version: str,
        rules_version: int | str,
        previous_secret: bytes | None = None,
        l1_max_bytes: int = 32 * 2**20,
        l1_ttl_s: float = 600.0,
        redis_timeout_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._rings = [_Ring(each) for each in (secret, previous_secret) if each]
        self._generation = f"{PREFIX}:c{_SCHEMA}r{rules_version}:{prompt_version}:{model}"
        self._timeout_s, self._clock = redis_timeout_s, clock
        self._away_until = float("-inf")
        self._owed: dict[str, tuple[bytes, int | None]] = {}  # key → sealed value and TTL that Redis has not taken yet
        self._l1: TTLCache[str, Entry] = TTLCache(l1_max_bytes, l1_ttl_s, timer=clock, getsizeof=_size)
        self._stats = CacheStats()

    def mark(self, kind: str, text: str) -> str:
        """Return the keyed hash of a text, the same in all replicas: what may stand for it in a Redis key."""
        return self._rings[0].mark(kind, text)

    def seal(self, name: str, value: bytes) -> bytes:
        """Encrypt something that is kept under a name elsewhere, as answers are here."""
        return self._rings[0].seal(name, value)

    def unseal(self, name: str, value: bytes) -> bytes | None:
        """What was sealed under this name; None where it was not, or by a secret that is no longer known."""
        opened = (ring.open(name, value) for ring in self._rings)
        return next((found for found in opened if found is not None), None)

    async def get_many(self, kind: str, texts: Sequence[str], *, again: bool = False) -> dict[str, Entry]:
        """Return what is known, keyed by the given texts; unknown texts are left out. L1, then one MGET.

        `again`: these were looked up before and counted then, so that hit rates stay true.
        """
        found: dict[str, Entry] = {}
        unknown: dict[str, str] = {}
        for text in dict.fromkeys(texts):
            mark = self._rings[0].mark(kind, text)
            entry = self._l1.get(f"{kind}:{mark}")
            if entry is None:
                unknown[text] = mark
            else:
                found[text] = entry
        shared = await self._from_redis(kind, unknown) if unknown else {}
        if not again:
            self._stats.l1_hits += len(found)
            self._stats.l2_hits += len(shared)
            self._stats.misses += len(unknown) - len(shared)
        return found | shared

    async def put_many(self, kind: str, entries: Mapping[str, Entry]) -> bool:
        """Store entries in both tiers, in one round trip; False when Redis is away. A manual entry wins over any other.

        What Redis cannot take now is written with the next call: an answer that was paid for must reach the others.
        An address that its text does not carry is not kept.
        """
        held = await self._grounded(entries)
        ring = self._rings[0]
        marks = {text: ring.mark(kind, text) for text in held}
        for text, entry in held.items():
            known = self._l1.get(f"{kind}:{marks[text]}")
            if entry.manual or known is None or not known.manual:
                self._keep(kind, marks[text], entry)
        for text, entry in held.items():
            key = self._key(kind, marks[text], manual=entry.manual)
            self._owed[key] = ring.seal(key, _written(entry)), self._ttl_ms(entry)
        return await self._pay()

    async def put_answers(self, answers: Mapping[str, Address | None]) -> bool:
        """Remember what persons said of address texts, None that there is none: equal texts have it from now on."""
        entries = {
            text: Entry(address=answer.as_dict(), manual=True)
            if answer is not None
            else Entry(reason=Reason.ADDRESS_MISSING, manual=True)
            for text, answer in answers.items()
            if text
        }
        return await self.put_many(Kind.ADDRESS, entries)

    async def forget_many(self, kind: str, texts: Sequence[str], *, manual: bool = False) -> None:
        """Forget machine answers, so that the texts are read afresh (`retry --review`); manual ones if asked to."""
        keys = []
        for text in texts:
            mark = self.mark(kind, text)
            known = self._l1.get(f"{kind}:{mark}")
            if known is not None and (manual or not known.manual):
                del self._l1[f"{kind}:{mark}"]
            for said_by_hand in {False, manual}:
                keys += [self._key(kind, ring.mark(kind, text), manual=said_by_hand) for ring in self._rings]
        for key in keys:
            self._owed.pop(key, None)
        if keys:
            await self._ask(self._redis.unlink(*keys))

    def stats(self) -> dict[str, int]:
        """Counts since start, and what the first tier holds now."""
        return asdict(self._stats) | {"l1_entries": len(self._l1), "l1_bytes": int(self._l1.currsize)}

    async def count(self) -> dict[str, int]:
        """Return how many answers Redis holds: of this generation, of older ones, and manual. Raises RedisError."""
        counts = {"current": 0, "older": 0, "manual": 0}
        async for key in self._keys():
            manual, current = f"{PREFIX}:manual:".encode(), f"{self._generation}:".encode()
            counts["manual" if key.startswith(manual) else "current" if key.startswith(current) else "older"] += 1
        return counts

    async def purge(self, *, older_only: bool = False) -> int:
        """Delete machine answers (all, or those of older generations); manual ones stay. Raises RedisError."""
        self._l1.clear()
        removed = 0
        batch: list[bytes] = []
        async for key in self._keys():
            if key.startswith(f"{PREFIX}:manual:".encode()):
                continue
            if older_only and key.startswith(f"{self._generation}:".encode()):
                continue
            batch.append(key)
            if len(batch) == 500:
                removed += await self._redis.unlink(*batch)
                batch.clear()
        return removed + (await self._redis.unlink(*batch) if batch else 0)

    async def _grounded(self, entries: Mapping[str, Entry]) -> dict[str, Entry]:
        held: dict[str, Entry] = {}
        for turn, (text, entry) in enumerate(entries.items(), 1):
            if _holds(text, entry):
                held[text] = entry
            if turn % _ENTRIES_PER_LOOP_TURN == 0:
                await asyncio.sleep(0)
        self._stats.rejected += len(entries) - len(held)
        return held

    async def _pay(self) -> bool:
        """Write what Redis has not taken yet, in one round trip; False when it still does not."""
        owed, self._owed = self._owed, {}
        if not owed:
            return True
        pipe = self._redis.pipeline(transaction=False)
        for key, (value, ttl_ms) in owed.items():
            pipe.set(key, value, px=ttl_ms)
        if await self._ask(pipe.execute()) is not None:
            self._stats.writes += len(owed)
            return True
        self._owed = dict([*owed.items(), *self._owed.items()][-_OWED:])
        return False

    async def _keys(self) -> AsyncIterator[bytes]:
        for pattern in (f"{PREFIX}:c*r*:*", f"{PREFIX}:manual:*"):
            async for key in self._redis.scan_iter(match=pattern, count=1000):
                yield key

    async def _from_redis(self, kind: str, marks: Mapping[str, str]) -> dict[str, Entry]:
        """Look up manual before machine answers, and the current secret before the previous one, in one MGET."""
        await self._pay()
        places = [
            (
                text,
                ring,
                manual,
                self._key(kind, marks[text] if ring is self._rings[0] else ring.mark(kind, text), manual=manual),
            )
            for text in marks
            for manual in (True, False)
            for ring in self._rings
        ]
        values = await self._ask(self._redis.mget([key for *_, key in places]))
        found: dict[str, Entry] = {}
        for (text, ring, manual, key), value in zip(places, values or (), strict=False):
            if value is None or text in found:
                continue
            if len(found) % _ENTRIES_PER_LOOP_TURN == 0:
                await asyncio.sleep(0)
            entry = _read(text, ring.open(key, value), manual=manual)
            if entry is None:
                self._stats.rejected += 1
                continue
            found[text] = entry
            self._keep(kind, marks[text], entry)
        return found

    async def _ask(self, command: Awaitable[Any]) -> Any | None:
        """Await a Redis command; None when Redis is away. After an outage it is left alone for a while."""
        if self._clock() < self._away_until:
            if asyncio.iscoroutine(command):
                command.close()
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                return await command
        except OUTAGE as error:
            self._stats.outages += 1
            self._away_until = self._clock() + _PAUSE_S
            log.warning("cache.redis.away", error=type(error).__name__, pause_s=_PAUSE_S)
            return None

    def _keep(self, kind: str, mark: str, entry: Entry) -> None:
        """Keep addresses only: a reason is forgotten by `retry`, which cannot reach into other processes."""
        if entry.address is None:
            self._l1.pop(f"{kind}:{mark}", None)
            return
        try:
            self._l1[f"{kind}:{mark}"] = entry
        except ValueError:  # larger than the whole tier
            self._l1.pop(f"{kind}:{mark}", None)

    def _key(self, kind: str, mark: str, *, manual: bool) -> str:
        return f"{PREFIX}:manual:{kind}:{mark}" if manual else f"{self._generation}:{kind}:{mark}"

    def _ttl_ms(self, entry: Entry) -> int | None:
        """Jitter, so that what one import learned does not expire in one minute."""
        if entry.manual:
            return None
        ttl_s = _POSITIVE_TTL_S if entry.address is not None else _NEGATIVE_TTL_S
        return max(1, int(1000 * ttl_s * random.uniform(0.9, 1.1)))


class _Ring:
    """The keys derived from one secret: one marks texts, one seals values."""

    def __init__(self, secret: bytes) -> None:
        self._marking = _derive(secret, b"normalizer cache mark")
        self._sealing = AESGCM(_derive(secret, b"normalizer cache seal"))

    def mark(self, kind: str, text: str) -> str:
        return fingerprint(kind, text, secret=self._marking)

    def seal(self, key: str, value: bytes) -> bytes:
        """Bind the value to its key, so that no value can be moved to another text's key."""
        nonce = os.urandom(12)
        return _SEALED + nonce + self._sealing.encrypt(nonce, value, key.encode())

    def open(self, key: str, value: bytes) -> bytes | None:
        if value[:1] != _SEALED or len(value) < 29:
            return None
        try:
            return self._sealing.decrypt(value[1:13], value[13:], key.encode())
        except InvalidTag:
            return None


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=purpose).derive(secret)


def _written(entry: Entry) -> bytes:
    said = {"address": entry.address, "reason": entry.reason, "inferred": entry.inferred}
    return orjson.dumps(said | {"grounded": grounding_version().hex()})


def _read(text: str, value: bytes | None, *, manual: bool) -> Entry | None:
    """What was written; None where it is unreadable, or where the text does not carry it.

    What another version of the grounding let pass is held against the text again, and what the text does not say looked
    for again. `manual` follows from the key that the value lies under and is sealed for.
    """
    if value is None:
        return None
    try:
        stored = orjson.loads(value)
        reason, inferred = stored.get("reason"), tuple(stored.get("inferred", ()))
        entry = Entry(stored.get("address"), Reason(reason) if reason else None, manual, inferred)
        return entry if stored.get("grounded") == grounding_version().hex() else _read_again(text, entry)
    except (ValueError, AttributeError, TypeError):
        return None


def _read_again(text: str, entry: Entry) -> Entry | None:
    if not _holds(text, entry):
        return None
    if entry.address is None or entry.manual:
        return entry
    return replace(entry, inferred=deduced(text, Address.from_dict(entry.address)))


def _holds(text: str, entry: Entry) -> bool:
    """Whether the entry may be used for this text: what a person said, a reason, or an address the text carries."""
    if entry.address is None:
        return entry.reason is not None
    try:
        return entry.manual or not violations(text, Address.from_dict(entry.address))
    except (ValueError, TypeError, AttributeError):
        return False


def _size(entry: Entry) -> int:
    """Bytes an entry takes in this process, roughly: its strings and some 600 bytes of objects around them."""
    return 600 + sum(len(value) for value in (entry.address or {}).values() if value)
