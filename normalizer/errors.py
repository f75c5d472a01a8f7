"""Every error this package raises on purpose, named by what the caller may do next.

NormalizerError
├── TransientError          try again later, not before `retry_after_s` when it is given
│   ├── RateLimited         the provider (or our own shared limit) said "slower"
│   ├── ProviderUnavailable the provider is down, times out, or its breaker is open
│   │   ├── ProviderTooSlow the answer did not come in the time of a call
│   │   └── ProviderFailed  the provider broke on this call: it is down, or cannot take one of the texts
│   ├── StoreUnavailable    MongoDB cannot be reached or refused the write for now
│   └── QueueUnavailable    Redis cannot be reached
│       └── QueueFull       Redis has no room for more jobs: what waits goes first
├── BatchRejected           the call as a whole was refused: ask in halves
│   └── UnusableAnswer      it was answered, and paid for, by something that is no answer
├── InvalidInput            this row, file or payload is bad: reject it, keep its neighbours
└── Misconfigured           stop, and tell the operator how to mend it
    └── ProviderRefused     the provider refuses every call: key, account, model or URL

A bad row is a value (`normalizer.domain.decision.Undecided`), not an exception: exceptions are for a broken world.
No message may hold a patient's text, name or document.
"""

from __future__ import annotations

from typing import Any


class NormalizerError(Exception):
    """Root of every error raised on purpose.

    `usage`: what the model call that raised it used, where it was answered all the same (an `llm` type).
    `said`: the provider's own words. They may quote the request: shown only where the request was made up by us.
    """

    usage: Any = None
    said: str = ""


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


class ProviderFailed(ProviderUnavailable):
    """The provider broke on this call (5xx, or an error in the body of a 200): it is down, or a text breaks it."""


class StoreUnavailable(TransientError):
    """MongoDB did not take the request."""


class QueueUnavailable(TransientError):
    """Redis did not take the request."""


class QueueFull(QueueUnavailable):
    """Redis has no room for more jobs."""


class BatchRejected(NormalizerError):
    """The provider refused the call as a whole: ask again in halves."""


class UnusableAnswer(BatchRejected):
    """The call was answered, and is paid for, but not with an answer. The message names what came, in Portuguese."""


class InvalidInput(NormalizerError):
    """Input that can never be used as it is.

    Says where it stands, what was expected, what was found (masked) and how to mend it; `also` is what else is wrong.
    """

    def __init__(self, *, where: str, expected: str, found: str, fix: str) -> None:
        super().__init__(f"{where}: esperado {expected}; encontrado {found}. {fix}")
        self.where, self.expected, self.found, self.fix = where, expected, found, fix
        self.also: tuple[InvalidInput, ...] = ()


class Misconfigured(NormalizerError):
    """A setting or a service is wrong; only the operator can mend it."""

    def __init__(self, problem: str, *, fix: str) -> None:
        super().__init__(f"{problem} {fix}")
        self.problem, self.fix = problem, fix


class ProviderRefused(Misconfigured):
    """The provider refuses every call (key, account, model, URL): none may be made until the operator acts.

    `retry_after_s`: when one call finds out whether that was done.
    """

    def __init__(self, problem: str, *, fix: str, retry_after_s: float | None = None) -> None:
        super().__init__(problem, fix=fix)
        self.retry_after_s = retry_after_s
