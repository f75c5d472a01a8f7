"""What the provider's errors mean to a caller: later, in halves, or not at all until the operator acts.

No message repeats a provider's own words: they may quote the request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import openai

from normalizer.errors import (
    BatchRejected,
    NormalizerError,
    ProviderRefused,
    ProviderTooSlow,
    ProviderUnavailable,
    RateLimited,
)

_CHECK_KEY: Final = "Confira OPENAI_API_KEY, o saldo e o modelo (OPENAI_MODEL) e rode `normalizer doctor`."


@contextmanager
def translated() -> Iterator[None]:
    """Raise RateLimited, ProviderTooSlow, another ProviderUnavailable, BatchRejected or ProviderRefused."""
    try:
        yield
    except (TimeoutError, openai.APITimeoutError):
        raise ProviderTooSlow("the provider did not answer in time") from None
    except openai.APIStatusError as error:
        raise status_error(error) from None
    except openai.OpenAIError as error:  # connection, a body that is no answer
        raise ProviderUnavailable(f"no usable answer from the provider ({type(error).__name__})") from None


def status_error(error: openai.APIStatusError) -> NormalizerError:
    """The error of ours that says what to do about this answer."""
    status, code = error.status_code, detail(error, "code")
    wait = _retry_after(error.response.headers)
    if status == 429 and "insufficient_quota" in f"{code} {detail(error, 'type')}":
        return ProviderRefused("O provedor de IA diz que a conta não tem saldo (429).", mend=_CHECK_KEY)
    if status == 429:
        return RateLimited("the provider asks for fewer calls", retry_after_s=wait)
    if status == 403 and _flagged(error):
        return BatchRejected("the provider flagged a text of the batch (403)")
    if status in {401, 402, 403, 404}:
        return ProviderRefused(f"O provedor de IA recusou a chave, a conta ou o modelo ({status}).", mend=_CHECK_KEY)
    if status in {408, 409, 425} or status >= 500:
        return ProviderUnavailable(f"the provider failed ({status})", retry_after_s=wait)
    return _bad_request(status, code)


def _bad_request(status: int, code: str) -> NormalizerError:
    """A request that would fail the same way for every text is the operator's; any other, this batch's."""
    if code in {"unsupported_parameter", "unsupported_value", "unknown_parameter", "model_not_found"}:
        return ProviderRefused(f"O provedor de IA não aceita o pedido ({status}, {code}).", mend=_CHECK_KEY)
    return BatchRejected(f"the provider refused the batch ({status})")


def body_error(problem: Any) -> NormalizerError:
    """The same for an error that came with status 200, as routers send it."""
    code = problem.get("code") if isinstance(problem, dict) else None
    if code == 429:
        return RateLimited("the endpoint behind the router asks for fewer calls")
    if code in {401, 402, 403}:
        return ProviderRefused(f"O provedor de IA recusou a chave ou a conta ({code}).", mend=_CHECK_KEY)
    return ProviderUnavailable("the endpoint behind the router failed")


def detail(error: openai.APIStatusError, name: str) -> str:
    """A field of the error body as text; never the body itself, which may quote the request."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    value = body.get(name) if isinstance(body, dict) else None
    return str(value) if value is not None else ""


def _flagged(error: openai.APIStatusError) -> bool:
    """OpenRouter answers 403 for a flagged input, with the reasons in the metadata: the text's fault, not the key's."""
    return any(word in detail(error, "metadata") for word in ("reasons", "flagged_input"))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `Retry-After` (seconds or a date, RFC 9110 10.2.3)."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.replace(".", "", 1).isdigit():
            return float(value)
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
