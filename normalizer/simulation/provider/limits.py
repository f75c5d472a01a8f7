"""Speed, limits and token counts of the simulated provider."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """How fast the provider is and what it allows; 0 = unlimited.

    A call takes `latency_ms` to its first token and then `tokens_per_s`; `spread` is the standard deviation of the
    logarithm of that time (0.3: half of the calls within a fifth of the median, one in twenty 1.6 times as long).
    Without `any_model` it has none but `simulated`. `flex_refused` is the share of calls for the half-price tier that
    it refuses.
    """

    latency_ms: float = 0.0
    tokens_per_s: float = 0.0
    spread: float = 0.0
    rpm: int = 0
    tpm: int = 0
    window_s: float = 60.0
    schema: bool = True
    any_model: bool = True
    flex_refused: float = 0.0
    seed: int = 1


class Window:
    """Requests and tokens of the last `window_s` seconds, as providers count them."""

    def __init__(self, options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        self._options, self._clock = options, clock
        self._seen: deque[tuple[float, int]] = deque()
        self._used = 0

    def admit(self, amount: int) -> float:
        """Take a request of `amount` tokens and return 0, or return the seconds to wait."""
        now = self._clock()
        while self._seen and self._seen[0][0] <= now - self._options.window_s:
            self._used -= self._seen.popleft()[1]
        over_requests = self._options.rpm and len(self._seen) >= self._options.rpm
        over_tokens = self._options.tpm and self._used + amount > self._options.tpm
        if (over_requests or over_tokens) and self._seen:
            return max(0.05, self._seen[0][0] + self._options.window_s - now)
        self._seen.append((now, amount))
        self._used += amount
        return 0.0

    def headers(self) -> dict[str, str]:
        """The `x-ratelimit-*` headers of OpenAI."""
        headers = {}
        for name, limit, used in (
            ("requests", self._options.rpm, len(self._seen)),
            ("tokens", self._options.tpm, self._used),
        ):
            if limit:
                reset_s = self._options.window_s * used / limit
                headers[f"x-ratelimit-limit-{name}"] = str(limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(max(0, limit - used))
                headers[f"x-ratelimit-reset-{name}"] = f"{reset_s:.3f}s"
        return headers
