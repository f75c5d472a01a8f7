"""Every error this package raises on purpose, named by what the caller may do next.

NormalizerError
├── TransientError          try again later, not before `retry_after_s` when it is given
│   ├── RateLimited         the provider (or our own shared limit) said "slower"
│   ├── ProviderUnavailable the provider is down, times out, or its breaker is open
│   ├── StoreUnavailable    MongoDB cannot be reached or refused the write for now
│   └── QueueUnavailable    Redis cannot be reached
├── BatchRejected           the batch as a whole was refused or unreadable: bisect it
├── InvalidInput            this row, file or payload is bad: reject it, keep its neighbours
└── Misconfigured           stop, and tell the operator how to mend it
    └── ProviderRefused     the provider refuses this key or account (401, 402, 403)

A bad row is a value (`normalizer.domain.decision.Undecided`), not an exception: exceptions are for a broken world.
No message may hold a patient's text, name or document.
"""

from __future__ import annotations


class NormalizerError(Exception):
    """Root of every error raised on purpose."""


class TransientError(NormalizerError):
    """The same request may succeed later."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(TransientError):
    """Too many requests or tokens; wait `retry_after_s`."""


class ProviderUnavailable(TransientError):
    """The model provider did not answer usefully."""


class ProviderTooSlow(ProviderUnavailable):
    """The answer did not come in the time of a call: it may have been too large a question."""


class StoreUnavailable(TransientError):
    """MongoDB did not take the request."""


class QueueUnavailable(TransientError):
    """Redis did not take the request."""


class BatchRejected(NormalizerError):
    """The provider refused the batch, or its answer could not be read: ask again in halves."""


class InvalidInput(NormalizerError):
    """Input that can never be used as it is.

    Says where it stands, what was expected, what was found (masked) and how to mend it.
    """

    def __init__(self, *, where: str, expected: str, found: str, mend: str) -> None:
        super().__init__(f"{where}: esperado {expected}; encontrado {found}. {mend}")
        self.where, self.expected, self.found, self.mend = where, expected, found, mend


class Misconfigured(NormalizerError):
    """A setting or a service is wrong; only the operator can mend it."""

    def __init__(self, problem: str, *, mend: str) -> None:
        super().__init__(f"{problem} {mend}")
        self.problem, self.mend = problem, mend


class ProviderRefused(Misconfigured):
    """The provider refuses this key or account: no call may be made until the operator acts."""
