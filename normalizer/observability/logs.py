"""Logs, and errors to Sentry if asked for: events with counts and ids, never a patient's text, name or document.

stdout belongs to results (`--json`) and to the worker's banner, so every log line goes to stderr: JSON in production,
coloured in a terminal. An exception's message may quote what it choked on, local variables hold it, breadcrumbs and
requests carry it: an exception is told by type and place, and what may go to Sentry is named here. That needs the
`sentry` extra; without SENTRY_DSN nothing of it is imported.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from normalizer.errors import Misconfigured

Report: TypeAlias = Callable[[BaseException, str], None]
_KEPT: Final = ("event_id", "timestamp", "level", "platform", "release", "environment", "sdk", "server_name", "tags")
_FRAME: Final = ("filename", "function", "module", "lineno", "in_app")


def configure_logging(level: str, *, json_lines: bool, report: Report | None = None) -> None:
    """Send structlog and the standard library's loggers through one pipeline to stderr.

    Args:
        level: a standard level name, e.g. "INFO".
        json_lines: one JSON object a line (production) instead of readable text.
        report: also told of each exception that is logged, with the event's name.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if report is None else [partial(_reported, report)]),
        scrubbed,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if json_lines
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "pymongo", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def _reported(report: Report, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if (error := _exception_of(event.get("exc_info"))) is not None:
        report(error, str(event.get("event", "")))
    return event


def _exception_of(info: Any) -> BaseException | None:
    """What `exc_info` stands for, in any of the forms logging takes."""
    if not info:
        return None
    if isinstance(info, BaseException):
        return info
    error = info[1] if isinstance(info, tuple) else sys.exc_info()[1]
    return error if isinstance(error, BaseException) else None


def scrubbed(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Reduce an exception to its type: its message may quote what it choked on, as a driver quotes a document.

    An error whose class sets `quotes_nothing` keeps its sentence, also as the cause of another.
    """
    error = _exception_of(event.pop("exc_info", None))
    if error is not None:
        event["error"] = type(error).__name__
        event["at"] = _innermost_frame(error)
        if (said := _harmless_sentence(error)) is not None:
            event["reason"] = said
    return event


def _harmless_sentence(error: BaseException) -> str | None:
    for said in (error, error.__cause__):
        if getattr(type(said), "quotes_nothing", False):
            return str(said)
    return None


def _innermost_frame(error: BaseException) -> str:
    frames = list(traceback.walk_tb(error.__traceback__))
    return f"{frames[-1][0].f_globals.get('__name__', '?')}:{frames[-1][1]}" if frames else ""


def reporter(dsn: str | None, *, environment: str, release: str, transport: Any = None) -> Report | None:
    """Return `report(error, event_name)`; None without a DSN. Errors that end the process are reported by themselves.

    Args:
        dsn: SENTRY_DSN.
        environment, release: shown there.
        transport: where events go instead of `dsn`'s server.

    Raises:
        Misconfigured: the extra is not installed, or the DSN cannot be used.
    """
    if dsn is None:
        return None
    try:
        import sentry_sdk  # noqa: PLC0415 — only who asks for it needs it
        from sentry_sdk.integrations.excepthook import ExcepthookIntegration  # noqa: PLC0415
        from sentry_sdk.utils import BadDsn  # noqa: PLC0415
    except ImportError:
        raise Misconfigured(
            "SENTRY_DSN pede o extra sentry.", fix="Instale com: pip install 'normalizer[sentry]'"
        ) from None
    try:
        sentry_sdk.init(
            dsn=dsn,
            environment=environment,
            release=release,
            transport=transport,
            default_integrations=False,
            integrations=[ExcepthookIntegration()],
            include_local_variables=False,
            include_source_context=False,
            max_breadcrumbs=0,
            before_send=lambda event, _hint: cleaned(event),  # type: ignore[arg-type,return-value] # its own TypedDict
        )
    except BadDsn:
        raise Misconfigured("SENTRY_DSN não é um endereço do Sentry.", fix="Copie o DSN das configurações.") from None

    def report(error: BaseException, event_name: str) -> None:
        with sentry_sdk.new_scope() as scope:
            scope.set_tag("event", event_name)
            scope.capture_exception(error)

    return report


def cleaned(event: Mapping[str, Any]) -> dict[str, Any]:
    """What of an event may leave: kinds, places, versions."""
    kept = {name: event[name] for name in _KEPT if name in event}
    values = (event.get("exception") or {}).get("values") or []
    kept["exception"] = {"values": [_exception(value) for value in values]}
    return kept


def _exception(value: Mapping[str, Any]) -> dict[str, Any]:
    frames = (value.get("stacktrace") or {}).get("frames") or []
    places = [{name: frame[name] for name in _FRAME if name in frame} for frame in frames]
    return {"type": value.get("type"), "module": value.get("module"), "stacktrace": {"frames": places}}
