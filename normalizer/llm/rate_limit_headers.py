"""Rate-limit headers of a provider's answer, read. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class RateLimitHeaders:
    """What the provider's `x-ratelimit-*` headers say (OpenAI, "rate limits in headers"); None or 0 = not said."""

    limit_requests: int = 0
    limit_tokens: int = 0
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    reset_requests_s: float = 0.0
    reset_tokens_s: float = 0.0

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> RateLimitHeaders:
        """Read what can be read; a header of another form is ignored."""
        return cls(
            _count(headers.get("x-ratelimit-limit-requests")) or 0,
            _count(headers.get("x-ratelimit-limit-tokens")) or 0,
            _count(headers.get("x-ratelimit-remaining-requests")),
            _count(headers.get("x-ratelimit-remaining-tokens")),
            _seconds(headers.get("x-ratelimit-reset-requests")),
            _seconds(headers.get("x-ratelimit-reset-tokens")),
        )

    def pause_s(self, tokens: int) -> float:
        """Return how long nobody should call, given that the next call takes about `tokens`.

        The reset headers name the time until the whole limit is back; a part of it is back sooner.
        """
        pauses = [0.0]
        if self.remaining_requests == 0:
            pauses.append(self.reset_requests_s / max(1, self.limit_requests))
        if self.remaining_tokens is not None and self.remaining_tokens < tokens and self.limit_tokens:
            missing = min(tokens, self.limit_tokens) - self.remaining_tokens
            pauses.append(self.reset_tokens_s * missing / self.limit_tokens)
        return min(60.0, max(pauses))


def _count(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None


def _seconds(value: str | None) -> float:
    """`6m0s`, `1.5s`, `20ms`, or bare seconds."""
    if value is None:
        return 0.0
    if value.replace(".", "", 1).isdigit():
        return float(value)
    return sum(float(amount) * _UNIT_S[unit] for amount, unit in _DURATION.findall(value))
