"""Traces over OpenTelemetry, if asked for: what a group, a model call and a store write took, in counts.

Off, and nothing imported, without OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. Needs the `otel`
extra. The provider is ours alone, so no other library's spans, which quote queries and requests, go through it; and of
ours only the facts named here leave: numbers, and words of a closed kind. An exception leaves by its type.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from normalizer.errors import Misconfigured

Facts: TypeAlias = dict[str, "int | float | str"]

_NUMBERS: Final = {
    "jobs": "normalizer.jobs",
    "rows": "normalizer.rows",
    "saved": "normalizer.rows.saved",
    "conflicts": "normalizer.rows.conflicts",
    "failed": "normalizer.rows.failed",
    "refused": "normalizer.rows.refused",
    "new": "normalizer.rows.new",
    "changed": "normalizer.rows.changed",
    "records": "normalizer.records",
    "tokens_in": "gen_ai.usage.input_tokens",
    "tokens_out": "gen_ai.usage.output_tokens",
}
_WORDS: Final = {"model": "gen_ai.request.model", "finish": "normalizer.finish", "error": "error.type"}
_LONGEST_WORD: Final = 80
_EXPORT_TIMEOUT_S: Final = 5.0
_LAST_S: Final = 3.0

_tracer: Any = None


def open_tracing(
    endpoint: str | None,
    *,
    headers: str | None = None,
    service: str = "normalizer",
    environment: str = "",
    release: str = "",
    exporter: Any = None,
) -> Callable[[], None]:
    """Begin to trace in this process; returns what ends it and sends the rest. Without an endpoint both do nothing.

    Args:
        endpoint: where traces go over HTTP, `/v1/traces` and all.
        headers: as in OTEL_EXPORTER_OTLP_HEADERS: `name=value,…`.
        service, environment, release: shown there.
        exporter: where spans go instead of `endpoint`.

    Raises:
        Misconfigured: the extra is not installed.
    """
    global _tracer  # noqa: PLW0603 — one tracer a process, as there is one log
    if (endpoint is None and exporter is None) or _tracer is not None:
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.util.re import parse_env_headers  # noqa: PLC0415
    except ImportError:
        raise Misconfigured(
            "OTEL_EXPORTER_OTLP_ENDPOINT pede o extra otel.", fix="Instale com: pip install 'normalizer[otel]'"
        ) from None
    about = {"service.name": service, "service.version": release, "deployment.environment.name": environment}
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    pairs = parse_env_headers(headers, liberal=True) if headers else None
    sent_to = exporter or OTLPSpanExporter(endpoint=endpoint, headers=pairs, timeout=_EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(sent_to))
    _tracer = provider.get_tracer("normalizer", release)

    def close() -> None:
        global _tracer  # noqa: PLW0603
        _tracer = None
        # A collector that is away must not keep a worker from stopping.
        last = threading.Thread(target=provider.shutdown, daemon=True)
        last.start()
        last.join(_LAST_S)

    return close


@contextlib.contextmanager
def span(name: str, *, alone: bool = False, **facts: float | str) -> Iterator[Facts]:
    """Time a block. Yields its facts, to be completed as they are found; those nobody named here stay here.

    Args:
        name: constant, never made of data.
        alone: a trace of its own, not part of the caller's: work done for several callers at once.
        facts: see `_NUMBERS` and `_WORDS`.
    """
    noted: Facts = dict(facts)
    if _tracer is None:
        yield noted
        return
    from opentelemetry.context import Context  # noqa: PLC0415 — only who traces needs it
    from opentelemetry.trace import StatusCode  # noqa: PLC0415

    context = Context() if alone else None
    with _tracer.start_as_current_span(
        name, context=context, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield noted
        except BaseException as error:
            noted["error"] = type(error).__name__
            current.set_status(StatusCode.ERROR)
            raise
        finally:
            current.set_attributes(_attributes(noted))


def _attributes(facts: Facts) -> dict[str, int | float | str]:
    numbers = {
        _NUMBERS[name]: value for name, value in facts.items() if name in _NUMBERS and not isinstance(value, str)
    }
    words = {_WORDS[name]: str(value)[:_LONGEST_WORD] for name, value in facts.items() if name in _WORDS}
    return {**numbers, **words}
