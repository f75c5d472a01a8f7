"""The receiver of events: a test event, what came back, and what it did not take."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from normalizer.domain.wording import many
from normalizer.operations.doctor.finding import Finding, good, warning, wrong
from normalizer.operations.events.senders import Refused
from normalizer.runtime import webhook_of_settings
from normalizer.store.outbox import Event

if TYPE_CHECKING:
    from normalizer.settings import Settings
    from normalizer.store import AppointmentStore

AREA: Final = "Eventos"


async def check_receiver(settings: Settings) -> list[Finding]:
    """Send a test event to WEBHOOK_URL; nothing where none is set. Raises Misconfigured like `webhook_of`."""
    if settings.webhook_url is None:
        return []
    webhook = webhook_of_settings(settings)
    try:
        answer = await webhook.send(Event(f"msg_{secrets.token_hex(12)}", "test", datetime.now(UTC), {}))
    finally:
        await webhook.close()
    if isinstance(answer, Refused):
        return [wrong(AREA, f"o evento de teste não foi recebido: {answer.reason}.", "Veja docs/EVENTOS.md.")]
    return [good(AREA, "o destino recebeu um evento de teste")]


async def check_untold(store: AppointmentStore) -> list[Finding]:
    """What no receiver took."""
    untold = await store.outbox().count_failed()
    fix = "Quando o destino voltar: normalizer events --resend"
    return [warning(AREA, f"{many(untold, 'evento')} sem entrega; por quê: normalizer events.", fix)] if untold else []
