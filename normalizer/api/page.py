"""The live page: rendered here, brought up to date by one small script that swaps in what is rendered again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from normalizer.api.access import COOKIE, SESSION_S, Operator, Reader, Role, TheAccess, identify, slow_down
from normalizer.api.appointments import (
    AppointmentId,
    Correction,
    KnownAppointment,
    Search,
    apply_correction,
    import_of,
    known_appointment,
)
from normalizer.api.live import Snapshot, TheBackend, TheLive, failures
from normalizer.api.rendering import html, templates
from normalizer.api.sheets import ColumnView, KnownPreview, NewPreview, preview_view
from normalizer.api.uploads import FIRST_LOOK, Patience, Preview, TheUploads
from normalizer.api.views import appointment_detail, appointment_view
from normalizer.domain.address.explain import explain
from normalizer.domain.appointment import Kind, Origin, Status
from normalizer.domain.wording import many, number
from normalizer.errors import TransientError
from normalizer.imports.spreadsheet import LABELS, UnknownColumns
from normalizer.store import Attention, Filter, ImportState, Page

_ROWS: Final = 15
_LOOK: Final = 0.2  # of the API's patience, before the page is told how far a preview is
_IN_API: Final = {"busca": "id_contem"}

router = APIRouter(include_in_schema=False)


async def chosen_filter(
    status: Annotated[str, Query(max_length=20)] = "",
    origem: Annotated[str, Query(max_length=20)] = "",
    causa: Annotated[str, Query(max_length=200)] = "",
    busca: Annotated[str, Query(max_length=200)] = "",
    conferir: Annotated[str, Query(max_length=20)] = "",
) -> Filter:
    """What the page's form asks for; a word it does not know asks for nothing."""
    return Filter(
        status=Status(status) if status in set(Status) else None,
        origin=Origin(origem) if origem in set(Origin) else None,
        cause=causa or None,
        part=busca.strip() or None,
        attention=Attention(conferir) if conferir in set(Attention) else None,
    )


Chosen = Annotated[Filter, Depends(chosen_filter)]


@router.get("/", response_class=HTMLResponse)
async def home(request: Request, backend: TheBackend, live: TheLive, uploads: TheUploads, chosen: Chosen) -> Response:
    """The page, or the door to it; it comes up whatever does not answer, and says so."""
    role = request.state.role = identify(request, None)
    if role is None:
        return html(request, "entrar.html")
    snapshot = await live.now()
    try:
        shown = await _table(backend, chosen, 1)
    except TransientError as error:
        shown = _shown(chosen, Page((), 0), 1) | {"away": str(error)}
    context = _panel(snapshot, role) | shown
    return html(request, "pagina.html", **context, most_bytes=uploads.limits.file_bytes)


@router.post("/entrar")
async def enter(request: Request, access: TheAccess) -> Response:
    """A key for a session."""
    if "x-www-form-urlencoded" not in request.headers.get("content-type", ""):
        raise HTTPException(415, "Envie o formulário.")
    identify(request, None)  # a form of another site is refused
    try:
        form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=5)
    except ValueError:
        raise HTTPException(422, "O formulário tem campos demais.") from None
    role = access.role_of(form.get("chave", [""])[0].strip())
    if access.is_open or role is None:
        await slow_down(request, access)
        return html(request, "entrar.html", 401, wrong=True)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(
        COOKIE,
        access.open_session(role),
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=_came_by_https(request),
        path="/",
    )
    return answer


def _came_by_https(request: Request) -> bool:
    """Whether the browser's own connection was encrypted: proxies name it first in a list (RFC 7239, and before it)."""
    first = request.headers.get("x-forwarded-proto", "").split(",")[0]
    forwarded = request.headers.get("forwarded", "").split(",")[0].lower()
    return "https" in (request.url.scheme, first.strip().lower()) or "proto=https" in forwarded.replace('"', "")


@router.post("/sair")
async def leave(request: Request, _: Reader, access: TheAccess) -> Response:
    """End the session, in this browser and in any copy of its cookie."""
    access.close_session(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


@router.get("/pagina/eventos", response_class=EventSourceResponse)
async def events(role: Reader, live: TheLive) -> AsyncIterable[ServerSentEvent]:
    """The panel again, whenever it was read again."""
    async for snapshot in live.watch():
        yield live.once(snapshot, role, partial(_panel_event, role=role))


def _panel_event(snapshot: Snapshot, *, role: Role) -> ServerSentEvent:
    panel = templates.get_template("painel.html").render(_panel(snapshot, role))
    told = {"busy": _busy(snapshot), "mark": _mark(snapshot), "trouble": snapshot.trouble, "said": _outcome(snapshot)}
    shown = {"html": panel, **told}
    return ServerSentEvent(event="painel", raw_data=json.dumps(shown, ensure_ascii=False))


@router.get("/pagina/tabela", response_class=HTMLResponse)
async def table(
    request: Request,
    _: Reader,
    backend: TheBackend,
    chosen: Chosen,
    pagina: Annotated[int, Query(ge=1, le=500)] = 1,
) -> Response:
    """The table of appointments."""
    return html(request, "tabela.html", **await _table(backend, chosen, pagina))


@router.post("/pagina/busca", response_class=HTMLResponse)
async def search(request: Request, wanted: Search, _: Operator, backend: TheBackend, chosen: Chosen) -> Response:
    """The table of a patient's appointments; the name is in the body, so that it stands in no address and no log."""
    return html(request, "tabela.html", **await _table(backend, replace(chosen, patient=wanted.paciente), 1))


@router.get("/pagina/agendamentos/{appointment_id}", response_class=HTMLResponse)
async def row(request: Request, _: Reader, found: KnownAppointment) -> Response:
    """One row of the table."""
    return html(request, "linha.html", one=appointment_view(found, clear=False))


@router.get("/pagina/agendamentos/{appointment_id}/corrigir", response_class=HTMLResponse)
async def correction(request: Request, _: Operator, found: KnownAppointment, backend: TheBackend) -> Response:
    """The form to correct one appointment, with its texts in full: a document is corrected by reading it."""
    one = appointment_detail(found, await import_of(backend, found), clear=True)
    reading = explain(found.texts[Kind.ADDRESS].text)
    return html(request, "corrigir.html", one=one, reading=reading)


@router.patch("/pagina/agendamentos/{appointment_id}", response_class=HTMLResponse)
async def correct(
    request: Request, appointment_id: AppointmentId, wanted: Correction, _: Operator, backend: TheBackend
) -> Response:
    """Correct, and answer with the row as it is now."""
    after = await apply_correction(backend, await known_appointment(backend, appointment_id), wanted)
    one = appointment_view(after, clear=False)
    return html(request, "linha.html", one=one, fresh=True)


@router.post("/pagina/previa", response_class=HTMLResponse)
async def preview(request: Request, _: Operator, begun: NewPreview, patience_s: Patience) -> Response:
    """What importing the sheet would do, or how far the look at it is."""
    return await _previewed(request, begun, FIRST_LOOK * patience_s)


@router.get("/pagina/previas/{preview_id}", response_class=HTMLResponse)
async def preview_again(request: Request, _: Operator, begun: KnownPreview, patience_s: Patience) -> Response:
    """The same, later."""
    return await _previewed(request, begun, _LOOK * patience_s)


async def _previewed(request: Request, begun: Preview, patience_s: float) -> Response:
    await begun.wait(patience_s)
    context: dict[str, Any] = {"preview": begun, "name": begun.name, "labels": LABELS}
    if isinstance(begun.refused, UnknownColumns) and (begun.refused.titles or begun.refused.untitled):
        return html(request, "colunas.html", **context, **_unknown(begun, begun.refused))
    if begun.refused is not None:
        raise begun.refused
    if begun.report is None or not begun.is_over:
        return html(request, "lendo.html", **context)
    proposed = {one.title: one for one in begun.report.proposals}
    context |= {"report": preview_view(begun), "groups": begun.groups, "proposed": proposed}
    return html(request, "previa.html", **context)


def _unknown(begun: Preview, refused: UnknownColumns) -> dict[str, Any]:
    """The columns of a sheet of which nothing useful is known yet."""
    proposed = {one.title: one for one in refused.proposals}
    asked = {title: proposed.get(title) for title in refused.titles or refused.untitled}
    columns = [
        ColumnView(
            titulo=title,
            campo=begun.told.get(title),
            evidencia=guess.evidence if guess else "não se sabe o que traz",
            exemplos=list(guess.examples) if guess else [],
        )
        for title, guess in asked.items()
    ]
    columns += [
        ColumnView(titulo=title, campo=field, evidencia="como foi indicado", exemplos=[])
        for title, field in begun.told.items()
        if title not in asked
    ]
    return {"columns": columns, "proposed": proposed}


def _busy(snapshot: Snapshot) -> bool:
    queue = snapshot.overview.queue if snapshot.overview else None
    return bool(queue and (queue.due or queue.running)) or any(
        one.estado in {ImportState.RUNNING, ImportState.UNDOING} for one in snapshot.imports
    )


def _outcome(snapshot: Snapshot) -> str:
    """What there is to say when nothing waits any more; all is well only where nothing is left to do."""
    left = snapshot.progress
    open_ones = [
        (left.revisar, f"{number(left.revisar)} para revisar"),
        (left.falhou, many(left.falhou, "falha")),
    ]
    said = " e ".join(words for count, words in open_ones if count)
    return f"Fila vazia: {said}." if said else "Fila vazia: está tudo em dia." if snapshot.is_well else "Fila vazia."


def _mark(snapshot: Snapshot) -> str:
    """Another one when the table of appointments would show something else."""
    newest = [(one.id, one.estado, one.gravadas, one.desfeitas) for one in snapshot.imports[:1]]
    return f"{snapshot.progress.model_dump()} {snapshot.concluded_today} {newest}"


def _panel(snapshot: Snapshot, role: Role) -> dict[str, Any]:
    overview = snapshot.overview
    now_ms = snapshot.at.timestamp() * 1000
    workers = [(one, max(0.0, (now_ms - one.beat_at_ms) / 1000)) for one in overview.queue.replicas] if overview else []
    return {
        "snapshot": snapshot.seen_by(role),
        "queue": overview.queue if overview else None,
        "eta_s": overview.eta_s if overview else None,
        "workers": workers,
        "lane": overview.lane if overview else None,
        "failures": failures(overview)[:12],
        "operator": role >= Role.OPERATOR,
    }


async def _table(backend: TheBackend, chosen: Filter, page: int) -> dict[str, Any]:
    found = await backend.store.browse(chosen, skip=(page - 1) * _ROWS, limit=_ROWS)
    return _shown(chosen, found, page)


def _shown(chosen: Filter, found: Page, page: int) -> dict[str, Any]:
    names = {
        "status": chosen.status.value if chosen.status else "",
        "origem": chosen.origin.value if chosen.origin else "",
        "causa": chosen.cause or "",
        "busca": chosen.part or "",
        "conferir": chosen.attention.value if chosen.attention else "",
    }
    asked = {name: value for name, value in names.items() if value}
    return {
        "rows": [appointment_view(one, clear=False) for one in found.appointments],
        "total": found.total,
        "page": page,
        "pages": max(1, -(-min(found.total, 10_000) // _ROWS)),
        "chosen": names,
        "query": urlencode(asked) or chosen.patient,
        # What the API calls the same filter; a patient's name is none of its own.
        "bulk": "" if chosen.patient else urlencode({_IN_API.get(name, name): value for name, value in asked.items()}),
    }
