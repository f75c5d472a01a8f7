"""Proposals for columns of unknown titles, by what their cells hold: shown with its evidence, never assumed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final

from normalizer.domain.document import cpf_is_valid
from normalizer.domain.gazetteer import UF_NAMES, municipalities, name_key, uf_of_cep
from normalizer.domain.stored_form import parse_moment, phone_of, status_of
from normalizer.domain.text import clean, fold
from normalizer.imports.spreadsheet.rows import shown
from normalizer.imports.spreadsheet.table import texts_at
from normalizer.imports.spreadsheet.titles import KEY_FIELD, MOMENTS, is_of_others
from normalizer.observability.masking import mask

if TYPE_CHECKING:
    from normalizer.imports.spreadsheet.table import Cells

#: Rows that are looked at.
SAMPLE: Final = 300
_EXAMPLES: Final = 3
_LONGEST_EXAMPLE: Final = 40
_NEAR: Final = 2  # columns
# What no patient can be known by.
_MOMENTS: Final = frozenset({*chain(*MOMENTS.values()), "inicio_agendamento"})
_NOBODYS: Final = frozenset(
    {"status", "tipo_consulta", "nome_marca", "nome_unidade", "nome_convenio", "cidade", "estado"}
    | {"tipo_logradouro", "tipo_documento"}
)
_HOUSE_DIGITS: Final = 4
_FEWEST: Final = 5  # cells that may speak against a title
_HARDLY, _NEARLY = 0.1, 0.9  # shares of cells that speak for a title, and against it
_LIFETIME_YEARS: Final = 3  # dates further apart than this are not those of an agenda
_STREET: Final = re.compile(
    r"(?:r|rua|av|aven|avenida|tv|trav|travessa|al|alameda|estr|estrada|rod|rodovia|pca|praca|largo|lgo|beco|viela)"
    r"\.? ?(?<![a-z])[a-z0-9]"
)
_DISTRICT: Final = re.compile(
    r"(?:bairro|centro|jardim|jd|vila|vl|parque|pq|conjunto|conj|residencial|setor|loteamento|nova|novo|alto|bela|boa"
    r"|cidade|zona|nucleo|santo|santa|sao|bom|barra|campo)\b[^0-9]*"
)
_UNIT: Final = re.compile(
    r"(?:ap|apt|apto|apartamento|casa|cs|bloco|bl|fundos|sala|loja|sobrado|frente|torre|lote|lt)\b.*"
)
_HOUSE: Final = re.compile(r"[0-9]{1,5} ?[a-z]?|s/?n")
_RG: Final = re.compile(r"(?:[a-z]{2}-?)?[0-9]{1,2}\.[0-9]{3}\.[0-9]{3}(?:-?[0-9x])?|[0-9]{7,8}-[0-9x]")
_LABELLED: Final = re.compile(r"\b(?:cpf|rg)\b.*[0-9]")
_DOUBLE: Final = re.compile(r"[0-9]\.[0-9]{1,10}e10")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME: Final = re.compile(r"[a-z']+(?: [a-z'.]+){1,6}")
_WRITTEN_WHEN: Final = re.compile(r"[0-9][/:h.-]|de ")
_NAMES_OF_PEOPLE: Final = """
    maria jose ana joao antonio francisco carlos paulo pedro lucas luiz luis marcos gabriel rafael daniel marcelo
    bruno eduardo felipe raimundo rodrigo manoel manuel mateus matheus andre fernando fabio leonardo gustavo
    guilherme leandro tiago thiago anderson ricardo marcio jorge sebastiao alexandre roberto edson diego vitor
    victor sergio claudio caio davi miguel arthur heitor bernardo samuel francisca antonia adriana juliana marcia
    fernanda patricia aline sandra camila amanda bruna jessica leticia julia luciana vanessa mariana gabriela vera
    vitoria larissa claudia beatriz rita luana sonia renata eliane josefa simone natalia cristiane carla debora
    rosangela jaqueline rosa daniela aparecida marlene terezinha raimunda andreia fabiana lucia raquel angela
    rafaela joana luzia elaine daniele regina alice laura helena sofia isabela lara livia eva bia clara teresa
    cecilia sueli celia olga benedito
"""
_FIRST_NAMES: Final = frozenset(_NAMES_OF_PEOPLE.split())
_INSURERS: Final = re.compile(
    r"\b(?:unimed|bradesco|amil|sul ?america|particular|cassi|hapvida|notredame|intermedica|porto seguro|ipe|geap|sus"
    r"|golden cross|prevent|care ?plus|omint|sao francisco)\b"
)
_EXAMS: Final = re.compile(
    r"consulta|retorno|exame|coleta|hemograma|glicemia|colesterol|raio|rx\b|ultra|tomografia|ressonancia|ecg|eletro|mamografia"
    r"|avaliacao|procedimento|vacina|urina|tsh|biopsia|limpeza|canal"
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One column and the field it may carry: the share of cells that say so, in words, and three examples."""

    title: str
    field: str
    share: float
    evidence: str
    examples: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        examples = list(self.examples)
        return {"title": self.title, "field": self.field, "evidence": self.evidence, "examples": examples}


@dataclass(frozen=True, slots=True)
class ColumnSeen:
    """A column of a sheet: its title, the field it is read as (None: it is not), why, and three of its values."""

    title: str
    field: str | None
    evidence: str
    examples: tuple[str, ...]


def seen(title: str, field: str | None, texts: Sequence[str], proposal: Proposal | None, told: bool) -> ColumnSeen:
    """What is known of a column; a value is shown as typed only where it can be no patient's."""
    evidence = "como foi indicado" if told else "pelo título" if field else "não se sabe o que traz"
    guessed = field
    if proposal is not None:
        evidence, guessed = evidence if told else proposal.evidence, field or proposal.field
    return ColumnSeen(title, field, evidence, _examples(guessed, texts))


def _examples(field: str | None, texts: Iterable[str]) -> tuple[str, ...]:
    show: Callable[[str], str] = shown if field in _MOMENTS else mask
    if field in _NOBODYS:
        show = _quoted
    return tuple(dict.fromkeys(map(show, texts)))[:_EXAMPLES]


def _quoted(text: str) -> str:
    return f"“{text[:_LONGEST_EXAMPLE]}”"


@dataclass(frozen=True, slots=True)
class _Kind:
    """How cells of a field look: the test of one folded text, its words, the least share, and how much it says."""

    field: str
    holds: Callable[[str], object]
    said: str
    least: float
    weight: float = 1.0


def _is_cpf(text: str) -> bool:
    whole = f"{float(text):.0f}" if _DOUBLE.fullmatch(text) else text
    digits = re.sub(r"[.\-/ ]", "", whole)
    return digits.isdigit() and 9 <= len(digits) <= 11 and cpf_is_valid(digits.zfill(11))


def _is_cep(text: str) -> bool:
    written = re.fullmatch(r"[0-9]{2}\.?[0-9]{3}-[0-9]{3}", text) is not None
    return written and uf_of_cep(re.sub(r"\D", "", text)) is not None


def _is_bare_cep(text: str) -> bool:
    return re.fullmatch(r"[0-9]{8}", text) is not None and uf_of_cep(text) is not None


def _is_address(text: str) -> bool:
    return _STREET.match(text) is not None and len(re.findall(r",| - ", text)) > 1 and any(map(str.isdigit, text))


def _is_street(text: str) -> bool:
    return _STREET.match(text) is not None and not _is_address(text)


def _when(date: bool, time: bool) -> Callable[[str], bool]:
    def holds(text: str) -> bool:
        moment = parse_moment(text) if _WRITTEN_WHEN.search(text) else None
        if moment is None or not moment.whole:
            return False
        return (moment.date is not None, moment.time is not None) == (date, time)

    return holds


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and text.split(" ", 1)[0] in _FIRST_NAMES


_KINDS: Final = (
    _Kind("id_agendamento", _UUID.fullmatch, "são identificadores únicos (UUID)", 0.9),
    _Kind("documento_completo", _LABELLED.search, "trazem CPF ou RG por escrito", 0.5, 1.2),
    _Kind("cpf", _is_cpf, "são CPFs válidos", 0.6, 1.1),
    _Kind("rg", lambda text: _RG.fullmatch(text) and not _is_cpf(text), "têm a forma de um RG", 0.6),
    _Kind("rg", re.compile("[0-9]{9}").fullmatch, "têm 9 algarismos, como um RG", 0.9, 0.5),
    _Kind("cep", _is_cep, "são CEPs", 0.6, 1.1),
    _Kind("cep", _is_bare_cep, "têm 8 algarismos, como um CEP", 0.9, 0.5),
    _Kind("telefone", lambda text: phone_of(text) and not _is_cpf(text), "são telefones com DDD", 0.6),
    _Kind("estado", lambda text: text.upper() in UF_NAMES, "são siglas de estados", 0.8),
    _Kind("cidade", lambda text: municipalities(name_key(text)), "são nomes de municípios", 0.8),
    _Kind("endereco_completo", _is_address, "começam por rua, avenida … e trazem o endereço inteiro", 0.5, 1.1),
    _Kind("logradouro", _is_street, "começam por rua, avenida …", 0.6),
    _Kind("bairro", _DISTRICT.fullmatch, "parecem nomes de bairros", 0.5, 0.7),
    _Kind("complemento", _UNIT.fullmatch, "são apartamentos, casas, blocos …", 0.6, 0.9),
    _Kind("numero", _HOUSE.fullmatch, "são números de casa", 0.9, 0.4),
    _Kind("inicio_agendamento", _when(date=True, time=True), "são datas com hora", 0.8),
    _Kind("data_agendamento", _when(date=True, time=False), "são datas", 0.8),
    _Kind("hora_agendamento", _when(date=False, time=True), "são horas", 0.8),
    _Kind("status", status_of, "são situações de agendamento", 0.8),
    _Kind("nome_paciente", _is_name, "começam por um nome de pessoa", 0.4),
    _Kind("nome_convenio", _INSURERS.search, "são convênios conhecidos", 0.5, 0.9),
    _Kind("tipo_consulta", _EXAMS.search, "são exames ou consultas", 0.5, 0.8),
)
# Fields that say the same: where one is carried, another column is rather somebody else's.
_ALIKE: Final = (
    {"endereco_completo", "endereco_coleta", "logradouro"},
    {"documento_completo", "cpf"},
    {"documento_completo", "rg"},
    {"inicio_agendamento", "data_agendamento"},
    {"inicio_agendamento", "hora_agendamento"},
)
_STREETS: Final = frozenset({"endereco_completo", "endereco_coleta", "logradouro"})
_PARTS: Final = frozenset({"numero", "complemento", "bairro", "cidade", "estado"})


def propose(titles: Mapping[int, str], rows: Sequence[Cells], carried: Mapping[int, str]) -> tuple[Proposal, ...]:
    """What the columns of `titles` (by 0-based index) may carry, the best first; each field once, none of `carried`."""
    found = []
    for index, title in titles.items():
        texts = texts_at(index, rows)
        if texts and not is_of_others(title) and (best := _best(title, texts)) is not None:
            found.append((*best, index))
    chosen: dict[int, Proposal] = {}
    fields = dict(carried)
    for _, proposal, index in sorted(found, key=lambda one: -one[0]):
        if proposal.field not in _excluded(fields.values()) and _may_follow(proposal.field, index, fields):
            chosen[index], fields[index] = proposal, proposal.field
    alone = _PARTS if _STREETS.isdisjoint(fields.values()) else frozenset()
    return tuple(proposal for proposal in chosen.values() if proposal.field not in alone)


def contradictions(columns: Mapping[int, str], titles: Sequence[str], rows: Sequence[Cells]) -> tuple[Proposal, ...]:
    """Columns of a known title in which hardly a cell is what it says, and nearly all are something else."""
    found = []
    for index, field in columns.items():
        texts = texts_at(index, rows)
        own = [kind for kind in _KINDS if kind.field == field and field != KEY_FIELD]  # an id may be anything
        if not own or len(texts) < _FEWEST or (best := _best(titles[index], texts)) is None:
            continue
        folded = _folded(texts)
        says = sum(any(kind.holds(text) for kind in own) for text in folded) / len(folded)
        if says < _HARDLY and best[1].share >= _NEARLY and best[1].field not in _excluded([field]):
            found.append(best[1])
    return tuple(found)


def _may_follow(field: str, index: int, fields: Mapping[int, str]) -> bool:
    """A house's number stands right behind its street; anything else, anywhere."""
    return field != "numero" or any(fields.get(index - behind) in _STREETS for behind in range(1, _NEAR + 1))


def _excluded(carried: Iterable[str]) -> set[str]:
    found = set(carried)
    return found.union(*(group for group in _ALIKE if not group.isdisjoint(found)))


def _best(title: str, texts: Sequence[str]) -> tuple[float, Proposal] | None:
    folded = _folded(texts)
    scored = []
    for kind in _KINDS:
        share = sum(map(bool, map(kind.holds, folded))) / len(folded)
        if share >= kind.least and _is_likely(kind.field, folded):
            scored.append((share * kind.weight, share, kind))
    if not scored:
        return None
    score, share, kind = max(scored, key=lambda one: one[0])
    held = (text for text, plain in zip(texts, folded, strict=True) if kind.holds(plain))
    evidence = f"{round(100 * share)} % {kind.said}"
    return score, Proposal(title, kind.field, share, evidence, _examples(kind.field, held))


def _folded(texts: Sequence[str]) -> list[str]:
    return [" ".join(fold(clean(text)).split()) for text in texts]


def _is_likely(field: str, texts: Sequence[str]) -> bool:
    """What speaks against a field when all its cells are seen together."""
    if field == "data_agendamento":  # dates of birth lie a lifetime apart
        years = [date.year for text in texts if (date := parse_moment(text).date) is not None]
        return max(years) - min(years) < _LIFETIME_YEARS
    if field == "numero":  # a running number is nobody's house, and few have five digits
        if sum(len(text) > _HOUSE_DIGITS for text in texts) > len(texts) / 10:
            return False
        counted = [int(text) for text in texts if text.isdigit()]
        return len(counted) < 3 or any(after - before != 1 for before, after in pairwise(counted))
    if field == "nome_paciente":  # few names over and over are those of the clinic's staff
        return len(set(texts)) > len(texts) / 4
    return True
