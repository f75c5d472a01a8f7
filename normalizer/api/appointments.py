"""Appointments over HTTP: list, one with its timeline, a person's correction, retry."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import partial
from typing import Annotated, Literal, TypeAlias

from fastapi import APIRouter, Depends, HTTPException, Query, Response
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from normalizer.api.access import Operator, Reader, Role
from normalizer.api.live import TheBackend
from normalizer.api.problems import known, responses
from normalizer.api.system import Requeued
from normalizer.api.uploads import TheUploads
from normalizer.api.views import (
    AppointmentDetail,
    AppointmentPage,
    AppointmentView,
    Body,
    appointment_detail,
    appointment_view,
)
from normalizer.domain.address import Address
from normalizer.domain.address.explain import Explanation, explain
from normalizer.domain.appointment import Kind, Origin, Status
from normalizer.domain.document import Document
from normalizer.domain.wording import many
from normalizer.operations.corrections import Wrongs, address_of, correct, correct_many, document_of
from normalizer.runtime import Backend
from normalizer.store import Attention, Filter, ImportRecord, Order, StoredAppointment

router = APIRouter(prefix="/api/appointments", tags=["agendamentos"], responses=responses(401, 403, 429, 503))

AppointmentId = Annotated[str, InPath(min_length=1, max_length=200)]
Documents: TypeAlias = Literal["mascarados", "abertos"]
Shown = Annotated[Documents, Query(description="`abertos` só para operadores: documentos e nomes por inteiro.")]
_Field = Annotated[str | None, Field(max_length=500)]


class AddressCorrection(Body):
    """The address as a person says it is; rua, cidade and estado are the minimum."""

    rua: _Field = Field(examples=["Rua das Flores"])
    numero: _Field = Field(default=None, examples=["10"])
    complemento: _Field = None
    bairro: _Field = Field(default=None, examples=["Centro"])
    cidade: _Field = Field(examples=["Campinas"])
    estado: _Field = Field(examples=["SP"])
    cep: _Field = Field(default=None, examples=["13010-000"])


class DocumentCorrection(Body):
    """The document as a person says it is."""

    cpf: _Field = Field(default=None, examples=["111.444.777-35"])
    rg: _Field = Field(default=None, examples=["12.345.678-9"])


class Correction(Body):
    """A person's word. `revisao`: as it was shown, so that nobody overwrites what they did not see."""

    endereco: AddressCorrection | None = None
    documento: DocumentCorrection | None = None
    revisao: int | None = Field(default=None, ge=0, le=2**31)

    def values(self) -> dict[Kind, Address | Document]:
        """What was given, checked. Raises InvalidInput."""
        found: dict[Kind, Address | Document] = {}
        wrongs = Wrongs()
        with wrongs.noted():
            if self.endereco is not None:
                found[Kind.ADDRESS] = address_of(self.endereco.model_dump())
        with wrongs.noted():
            if self.documento is not None:
                found[Kind.DOCUMENT] = document_of(self.documento.model_dump())
        wrongs.end()
        return found


class PartialAddress(AddressCorrection):
    """The fields that hold for all; what is not given stays as each appointment has it."""

    rua: _Field = None
    cidade: _Field = None
    estado: _Field = None


class BulkCorrection(Body):
    """One correction of all appointments of a filter."""

    endereco: PartialAddress | None = Field(default=None, examples=[{"cidade": "Belém", "estado": "PA"}])
    dispensar: Kind | None = Field(default=None, description="Em vez de `endereco`: o texto que não é preciso.")
    esperados: int | None = Field(
        default=None, ge=0, le=2**31, description="O `agendamentos` do ensaio. Sem ele é um ensaio: nada se grava."
    )

    @property
    def wanted(self) -> dict[str, str | None] | Kind:
        """What is to be done. 422 unless exactly one thing was asked for."""
        fields = self.endereco.model_dump(exclude_unset=True) if self.endereco is not None else {}
        if bool(fields) == (self.dispensar is not None):
            raise HTTPException(422, "Informe endereco, com um campo ao menos, ou dispensar.")
        return fields if self.dispensar is None else self.dispensar


class BulkCorrected(BaseModel):
    """What a bulk correction changes."""

    ensaio: bool
    agendamentos: int = Field(description="Os que mudam.", examples=[43])
    iguais: int = Field(description="Já estão assim, ou ninguém os pergunta.")
    pulados: dict[str, int] = Field(
        description="Não ficariam com um endereço válido, pelo que faltaria.",
        examples=[{"rua: esperado a rua": 2}],
    )
    id: str | None = Field(description="Acompanhe em `/api/imports/{id}`; desfaz-se lá, por 24 horas.")


async def known_appointment(backend: TheBackend, appointment_id: AppointmentId) -> StoredAppointment:
    """The appointment. 404 when there is none, or it is not ours."""
    return known(await backend.store.one(appointment_id), "Não há agendamento com este id.")


KnownAppointment = Annotated[StoredAppointment, Depends(known_appointment)]


async def import_of(backend: Backend, found: StoredAppointment) -> ImportRecord | None:
    """The import that wrote on it last."""
    return await backend.store.imports.get(found.import_id) if found.import_id else None


def is_clear(role: Role, shown: Documents) -> bool:
    """Whether documents are shown. 403 when the role may not see them."""
    if shown == "abertos" and role < Role.OPERATOR:
        raise HTTPException(403, "Só operadores veem documentos por inteiro.")
    return shown == "abertos"


async def apply_correction(backend: Backend, seen: StoredAppointment, wanted: Correction) -> StoredAppointment:
    """Store it; returns the appointment as it is now. 409 when somebody was faster, 422 when nothing was given."""
    values = wanted.values()
    if not values:
        raise HTTPException(422, "Informe endereco ou documento.")
    stale = wanted.revisao is not None and wanted.revisao != seen.revision
    after = None if stale else await correct(seen, values, store=backend.store, cache=backend.cache)
    if after is None:
        raise HTTPException(409, "O agendamento mudou desde que foi mostrado: abra-o de novo.")
    return after


class Search(Body):
    """What no address may carry: it is sent in the body."""

    paciente: str = Field(min_length=2, max_length=100, examples=["ana exemplo"])


async def chosen_filter(
    status: Annotated[list[Status] | None, Query(description="Pode repetir-se.")] = None,
    import_id: Annotated[str | None, Query(max_length=64)] = None,
    origem: Origin | None = None,
    causa: Annotated[str | None, Query(max_length=200, description="Motivo da revisão ou causa da falha.")] = None,
    id_agendamento: Annotated[str | None, Query(max_length=200)] = None,
    id_contem: Annotated[str | None, Query(max_length=200, description="Parte do id; do último mês.")] = None,
    unidade: Annotated[str | None, Query(max_length=200)] = None,
    de: Annotated[date | None, Query(description="Data do agendamento, desde este dia.")] = None,
    ate: Annotated[date | None, Query(description="Até este dia, incluído.")] = None,
    conferir: Annotated[
        Attention | None,
        Query(
            description="Resolvidos que pedem um olhar: data não lida, número recusado, conflito com a base de CEPs."
        ),
    ] = None,
    ordenar: Annotated[
        Order | None,
        Query(
            description="Sem ele: `planilha` com `import_id`, senão `recentes` (tocados por último). `data` e `-data`: "
            "pela data do agendamento, só os que têm uma."
        ),
    ] = None,
) -> Filter:
    """Which appointments a request asks for, and in which order."""
    asked = status or []
    return Filter(
        next(iter(asked), None),
        import_id,
        origem,
        causa,
        id_agendamento,
        conferir,
        also=tuple(asked[1:]),
        unit=unidade,
        begin=de,
        end=ate,
        part=id_contem,
        order=ordenar,
    )


Chosen = Annotated[Filter, Depends(chosen_filter)]
PageNumber = Annotated[int, Query(ge=1, le=1_000, description="Custa mais quanto maior; prefira `depois`.")]
PageSize = Annotated[int, Query(ge=1, le=200)]
After = Annotated[
    str | None,
    Query(max_length=100, description="O `depois` da página anterior: nada se pula nem se repete."),
]


@router.get("")
async def browse(
    role: Reader,
    backend: TheBackend,
    chosen: Chosen,
    pagina: PageNumber = 1,
    tamanho: PageSize = 50,
    depois: After = None,
    documentos: Shown = "mascarados",
) -> AppointmentPage:
    """Agendamentos de um filtro. Sem `ordenar`, os últimos tocados primeiro; os de uma importação, como na planilha."""
    return await _page(backend, chosen, pagina, tamanho, depois, clear=is_clear(role, documentos))


@router.post(
    "/corrigir",
    responses={
        202: {"model": BulkCorrected, "description": "Está a gravar: veja id."},
        **responses(400, 409, 413, 422),
    },
)
async def correct_all(
    wanted: BulkCorrection, response: Response, _: Operator, backend: TheBackend, uploads: TheUploads, chosen: Chosen
) -> BulkCorrected:
    """Corrige todos os de um filtro (o mesmo da lista), no máximo 10.000: primeiro conta, depois grava o que contou.

    Textos iguais fora do filtro ficam como estão; os que vierem recebem o mesmo, como de uma decisão na revisão. O que
    alguém mudar depois fica também ao desfazer.
    """
    if replace(chosen, order=None) == Filter():
        raise HTTPException(422, "Diga quais: ao menos um filtro, como status, causa ou unidade.")
    correcting = partial(correct_many, chosen, wanted.wanted, store=backend.store, cache=backend.cache)
    counted = await correcting()
    found = BulkCorrected(
        ensaio=wanted.esperados is None,
        agendamentos=counted.changed,
        iguais=counted.equal,
        pulados=dict(counted.skipped),
        id=None,
    )
    if found.ensaio:
        return found
    if wanted.esperados != counted.changed:
        raise HTTPException(409, f"Agora seriam {many(counted.changed, 'agendamento')}: ensaie de novo.")
    found.id = await backend.store.imports.begin(file="correção em massa", format="correcao")
    uploads.carry_out(correcting(import_id=found.id), found.id)
    response.status_code = 202
    response.headers["Location"] = f"/api/imports/{found.id}"
    return found


@router.post("/busca", responses=responses(400, 413, 422))
async def search(
    wanted: Search,
    _: Operator,
    backend: TheBackend,
    chosen: Chosen,
    tamanho: PageSize = 50,
    depois: After = None,
) -> AppointmentPage:
    """Procura pelo nome do paciente, no corpo do pedido e não no endereço, entre os agendamentos do último mês."""
    return await _page(backend, replace(chosen, patient=wanted.paciente), 1, tamanho, depois, clear=False)


async def _page(
    backend: Backend, chosen: Filter, number: int, size: int, after: str | None, *, clear: bool
) -> AppointmentPage:
    skip = 0 if after else (number - 1) * size
    page = await backend.store.browse(chosen, after=after, skip=skip, limit=size)
    items = [appointment_view(found, clear=clear) for found in page.appointments]
    return AppointmentPage(total=page.total, pagina=number, tamanho=size, itens=items, depois=page.after)


@router.get("/{appointment_id}", responses=responses(404))
async def one(
    appointment_id: AppointmentId, role: Reader, backend: TheBackend, documentos: Shown = "mascarados"
) -> AppointmentDetail:
    """Um agendamento e a linha do tempo dele."""
    clear = is_clear(role, documentos)
    found = await known_appointment(backend, appointment_id)
    return appointment_detail(found, await import_of(backend, found), clear=clear)


@router.get("/{appointment_id}/leitura", responses=responses(404))
async def reading(_: Operator, found: KnownAppointment) -> Explanation:
    """Como as regras leem o endereço: palavras, passos, leituras com pontos, objeções. Mostra o texto por inteiro."""
    return explain(found.texts[Kind.ADDRESS].text)


@router.patch("/{appointment_id}", responses=responses(400, 404, 409, 413, 422))
async def patch(appointment_id: AppointmentId, wanted: Correction, _: Operator, backend: TheBackend) -> AppointmentView:
    """Corrige o endereço, o documento ou os dois. Textos iguais passam a ter este endereço."""
    seen = await known_appointment(backend, appointment_id)
    return appointment_view(await apply_correction(backend, seen, wanted), clear=False)


@router.post("/{appointment_id}/retry", responses=responses(404, 409))
async def retry(_: Operator, seen: KnownAppointment, backend: TheBackend) -> Requeued:
    """Coloca de novo na fila."""
    pending = await backend.store.requeue_one(seen)
    if pending is None:
        raise HTTPException(409, "O agendamento mudou agora mesmo: tente de novo.")
    if text := seen.texts[Kind.ADDRESS].text:
        await backend.cache.forget_many(Kind.ADDRESS, [text])
    await backend.tasks.enqueue_many([pending.id], fingerprints={pending.id: pending.fingerprint})
    return Requeued(enfileirados=1)
