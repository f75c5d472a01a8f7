"""Provider errors: what each means to a caller. Later, in halves, or not at all until the operator acts.

No message repeats a provider's own words, because they may quote the request; `said` keeps them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from normalizer.errors import (
    BatchRejected,
    NormalizerError,
    ProviderFailed,
    ProviderRefused,
    ProviderTooSlow,
    ProviderUnavailable,
    RateLimited,
)

if TYPE_CHECKING:
    import openai

FIX: Final = "Confira OPENAI_API_KEY, o saldo, OPENAI_MODEL e OPENAI_BASE_URL, e rode `normalizer doctor`."
_EVERY_TEXTS_CODES: Final = frozenset(
    {"unsupported_parameter", "unsupported_value", "unknown_parameter", "model_not_found", "invalid_model"}
)
# OpenRouter: "x is not a valid model ID"; LiteLLM: "Invalid model name passed in model=x"; Ollama: "model x not found".
_WRONG_MODEL: Final = re.compile(
    r"not a valid model|invalid model|unknown model|no such model|model\b.{0,80}\b(?:not found|does not exist)",
    re.IGNORECASE | re.DOTALL,
)
_LONGEST_WORDS: Final = 160


@contextmanager
def translated() -> Iterator[None]:
    """Raise RateLimited, ProviderTooSlow, another ProviderUnavailable, BatchRejected or ProviderRefused."""
    import openai

    try:
        yield
    except (TimeoutError, openai.APITimeoutError):
        raise ProviderTooSlow("the provider did not answer in time") from None
    except openai.APIStatusError as error:
        raise error_of(error.status_code, body_of(error), error.response.headers) from None
    except openai.OpenAIError as error:  # connection, a body that breaks off
        raise ProviderUnavailable(f"no usable answer from the provider ({type(error).__name__})") from None


def body_of(error: openai.APIStatusError) -> Any:
    """The body of an error answer, as JSON where it is JSON, else as text."""
    return error.body if error.body is not None else error.response.text


def error_of(status: int, body: Any, headers: Mapping[str, str]) -> NormalizerError:
    """The error of ours that says what to do about an answer of this status."""
    error = _classified(status, body, _retry_after(headers))
    error.said = words(body)
    if 300 <= status < 400:
        error.said = f"redireciona para {headers.get('location', 'outro endereço')}"
    return error


def body_error(problem: Any) -> NormalizerError:
    """The same for an error that came with status 200, as routers send it."""
    code = detail(problem, "code")
    if code.isdigit() and 400 <= int(code) < 600:
        return error_of(int(code), problem, {})
    if "rate_limit" in code:
        return error_of(429, problem, {})
    return error_of(400 if _WRONG_MODEL.search(words(problem)) else 500, problem, {})


def _classified(status: int, body: Any, wait_s: float | None) -> NormalizerError:
    code = detail(body, "code")
    if status == 429 and "insufficient_quota" in f"{code} {detail(body, 'type')}":
        return ProviderRefused("O provedor de IA diz que a conta não tem saldo (429).", fix=FIX)
    if status == 429:
        return RateLimited("the provider asks for fewer calls", retry_after_s=wait_s)
    if status in {408, 409, 425}:
        return ProviderUnavailable(f"the provider failed ({status})", retry_after_s=wait_s)
    if status >= 500 and status != 501:
        return ProviderFailed(f"the provider failed ({status})", retry_after_s=wait_s)
    return _refused(status, body, code)


def _refused(status: int, body: Any, code: str) -> NormalizerError:
    """A request that would be refused the same way for every text is the operator's; any other, this call's."""
    if status == 403 and _is_flagged(body):
        return BatchRejected("the provider flagged a text of the batch (403)")
    if status in {401, 402, 403}:
        return ProviderRefused(f"O provedor de IA recusou a chave ou a conta ({status}).", fix=FIX)
    if status < 400 or status in {404, 405, 410, 501}:
        return ProviderRefused(f"O endereço ou o modelo não existe no provedor de IA ({status}).", fix=FIX)
    if code in _EVERY_TEXTS_CODES or _WRONG_MODEL.search(words(body)):
        return ProviderRefused(f"O provedor de IA não aceita o pedido ({status}, {code or 'modelo'}).", fix=FIX)
    return BatchRejected(f"the provider refused the batch ({status})")


def detail(body: Any, name: str) -> str:
    """A field of an error's body as text, empty where there is none."""
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    value = body.get(name) if isinstance(body, dict) else None
    return str(value) if value is not None else ""


def words(body: Any) -> str:
    """The provider's own sentence, on one line and not endless: an error's message, or a text that is no JSON."""
    if isinstance(body, dict):
        said = next(
            (str(body[name]) for name in ("error", "detail", "message") if isinstance(body.get(name), str)),
            detail(body, "message"),
        )
    else:
        said = re.sub(r"<[^>]*>", " ", str(body or ""))
    return " ".join(said.split())[:_LONGEST_WORDS]


def _is_flagged(body: Any) -> bool:
    """OpenRouter answers 403 for a flagged input, with the reasons in the metadata: the text's fault, not the key's."""
    return any(word in detail(body, "metadata") for word in ("reasons", "flagged_input"))


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
