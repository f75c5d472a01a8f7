"""Errors to Sentry, if asked for: type, place and our event's name, and nothing a patient said.

An exception's message may quote what it choked on, local variables hold it, breadcrumbs and requests carry it: all of
that is dropped here, by naming what may stay. Needs the `sentry` extra; without SENTRY_DSN nothing is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from normalizer.errors import Misconfigured

Report: TypeAlias = Callable[[BaseException, str], None]

_KEPT: Final = ("event_id", "timestamp", "level", "platform", "release", "environment", "sdk", "server_name", "tags")
_FRAME: Final = ("filename", "function", "module", "lineno", "in_app")


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
