"""The review desk over HTTP: the questions that wait for a person, and one decision for all that ask the same."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel, Field

from normalizer.api.access import Operator, Reader, Role, identify
from normalizer.api.appointments import AddressCorrection, DocumentCorrection
from normalizer.api.live import TheBackend
from normalizer.api.problems import known, problem, responses
from normalizer.api.rendering import html, moment
from normalizer.api.views import Body, Shape
from normalizer.domain.address import Address
from normalizer.domain.appointment import LABELS, Kind
from normalizer.domain.wording import many
from normalizer.observability.masking import What, mask
from normalizer.operations import review
from normalizer.operations.corrections import address_of, document_of, state_of
from normalizer.operations.review import Candidate, Card, Choice, Conflict, Lack
from normalizer.runtime import Backend
from normalizer.store.review import POSTPONED, Chosen, Decision, is_lack, kind_of


class CandidateView(BaseModel):
    """One answer, on a button."""

    endereco: dict[str, str | None] | None = None
    documento: dict[str, str | None] | None = None
    fonte: str = Field(examples=["tabela de municípios: Cascavel - PR"])
    deduzido: list[str] = Field(examples=[["estado"]], description="O que o texto não diz.")


class PieceView(Shape):
    """A piece of the text."""

    texto: str = Field(validation_alias="text")
    campo: str = Field(
        validation_alias="field",
        description="O campo lido; `duvida` no que ninguém entendeu, `fora` no que não é do endereço.",
    )


class QuestionView(Shape):
    """What is asked of all appointments with one text. For readers: masked, and without candidates."""

    chave: str = Field(validation_alias="question.key")
    tipo: str = Field(validation_alias="question.kind", examples=["endereco"])
    motivo: str = Field(validation_alias="question.example.motive", examples=["bairro ambíguo"])
    pergunta: str = Field(examples=["O que é «B. Campos»?"])
    total: int = Field(
        validation_alias="question.count", description="Agendamentos em aberto com este texto, em todas as importações."
    )
    texto: str
    partes: list[PieceView] = Field([])
    entendido: dict[str, str] = Field({})
    candidatos: list[CandidateView] = Field([])
    versao: int = Field(
        validation_alias="version", description="Mande-a de volta ao decidir: quem decide depois de outro recebe 409."
    )
    adiada_em: datetime | None = Field(
        None, validation_alias="put_off", description="Alguém a adiou: está depois das outras, por um dia."
    )
    agendamento: str = Field(
        validation_alias="question.example.id", description="Um dos agendamentos, para `escopo=este`."
    )
    id_agendamento: str | None = None
    unidade: str | None = None


class LackView(Shape):
    """What several texts lack: one decision for all of them."""

    chave: str = Field(validation_alias="key")
    titulo: str = Field(examples=["Cascavel sem UF"])
    pergunta: str = Field(examples=["Em que estado fica Cascavel?"])
    total: int = Field(validation_alias="count")
    estados: list[str] = Field(validation_alias="town.ufs", examples=[["CE", "PR"]])
    versao: int = Field(validation_alias="version")


class DeskView(BaseModel):
    """The desk, what weighs most first."""

    abertos: int = Field(description="Agendamentos à espera de uma pessoa.")
    faltas: list[LackView]
    grupos: list[QuestionView]
    cursor: str | None = Field(description="Para a página seguinte; nulo na última.")


class DecisionView(Shape):
    """One decision: what was done, not what was said."""

    id: str
    em: datetime = Field(validation_alias="at")
    tipo: str = Field(validation_alias="kind")
    motivo: str = Field(validation_alias="motive")
    acao: str = Field(validation_alias="action", examples=["decidir"])
    escopo: str = Field(validation_alias="scope", examples=["iguais"])
    agendamentos: int = Field(validation_alias="count", description="Gravados.")
    restam: int = Field(validation_alias="left", description="Destes, os que ainda têm outra pergunta.")
    estado: str = Field(validation_alias="state", examples=["aplicada"])
    versao: int = Field(validation_alias="number")


class Undone(BaseModel):
    """What an undo did."""

    reabertos: int
    mantidos: int = Field(description="Alguém os mudou depois; ficam como estão.")


class Forgotten(BaseModel):
    """How many decisions were erased."""

    apagadas: int


class Taught(BaseModel):
    """How many appointments the word settled."""

    agendamentos: int


class Untaught(BaseModel):
    """How many appointments are asked about again."""

    reabertos: int


class WordView(Shape):
    """In this city, the short name stands for the district."""

    id: str
    estado: str = Field(validation_alias="state", examples=["PA"])
    cidade: str = Field(validation_alias="city", examples=["Belém"])
    curta: str = Field(validation_alias="short", examples=["b campos"])
    longa: str = Field(validation_alias="long", examples=["Batista Campos"])


class LessonView(WordView):
    """A word that decisions speak for. It changes nothing that is settled: it is asked of open texts only."""

    decisoes: int = Field(description="Decisões, sobre textos diferentes, que dizem isso.")
    abertos: int = Field(description="Agendamentos em aberto que resolveria.")


class WordsView(BaseModel):
    """The clinic's own word list, and what could be added to it."""

    propostas: list[LessonView]
    palavras: list[WordView]


def question_view(card: Card, *, clear: bool) -> QuestionView:
    """A card as shown."""
    example = card.question.example
    masked = "" if clear else mask(example.text, What.of(card.question.kind), understood=card.known.values())
    return QuestionView.of(
        card,
        pergunta=card.words if clear else _without_words(card),
        texto=example.text if clear else masked,
        partes=card.parts if clear else [],
        entendido=card.known if clear else {},
        candidatos=[_candidate(one) for one in card.candidates] if clear else [],
        id_agendamento=example.natural_key or None,
        unidade=example.unit or None,
    )


def _without_words(card: Card) -> str:
    """The question for readers: one that quotes the text is asked without."""
    return "O que é esta parte do texto?" if "«" in card.words else card.words


def _candidate(one: Candidate) -> CandidateView:
    answer = {"endereco" if isinstance(one.value, Address) else "documento": one.value.as_dict()}
    return CandidateView(**answer, fonte=one.source, deduzido=list(one.inferred))


def lack_view(lack: Lack) -> LackView:
    """A lack as shown."""
    town = lack.town.name
    return LackView.of(lack, titulo=f"{town} sem UF", pergunta=f"Em que estado fica {town}?")


router = APIRouter(prefix="/api/revisao", tags=["revisão"], responses=responses(401, 403, 429, 503))
pages = APIRouter(include_in_schema=False)

_CURSOR: Final = re.compile(r"([0-9]{1,9})\.([a-z][0-9a-f]{16})", re.ASCII)
_SHOWN: Final = 20
_Key = Annotated[str, InPath(min_length=1, max_length=40, description="Como a lista a deu; não traz texto.")]
_DecisionId = Annotated[str, InPath(min_length=1, max_length=60)]


class Verdict(Body):
    """A person's decision: one of `candidato`, `endereco`, `documento`, `estado`; or `acao` dispensar or adiar."""

    acao: Literal["decidir", "dispensar", "adiar"] = Field(
        default="decidir", description="dispensar: não é preciso; adiar: por um dia, depois das outras."
    )
    candidato: int | None = Field(default=None, ge=1, le=4, description="O botão, como a lista o deu.")
    endereco: AddressCorrection | None = None
    documento: DocumentCorrection | None = None
    estado: str | None = Field(default=None, max_length=40, description="De uma falta: a sigla.")
    escopo: Literal["iguais", "este"] = "iguais"
    agendamento: str | None = Field(default=None, max_length=200, description="Com `escopo=este`: qual.")
    versao: int | None = Field(default=None, ge=0, le=2**31, description="Como foi mostrada.")
    fonte: str = Field(default="", max_length=120, description="De onde veio a resposta escolhida.")


async def _chosen(
    tipo: Annotated[Kind | None, Query()] = None,
    causa: Annotated[str | None, Query(max_length=200)] = None,
    import_id: Annotated[str | None, Query(max_length=64)] = None,
    unidade: Annotated[str | None, Query(max_length=200)] = None,
) -> Chosen:
    return Chosen(tipo, causa or None, import_id or None, unidade or None)


TheChosen = Annotated[Chosen, Depends(_chosen)]
Cursor = Annotated[str | None, Query(max_length=60, description="O `cursor` da página anterior.")]


@router.get("", responses=responses(422))
async def desk(
    role: Reader,
    backend: TheBackend,
    chosen: TheChosen,
    cursor: Cursor = None,
    tamanho: Annotated[int, Query(ge=1, le=100)] = _SHOWN,
) -> DeskView:
    """O que espera uma pessoa, por textos iguais, os mais frequentes primeiro; no alto, o que falta a muitos."""
    await review.finish_interrupted(backend.store.questions, backend.cache)
    found = await review.look(backend.store.questions, chosen, after=_after(cursor), limit=tamanho)
    clear = role >= Role.OPERATOR
    return DeskView(
        abertos=await backend.store.questions.count(chosen),
        faltas=[lack_view(one) for one in found.lacks],
        grupos=[question_view(one, clear=clear) for one in found.cards],
        cursor=f"{found.after[0]}.{found.after[1]}" if found.after else None,
    )


@router.get("/decisoes")
async def decisions(
    _: Reader, backend: TheBackend, tamanho: Annotated[int, Query(ge=1, le=200)] = _SHOWN
) -> list[DecisionView]:
    """As últimas decisões, a mais nova primeiro; sem textos."""
    return [DecisionView.of(one) for one in await backend.store.questions.decisions(tamanho)]


@router.get("/decisoes.jsonl", response_class=StreamingResponse)
async def export(_: Operator, backend: TheBackend) -> StreamingResponse:
    """Tudo o que foi decidido, uma decisão por linha, com o texto e a resposta: traz dados de pacientes."""
    taught = review.dataset(backend.store.questions, backend.cache)
    lines = (orjson.dumps(one) + b"\n" async for one in taught)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@router.post("/decisoes/{decision_id}/desfazer", responses=responses(404))
async def undo(decision_id: _DecisionId, _: Operator, backend: TheBackend) -> Undone:
    """Desfaz uma decisão (até um dia depois): as perguntas voltam. O que alguém mudou desde então fica."""
    undone = await review.undo(decision_id, questions=backend.store.questions, cache=backend.cache)
    reopened, kept = known(undone, "Não há decisão com este id, ou já foi desfeita.")
    return Undone(reabertos=reopened, mantidos=kept)


@router.delete("/decisoes", responses=responses(422))
async def forget(
    _: Operator, backend: TheBackend, agendamento: Annotated[str, Query(min_length=1, max_length=200)]
) -> Forgotten:
    """Apaga as decisões sobre textos deste agendamento (eliminação a pedido do titular)."""
    return Forgotten(apagadas=await backend.store.questions.forget(agendamento))


@router.get("/palavras")
async def words(_: Operator, backend: TheBackend) -> WordsView:
    """A lista de palavras da clínica, e o que as decisões propõem para ela."""
    proposed = await review.proposed_words(backend.store.questions, backend.store.words)
    listed = await backend.store.words.all()
    return WordsView(
        propostas=[LessonView.of(one.word, id=one.id, decisoes=one.decisions, abertos=one.settles) for one in proposed],
        palavras=[WordView.of(word, id=word_id) for word_id, word in listed.items()],
    )


@router.post("/palavras/{palavra}", responses=responses(404))
async def teach(palavra: _Key, _: Operator, backend: TheBackend) -> Taught:
    """Põe uma proposta na lista e resolve o que está em aberto por causa dela; os workers a seguem em um minuto."""
    questions, listed = backend.store.questions, backend.store.words
    proposed = {one.id: one.word for one in await review.proposed_words(questions, listed)}
    word = known(proposed.get(palavra), "Não há esta proposta.")
    settled = await review.teach(word, questions=questions, words=listed, cache=backend.cache)
    return Taught(agendamentos=settled)


@router.delete("/palavras/{palavra}", responses=responses(404))
async def unteach(palavra: _Key, _: Operator, backend: TheBackend) -> Untaught:
    """Tira uma palavra da lista; o que ela resolveu há menos de um dia volta à revisão."""
    store = backend.store
    reopened = await review.unteach(palavra, questions=store.questions, words=store.words, cache=backend.cache)
    return Untaught(reabertos=known(reopened, "Não há esta palavra na lista."))


@router.get("/{chave}", responses=responses(404))
async def one(chave: _Key, role: Reader, backend: TheBackend) -> QuestionView:
    """Uma pergunta, como está agora."""
    return question_view(await _card(backend, chave), clear=role >= Role.OPERATOR)


@router.post("/{chave}", response_model=DecisionView, responses=responses(404, 409, 422))
async def decide(chave: _Key, wanted: Verdict, _: Operator, backend: TheBackend) -> Response | DecisionView:
    """Decide por todos os agendamentos com este texto (ou só por um), de uma vez; entra na cache; desfaz-se.

    409 quando outra pessoa decidiu desde que a pergunta foi mostrada: nada é gravado por cima.
    """
    if wanted.escopo == "este" and not wanted.agendamento:
        raise HTTPException(422, "Com escopo=este, diga qual agendamento.")
    if wanted.acao == POSTPONED:
        done = await review.put_off(chave, questions=backend.store.questions)
    else:
        choice = await _choice(backend, chave, wanted)
        done = await review.decide(choice, questions=backend.store.questions, cache=backend.cache)
    return _conflict(done.by) if isinstance(done, Conflict) else DecisionView.of(known(done, "Não há esta pergunta."))


async def _choice(backend: Backend, key: str, wanted: Verdict) -> Choice:
    """What was decided, checked. Raises InvalidInput, 404, 422."""
    only = wanted.agendamento if wanted.escopo == "este" else None
    choice = Choice(key, None, only, wanted.versao, wanted.fonte)
    if wanted.acao == "dispensar":
        return choice
    lacking, is_document = is_lack(key), kind_of(key) is Kind.DOCUMENT
    if lacking and wanted.estado:
        return replace(choice, answer=state_of(wanted.estado))
    if wanted.candidato is not None and not lacking:
        candidates = (await _card(backend, key)).candidates
        if wanted.candidato > len(candidates):
            raise HTTPException(422, "Não há tantos candidatos: veja a pergunta de novo.")
        candidate = candidates[wanted.candidato - 1]
        return replace(choice, answer=candidate.value, source=candidate.source)
    if wanted.endereco is not None and not (lacking or is_document):
        return replace(choice, answer=address_of(wanted.endereco.model_dump()))
    if wanted.documento is not None and is_document:
        return replace(choice, answer=document_of(wanted.documento.model_dump()))
    expected = "estado" if lacking else "documento" if is_document else "endereco"
    raise HTTPException(422, f"Informe {expected}, candidato ou acao=dispensar.")


async def _card(backend: Backend, key: str) -> Card:
    card = await review.one_card(backend.store.questions, key)
    return known(card, "Ninguém mais pergunta isto: foi decidido, ou o texto mudou.")


def _conflict(by: Decision | None) -> Response:
    """What changed: no text, and nothing of who is asked."""
    if by is None:
        return problem(409, "Os agendamentos mudaram desde que a pergunta foi mostrada: veja-a de novo.")
    done = {"dispensar": "dispensou", POSTPONED: "adiou"}.get(by.action, "decidiu")
    state = ", e a decisão foi desfeita" if by.state == "desfeita" else ""
    said = f"Outra pessoa {done} às {moment(by.at)} ({many(by.count, 'agendamento')}){state}."
    error = {"campo": "versao", "decisao": by.id, "acao": by.action, "versao": str(by.number), "estado": by.state}
    return problem(409, f"{said} Nada foi gravado por cima.", errors=[error])


def _after(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise HTTPException(422, "cursor: use o da página anterior, como veio.")
    return int(found[1]), found[2]


# -- the page ---------------------------------------------------------------------------------------------------------


@pages.get("/revisao", response_class=HTMLResponse)
async def page(request: Request, backend: TheBackend, chosen: TheChosen) -> Response:
    """The desk, or the door to it."""
    role = request.state.role = identify(request, None)
    if role is None:
        return html(request, "entrar.html")
    counts = await backend.store.totals.counts()
    reasons = {kind.value: counts.by_reason[kind].most_common() for kind in Kind}
    context: dict[str, Any] = {"reasons": reasons, "chosen": chosen, "labels": LABELS}
    if role >= Role.OPERATOR:
        context |= {"words": await words(role, backend), "decisions": await decisions(role, backend, 8)}
    return html(request, "revisao.html", desk=await desk(role, backend, chosen), **context)


@pages.get("/pagina/revisao", response_class=HTMLResponse)
async def questions(
    request: Request, role: Reader, backend: TheBackend, chosen: TheChosen, cursor: Cursor = None
) -> Response:
    """The questions that follow on."""
    return html(request, "perguntas.html", desk=await desk(role, backend, chosen, cursor))


@pages.get("/pagina/palavras", response_class=HTMLResponse)
async def clinic_words(request: Request, role: Operator, backend: TheBackend) -> Response:
    """What the decisions teach."""
    return html(request, "palavras.html", words=await words(role, backend))


@pages.get("/pagina/revisao/{chave}", response_class=HTMLResponse)
async def question(request: Request, chave: _Key, role: Reader, backend: TheBackend) -> Response:
    """One question again; nothing where nobody asks it any more, which is no error of who looks."""
    found = await review.one_card(backend.store.questions, chave)
    if found is None:
        return Response()
    return html(request, "pergunta.html", one=question_view(found, clear=role >= Role.OPERATOR))
