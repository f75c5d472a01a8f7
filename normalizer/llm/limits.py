"""Rate limits, concurrency and breaker of the way to the model: whether a call may start now.

`SharedGate` keeps one rate limit, one pause and one breaker for all replicas in Redis; `LocalGate` is for one process.
A refused start is a value (`Denied`), because the coalescer then packs anew with what arrived meanwhile. A pause is
never longer than `longest_pause_s`, whatever the provider asks, and ends with one call that finds out.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Literal

import structlog

from normalizer.errors import ProviderRefused, ProviderUnavailable, RateLimited, TransientError
from normalizer.llm.answer import RateLimitHeaders
from normalizer.queue.connection import OUTAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from normalizer.llm.client import Answer

log = structlog.get_logger(__name__)

_SCRIPT: Final = (files("normalizer.llm") / "limits.lua").read_text(encoding="utf-8")
_SLOTS: Final = 60
_STANDSTILL: Final = ("not_before", "open_until", "probe_until", "failures", "opened", "refused", "asked", "probe")
_PROBE_S: Final = 70.0
_LONGEST_HOLD_S: Final = 5.0  # nobody is kept waiting for longer: jobs that need no model want the place
_REFUSED_S: Final = 60.0  # before one call finds out whether the operator has mended it; doubles up to four times that
LONGEST_PAUSE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call may start; hand this back when it ended."""

    tokens: int
    slot: str = ""
    is_probe: bool = False  # every call was refused, and this one finds out whether that was mended


@dataclass(frozen=True, slots=True)
class Denied:
    """Not now: try again in `wait_s`. `closed`: not soon, so nobody should hold on waiting for it."""

    wait_s: float
    error: TransientError
    closed: bool = False


class Concurrency:
    """How many calls may be under way: one more after each full round of successes, half after a 429 or a failure.

    What was learned before a rest is old: after one it begins anew, as TCP does (RFC 2861), so that an endpoint that
    changed meanwhile is found out by few calls.
    """

    def __init__(
        self, *, start: int = 4, largest: int = 8, rest_s: float = 15.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._start, self._largest, self._rest_s, self._clock = float(min(start, largest)), largest, rest_s, clock
        self._limit, self._ended_at = self._start, clock()
        self.under_way = 0
        self._changed = asyncio.Event()

    @property
    def limit(self) -> int:
        """Calls that may be under way now."""
        return max(1, int(self._limit))

    async def free(self) -> None:
        """Return once there is a place."""
        while self.under_way >= self.limit:
            self._changed.clear()
            await self._changed.wait()

    def begin(self) -> None:
        """Take a place."""
        if not self.under_way and self._clock() - self._ended_at > self._rest_s:
            self._limit = min(self._limit, self._start)
        self.under_way += 1

    def end(self, *, succeeded: bool | None) -> None:
        """Give the place back; None leaves the limit as it is."""
        self.under_way, self._ended_at = self.under_way - 1, self._clock()
        if succeeded:
            self._limit = min(float(self._largest), self._limit + 1 / self._limit)
        elif succeeded is False:
            self._limit = max(1.0, self._limit / 2)
        self._changed.set()


class LocalGate:
    """Says whether a call may start, and learns from how it ended: adaptive concurrency, pauses, breaker; no Redis.

    Args:
        largest: calls of this process that may be under way at most.
        failures_to_open, open_s: so many failures in a row close the lane for so long, then one call probes.
        longest_pause_s: whatever `Retry-After` or the breaker says, one call probes after this long.
    """

    def __init__(
        self,
        *,
        largest: int = 8,
        failures_to_open: int = 5,
        open_s: float = 15.0,
        longest_pause_s: float = LONGEST_PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._concurrency = Concurrency(largest=largest)
        self._longest_pause_s = longest_pause_s
        self._failures_to_open, self._open_s, self._clock = failures_to_open, open_s, clock
        self._failures = 0
        self._not_before = 0.0
        self._probing = self._refused = False

    async def free(self) -> None:
        """Return once this process may have one more call under way."""
        await self._concurrency.free()

    async def admit(self, tokens: int) -> Admitted | Denied:
        """Ask to start a call expected to take `tokens` (in and out)."""
        wait_s = self._not_before - self._clock()
        is_open = self._failures >= self._failures_to_open
        if is_open and (wait_s > 0 or self._probing):
            return _closed(max(wait_s, 1.0))
        if wait_s > 0:
            return _paused(wait_s)
        self._probing = is_open
        self._concurrency.begin()
        return Admitted(tokens, is_probe=is_open and self._refused)

    async def succeeded(self, call: Admitted, answer: Answer) -> None:
        """The provider answered, whatever it said: close the breaker and let concurrency grow."""
        self._failures, self._probing, self._refused = 0, False, False
        self._concurrency.end(succeeded=True)

    async def failed(self, call: Admitted, error: TransientError | None) -> None:
        """The call brought nothing: pause, halve, and open the breaker after too many failures in a row.

        A 429 is no failure of the provider; None is not its fault at all (a refused batch).
        """
        self._probing = False
        self._concurrency.end(succeeded=None if error is None else False)
        if error is None:
            return
        wait_s = error.retry_after_s
        if not isinstance(error, RateLimited):
            self._failures += 1
            if self._failures >= self._failures_to_open:
                wait_s = max(wait_s or 0.0, self._open_s)
        self._pause(wait_s if wait_s is not None else _backoff_s(self._failures))

    async def refused(self, call: Admitted, error: ProviderRefused) -> None:
        """The provider refuses every call: close, and let an operator see why, until it answers again."""
        self._probing, self._refused = False, True
        self._concurrency.end(succeeded=None)
        self._failures = self._failures_to_open
        error.retry_after_s = min(_REFUSED_S, self._longest_pause_s)
        self._pause(error.retry_after_s)

    def _pause(self, seconds: float) -> None:
        self._not_before = max(self._not_before, self._clock() + min(seconds, self._longest_pause_s))


class SharedGate(LocalGate):
    """One gate for all replicas, in Redis; concurrency is each process's own. Redis away: the process guards itself.

    Args:
        redis: any client; nothing is decoded.
        name: what shares a limit, e.g. endpoint and model. Never the key.
        rpm, tpm: requests and tokens per window, 0 = unlimited; the provider's own headers lower them.
        window_s: the provider's window; counted a sixtieth longer, because calls arrive later than they leave.
        largest, failures_to_open, open_s, longest_pause_s: as of `LocalGate`; `open_s` grows to four times that.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        name: str,
        rpm: int = 0,
        tpm: int = 0,
        window_s: float = 60.0,
        largest: int = 8,
        failures_to_open: int = 5,
        open_s: float = 15.0,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        super().__init__(
            largest=largest, failures_to_open=failures_to_open, open_s=open_s, longest_pause_s=longest_pause_s
        )
        self._script = redis.register_script(_SCRIPT)
        self._key = _gate_key(name)
        self._rpm, self._tpm, self._window_us = rpm, tpm, _us(window_s * (_SLOTS + 1) / _SLOTS)
        self._in_a_row = 0

    async def admit(self, tokens: int) -> Admitted | Denied:
        """Reserve a request and `tokens` for all replicas, or say how long to wait."""
        limits = (self._rpm, self._tpm, tokens, self._window_us, _SLOTS, self._failures_to_open, _us(_PROBE_S))
        if (answer := await self._run("admit", *limits)) is None:
            return await super().admit(tokens)
        verdict, number = answer
        if verdict in {"ok", "probe"}:
            self._concurrency.begin()
            return Admitted(tokens, str(number), verdict == "probe")
        wait_s = number / 1e6 + random.uniform(0, 0.02)
        if verdict == "closed":
            return _closed(wait_s)
        if verdict == "paused":
            return _paused(wait_s)
        return Denied(wait_s, RateLimited("the shared rate limit is used up", retry_after_s=wait_s))

    async def succeeded(self, call: Admitted, answer: Answer) -> None:
        """Give back what the call did not use, obey the provider's headers, close the breaker."""
        self._in_a_row = 0
        if not call.slot:
            await super().succeeded(call, answer)
            return
        self._concurrency.end(succeeded=True)
        used = answer.usage.tokens_in + answer.usage.tokens_out
        stated = RateLimitHeaders.read(answer.headers)
        await self._finish(call, used or call.tokens, "ok", stated.pause_s(call.tokens), stated)

    async def failed(self, call: Admitted, error: TransientError | None) -> None:
        """Give the tokens back (a provider counts the request all the same) and tell all replicas to pause."""
        if not call.slot:
            await super().failed(call, error)
            return
        self._concurrency.end(succeeded=None if error is None else False)
        if error is None:
            await self._finish(call, call.tokens, "none", 0.0)
            return
        self._in_a_row += 1
        outcome = "limited" if isinstance(error, RateLimited) else "down"
        pause_s = error.retry_after_s if error.retry_after_s is not None else _backoff_s(self._in_a_row)
        asked = f"Retry-After de {pause_s:.0f} s" if pause_s > self._longest_pause_s else ""
        await self._finish(call, 0, outcome, min(pause_s, self._longest_pause_s), reason=asked)

    async def refused(self, call: Admitted, error: ProviderRefused) -> None:
        """Close the lane for all replicas; the reason stays where `status` finds it until one of them is answered."""
        if not call.slot:
            await super().refused(call, error)
            return
        self._concurrency.end(succeeded=None)
        error.retry_after_s = min(_REFUSED_S, self._longest_pause_s)
        await self._finish(call, 0, "refused", error.retry_after_s, reason=error.problem)

    async def _finish(
        self,
        call: Admitted,
        used: int,
        outcome: str,
        pause_s: float,
        stated: RateLimitHeaders = RateLimitHeaders(),  # noqa: B008  (frozen)
        reason: str = "",
    ) -> None:
        await self._run(
            "finish",
            call.slot,
            call.tokens,
            used,
            outcome,
            _us(pause_s),
            self._failures_to_open,
            _us(self._open_s),
            stated.limit_requests,
            stated.limit_tokens,
            reason,
            _us(_LONGEST_HOLD_S),
            _us(self._longest_pause_s),
        )

    async def _run(self, *arguments: str | int) -> tuple[str, int] | None:
        """Run the script; None when Redis is away."""
        try:
            async with asyncio.timeout(2.0):
                verdict, number = await self._script(keys=[self._key], args=arguments)
        except OUTAGE as error:
            log.warning("llm.limits.redis_away", error=type(error).__name__)
            return None
        return (verdict.decode() if isinstance(verdict, bytes) else verdict), int(number)


@dataclass(frozen=True, slots=True)
class GateState:
    """What all replicas together know of the way to the model.

    Attributes:
        state: `open` lets calls through, `paused` waits `wait_s` as the provider asked, `closed` is a provider that is
            down (the breaker is open for `wait_s`), `probing` waits for one call to tell whether it is back.
        refused: why the provider refuses every call; None while it does not.
        asked: what the provider asked for, where that is more than it is given.
    """

    state: Literal["open", "paused", "closed", "probing"] = "open"
    wait_s: float = 0.0
    refused: str | None = None
    asked: str | None = None


async def reopen_gate(redis: Redis, name: str) -> None:
    """Forget pauses, breaker and refusal of the `SharedGate` of this `name`: an operator says go. Raises RedisError."""
    await redis.hdel(_gate_key(name), *_STANDSTILL)  # type: ignore[misc] # redis-py's own union


async def read_gate(redis: Redis, name: str, *, failures_to_open: int = 5) -> GateState:
    """Read the state that a `SharedGate` of this `name` keeps. Raises RedisError."""
    pipe = redis.pipeline(transaction=False)
    pipe.time()
    pipe.hmget(_gate_key(name), ["open_until", "not_before", "failures", "refused", "asked"])
    (seconds, micros), found = await pipe.execute()
    opens, resumes, failures = (float(value or 0) for value in found[:3])
    refused, asked = (value.decode() if isinstance(value, bytes) else value for value in found[3:])
    now_us = int(seconds) * 1e6 + int(micros)
    if opens > now_us:
        return GateState("closed", (opens - now_us) / 1e6, refused, asked)
    if failures >= failures_to_open:
        return GateState("probing", 0.0, refused, asked)
    if resumes > now_us:
        return GateState("paused", (resumes - now_us) / 1e6, refused, asked)
    return GateState("open", 0.0, refused)


def _closed(wait_s: float) -> Denied:
    return Denied(wait_s, ProviderUnavailable("the model provider is down", retry_after_s=wait_s), closed=True)


def _paused(wait_s: float) -> Denied:
    error = RateLimited("the provider asked for a pause", retry_after_s=wait_s)
    return Denied(wait_s, error, closed=wait_s > _LONGEST_HOLD_S)


def _gate_key(name: str) -> str:
    return f"norm:limit:{name}"


def _backoff_s(failures: int) -> float:
    return min(10.0, 0.25 * 2.0 ** min(failures, 6)) * random.uniform(0.5, 1.0)


def _us(seconds: float) -> int:
    return max(0, int(seconds * 1e6))
