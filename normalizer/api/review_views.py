"""The review desk as the API shows it: questions, lacks and decisions, masked for readers."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from normalizer.domain.address import Address
from normalizer.observability.masking import What, mask
from normalizer.operations.review import Candidate, Card, Lack
from normalizer.store.review import Decision


class CandidateView(BaseModel):
    """One answer, on a button."""

    endereco: dict[str, str | None] | None = None
    documento: dict[str, str | None] | None = None
    fonte: str = Field(examples=["tabela de municípios: Cascavel - PR"])
    deduzido: list[str] = Field(examples=[["estado"]], description="O que o texto não diz.")


class PieceView(BaseModel):
    """A piece of the text."""

    texto: str
    campo: str = Field(description="O campo lido; `duvida` no que ninguém entendeu, `fora` no que não é do endereço.")


class QuestionView(BaseModel):
    """What is asked of all appointments with one text. For readers: masked, and without candidates."""

    chave: str
    tipo: str = Field(examples=["endereco"])
    motivo: str = Field(examples=["bairro ambíguo"])
    pergunta: str = Field(examples=["O que é «B. Campos»?"])
    total: int = Field(description="Agendamentos em aberto com este texto, em todas as importações.")
    texto: str
    partes: list[PieceView] = []
    entendido: dict[str, str] = {}
    candidatos: list[CandidateView] = []
    versao: int = Field(description="Mande-a de volta ao decidir: quem decide depois de outro recebe 409.")
    adiada_em: datetime | None = Field(default=None, description="Alguém a adiou: está depois das outras, por um dia.")
    agendamento: str = Field(description="Um dos agendamentos, para `escopo=este`.")
    id_agendamento: str | None = None
    unidade: str | None = None


class LackView(BaseModel):
    """What several texts lack: one decision for all of them."""

    chave: str
    titulo: str = Field(examples=["Cascavel sem UF"])
    pergunta: str = Field(examples=["Em que estado fica Cascavel?"])
    total: int
    estados: list[str] = Field(examples=[["CE", "PR"]])
    versao: int


class DeskView(BaseModel):
    """The desk, what weighs most first."""

    abertos: int = Field(description="Agendamentos à espera de uma pessoa.")
    faltas: list[LackView]
    grupos: list[QuestionView]
    cursor: str | None = Field(description="Para a página seguinte; nulo na última.")


class DecisionView(BaseModel):
    """One decision: what was done, not what was said."""

    id: str
    em: datetime
    tipo: str
    motivo: str
    acao: str = Field(examples=["decidir"])
    escopo: str = Field(examples=["iguais"])
    agendamentos: int = Field(description="Gravados.")
    restam: int = Field(description="Destes, os que ainda têm outra pergunta.")
    estado: str = Field(examples=["aplicada"])
    versao: int


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


class WordView(BaseModel):
    """In this city, the short name stands for the district."""

    id: str
    estado: str = Field(examples=["PA"])
    cidade: str = Field(examples=["Belém"])
    curta: str = Field(examples=["b campos"])
    longa: str = Field(examples=["Batista Campos"])


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
    question, example = card.question, card.question.example
    text = example.text
    if not clear:
        text = mask(text, What.of(question.kind), understood=card.known.values())
    return QuestionView(
        chave=question.key,
        tipo=question.kind.value,
        motivo=example.motive,
        pergunta=card.words if clear else _without_words(card),
        total=question.count,
        texto=text,
        partes=[PieceView(texto=part.text, campo=part.field) for part in card.parts] if clear else [],
        entendido=dict(card.known) if clear else {},
        candidatos=[_candidate(one) for one in card.candidates] if clear else [],
        versao=card.version,
        adiada_em=card.put_off,
        agendamento=example.id,
        id_agendamento=example.natural_key or None,
        unidade=example.unit or None,
    )


def _without_words(card: Card) -> str:
    """The question for readers: one that quotes the text is asked without."""
    return "O que é esta parte do texto?" if "«" in card.words else card.words


def _candidate(one: Candidate) -> CandidateView:
    value = one.value.as_dict()
    is_address = isinstance(one.value, Address)
    return CandidateView(
        endereco=value if is_address else None,
        documento=None if is_address else value,
        fonte=one.source,
        deduzido=list(one.inferred),
    )


def lack_view(lack: Lack) -> LackView:
    """A lack as shown."""
    return LackView(
        chave=lack.key,
        titulo=f"{lack.town.name} sem UF",
        pergunta=f"Em que estado fica {lack.town.name}?",
        total=lack.count,
        estados=list(lack.town.ufs),
        versao=lack.version,
    )


def decision_view(one: Decision) -> DecisionView:
    """A decision as shown."""
    return DecisionView(
        id=one.id,
        em=one.at,
        tipo=one.kind.value,
        motivo=one.motive,
        acao=one.action,
        escopo=one.scope,
        agendamentos=one.count,
        restam=one.left,
        estado=one.state,
        versao=one.number,
    )
