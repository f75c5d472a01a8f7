"""Columns and the stored fields they carry: the names of a field, which of them a title is, and the header.

A title is known however it is put; the header is the row that holds the most known ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final, TypeAlias

from normalizer.domain.text import clean, fold
from normalizer.imports.spreadsheet.table import BrokenRow, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable

KEY_FIELD: Final = "id_agendamento"
ADDRESS_FIELDS: Final = frozenset({"endereco_completo", "endereco_coleta", "cep"})
DOCUMENT_FIELDS: Final = frozenset({"documento_completo", "cpf", "rg"})
# Split into a date and a time field.
MOMENTS: Final = {
    "inicio_agendamento": ("data_agendamento", "hora_agendamento"),
    "momento_confirmacao": ("data_confirmacao", "hora_confirmacao"),
}
#: Columns that are part of a stored field's text and not stored by themselves: see `joining`.
ADDRESS_PARTS: Final = ("tipo_logradouro", "logradouro", "numero", "complemento", "bairro", "cidade", "estado")
#: Fields that one value fills: two columns cannot both be said to carry one.
SINGLE_FIELDS: Final = frozenset({KEY_FIELD, "cpf", "rg", "cep", "status", "numero", "estado", "nome_marca"})
#: Fields of which every column counts; of any other the most specific title does.
JOINED_FIELDS: Final = frozenset({"telefone", "observacoes", "tipo_consulta"})

#: A column that was said to carry nothing of use.
IGNORED: Final = "ignorar"
_TITLE_CHARS: Final = 200

# Stored field: the names it goes by, the most specific first, as `known_name` writes them or longer.
_NAMES: Final = {
    KEY_FIELD: "id do agendamento|codigo do agendamento|agendamento id|numero do agendamento|cd it agenda central",
    "nome_marca": "nome da marca|marca",
    "nome_unidade": "nome da unidade|unidade de atendimento|unidade|nome da clinica|clinica|filial",
    "status": "status do agendamento|situacao do agendamento|status da consulta|situacao|status",
    "inicio_agendamento": "data hora inicio agendamento|data hora inicio|inicio do agendamento|data hora agendamento"
    "|data hora agendada|dia hora|agendamento|agendado para|inicio"
    "|data hora consulta|data hora atendimento|data hora exame|data hora coleta|data hora marcada|data hora",
    "data_agendamento": "data do agendamento|data da agenda|data da consulta|data do atendimento|data do exame"
    "|data da coleta|data marcada|data agendada|data de inicio|data inicial|dia do agendamento|data|dia",
    "hora_agendamento": "hora do agendamento|horario do agendamento|hora da agenda|hora inicio|horario inicio"
    "|hora da consulta|horario da consulta|hora do atendimento|horario de atendimento|hora do exame|hora da coleta"
    "|hora marcada|hora agendada|hora inicial|horario|hora",
    "nome_paciente": "nome do paciente|paciente|nome do cliente|cliente|nome do beneficiario|beneficiario"
    "|nome completo do paciente|nome completo|nome|nome civil|nome social",
    "sobrenome": "sobrenome do paciente|sobrenome|ultimo nome",
    "tipo_consulta": "nomes dos exames|nome do exame|tipo de consulta|tipo da consulta|exame|exames|procedimento"
    "|procedimentos|servico|servicos|qual exame deseja fazer",
    "endereco_coleta": "endereco de coleta|local de coleta",
    "endereco_completo": "endereco do paciente|endereco do cliente|endereco residencial|endereco residencial completo"
    "|endereco completo|logradouro completo|endereco",
    "tipo_logradouro": "tipo do logradouro|tipo do endereco|tipo",
    "logradouro": "nome do logradouro|logradouro|rua|nome da rua|rua avenida|rua av",
    "numero": "numero da coleta|numero do endereco|numero do logradouro|numero da casa|numero da residencia"
    "|numero do imovel|numero complemento|numero",
    "complemento": "complemento da coleta|complemento do endereco|complemento|complemento referencia",
    "bairro": "bairro da coleta|bairro do paciente|nome do bairro|bairro do endereco|bairro|bairro distrito",
    "cidade": "cidade da coleta|municipio da coleta|cidade do paciente|cidade do endereco|nome da cidade"
    "|nome do municipio|cidade uf|municipio uf"
    "|cidade estado|cidade|municipio|localidade",
    "estado": "uf da coleta|estado da coleta|uf do endereco|estado do endereco|codigo uf|estado uf|uf estado"
    "|sigla uf|uf|estado",
    "cep": "cep da coleta|cep do paciente|cep do endereco|numero do cep|codigo do cep|cep|codigo postal",
    "numero_convenio": "numero do convenio|codigo do convenio|convenio",
    "nome_convenio": "nome do convenio|plano de saude|plano",
    "carteira_convenio": "nr carteira|carteira convenio|numero da carteira|carteirinha|numero da carteirinha",
    "canal_confirmacao": "canal de confirmacao",
    "momento_confirmacao": "data hora confirmacao",
    "data_confirmacao": "data da confirmacao",
    "hora_confirmacao": "hora da confirmacao",
    "observacoes": "observacao|observacoes|obs",
    "documento_completo": "documento s do paciente|documentos do paciente|documento do cliente|documento completo"
    "|documento de identificacao|documento de identidade|documento cpf rg|cpf rg|rg cpf|cpf ou rg|rg ou cpf"
    "|numero do documento|documento|documentos",
    "tipo_documento": "tipo do documento|documento tipo|modelo do documento|tipo documento do paciente|tipo do rg",
    "cpf": "cpf do paciente|cpf do cliente|cpf do beneficiario|documento cpf|numero do cpf|cpf cnpj|cpf cic"
    "|cic cpf|cpf|c p f|cic",
    "digito": "digito verificador|digito do cpf|digito|dig|dv|dv cpf|cpf dv",
    "rg": "rg do paciente|rg do cliente|documento rg|numero do rg|numero da identidade|carteira de identidade"
    "|cedula de identidade"
    "|rg orgao emissor|rg orgao expedidor|rg uf|registro geral|identidade|rg|r g",
    "telefone": "contato s do paciente|contatos do paciente|celular do paciente|telefone do paciente|celular do cliente"
    "|telefone celular|celular|whatsapp|whatsapp com ddd|celular whatsapp|celular com ddd|telefone com ddd"
    "|telefone do cliente|telefone residencial|telefone fixo|telefone de contato|numero de telefone|numero do celular"
    "|telefone 1|telefone 2|celular 1|celular 2|telefone|telefones|contato|contatos",
    "carro": "carro|veiculo",
}
# Columns of the deployed export and others that are read and not stored: known, so that they count in a header.
_IGNORED_NAMES: Final = (
    "codigo da unidade|id da agenda|codigo da sala|nome da sala|data hora fim agendamento|codigos dos exames"
    "|total exames|categoria|crm pedido medico|canal de efetivacao|usuario marcacao|data da efetivacao"
    "|status confirmacao|nascimento|data de nascimento|hora fim|hora termino|hora final|data hora fim"
    "|data hora termino|data fim|data final|fim|termino|carimbo de data hora"
    "|erro|como corrigir"  # our own, in the sheet to correct
)
_SHORT: Final = {
    **dict.fromkeys(["no", "n", "nr", "nro", "num"], "numero"),
    **dict.fromkeys(["de", "do", "da", "dos", "das", "o", "a", "e", "s", "p", "para", "ds", "desc", "sg"], ""),
    **dict.fromkeys(["cd", "cod"], "codigo"),
    **dict.fromkeys(["doc", "docto"], "documento"),
    **dict.fromkeys(["end", "ender"], "endereco"),
    **dict.fromkeys(["tel", "fone"], "telefone"),
    "nm": "nome",
    "dt": "data",
    **dict.fromkeys(["hr", "horario"], "hora"),
    "tp": "tipo",
    "pac": "paciente",
    "cel": "celular",
    "nasc": "nascimento",
    "agend": "agendamento",
    "atend": "atendimento",
    "resp": "responsavel",
    "logr": "logradouro",
    **dict.fromkeys(["compl", "complem"], "complemento"),
    "est": "estado",
    "mun": "municipio",
}
# Titles that end so were cut in two, one half in the row below: "Nome do" over "Paciente".
_OPEN_ENDS: Final = frozenset({"de", "do", "da", "dos", "das", "e"})
# Whose column it is when it is not the patient's.
_OF_OTHERS: Final = (
    "responsavel mae pai titular conjuge acompanhante medico medica profissional dentista unidade clinica hospital "
    "empresa comercial trabalho solicitante emergencia laboratorio expedidor emissor emissao nascimento motorista "
    "coletor usuario"
)
_OTHERS: Final = frozenset(_OF_OTHERS.split(" "))
# Whose column it is anyway, and whose appointment: they may stand before what the column holds, or be left out.
_PATIENTS: Final = frozenset({"paciente", "cliente", "beneficiario"})
_APPOINTMENTS: Final = frozenset({"agenda", "agendamento", "consulta", "atendimento", "exame", "coleta"})
_OF_ADDRESSES: Final = frozenset({"endereco", "residencial", "residencia"})
_FEWEST_OF_A_PREFIX: Final = 3
_PUNCTUATION: Final = re.compile(r"[^0-9a-z]+")
ASIDE: Final = re.compile(r"\([^()]*\)")
_HUMP: Final = re.compile(r"(?<=[a-zà-ÿ])(?=[A-ZÀ-Þ])")
_AND_NUMBER: Final = re.compile(
    r"(?<=\w)(?:\s*[,/+]\s*|\s+(?:e|com)\s+)(?:o\s+)?(?:n[uú]mero|n[º°o.]{1,2})\s*$", re.IGNORECASE
)
_FIGURES: Final = re.compile("[0-9]{3}")  # no known name has as many
_LOST: Final = re.compile("(?<=\\w)[?\ufffd]+(?=\\w)")


def normalize_title(title: object) -> str:
    """`Documento(s) do Paciente` → `documento s do paciente`."""
    return _normalized(title) if isinstance(title, str) and len(title) <= _TITLE_CHARS else ""


@lru_cache(maxsize=8192)  # every cell of a hundred rows is looked at as a title, by each dialect a csv may be of
def _normalized(title: str) -> str:
    return _PUNCTUATION.sub(" ", fold(clean(title)).translate(_ORDINALS)).strip()


_ORDINALS: Final = str.maketrans({"º": "o", "°": "o", "ª": "a"})


@lru_cache(maxsize=4096)
def known_name(normalized: str) -> str:
    """A normalized title as names are compared: short forms written out, articles and plurals dropped."""
    words = normalized.split()
    if not words or words[-1] in _OPEN_ENDS:
        return ""
    written = [_SHORT.get(word, word) for word in words]
    return " ".join(word[:-1] if len(word) > 4 and word.endswith("s") else word for word in written if word)


FIELD_OF_NAME: Final = {known_name(name): field for field, names in _NAMES.items() for name in names.split("|")}
IGNORED_NAMES: Final = frozenset(map(known_name, _IGNORED_NAMES.split("|")))
_OF_AN_ADDRESS: Final = frozenset({*ADDRESS_PARTS, "cep"})
RANK: Final = {name: position for position, name in enumerate(FIELD_OF_NAME)}


def name_of(title: object) -> str:
    """The known name a title stands for, however it is put; empty for none."""
    if not isinstance(title, str) or _FIGURES.search(ASIDE.sub("", title)):
        return ""
    return _name_of(title) if len(title) <= _TITLE_CHARS else _name_of.__wrapped__(title)


@lru_cache(maxsize=8192)
def _name_of(title: str) -> str:
    names = map(known_name, map(normalize_title, _spellings(title)))
    return next((name for name in names if name in FIELD_OF_NAME or name in IGNORED_NAMES), None) or _guessed(title)


def _spellings(title: str) -> Iterator[str]:
    """A title as it stands, then as the known names are put: `cpfPaciente`, `CPF nº`, `Endereço (bairro)`."""
    yield title
    if is_of_others(title):
        return
    yield _AND_NUMBER.sub("", title)
    yield _part_of_an_address(_meant(title))
    plain = ASIDE.sub(" ", title)
    yield plain
    words = normalize_title(_HUMP.sub(" ", plain)).split()
    if not words or words[-1] in _OPEN_ENDS:
        return
    yield " ".join(words) if any(len(word) > 1 for word in words) else "".join(words)
    meant = _meant(plain)
    if meant[0] in _PATIENTS | _APPOINTMENTS:
        yield " ".join([*meant[1:], meant[0]])
    if meant[-1] == "numero":
        yield " ".join(["numero", *meant[:-1]])
    if (rest := [word for word in meant if word not in _PATIENTS]) != ["numero"]:
        yield " ".join(rest)


def _meant(title: str) -> list[str]:
    """The words of a title that say something, written out."""
    words = normalize_title(_HUMP.sub(" ", title)).split()
    return [meant for word in words if (meant := _SHORT.get(word, word))] or [""]


def _part_of_an_address(words: list[str]) -> str:
    """`end_bairro`, `Endereço: bairro` → `bairro`."""
    part = " ".join(word for word in words if word not in _OF_ADDRESSES)
    return part if words[0] == "endereco" and FIELD_OF_NAME.get(known_name(part)) in _OF_AN_ADDRESS else ""


def _guessed(title: str) -> str:
    """The one name whose letters are left: of a title whose accents were lost, or of two that say the same."""
    if _LOST.search(title):
        left = _LOST.sub("\0", title).split("\0")
        shape = re.compile("[a-z ]{0,2}".join(re.escape(normalize_title(part)) for part in left))
        found = {name for name in FIELD_OF_NAME if shape.fullmatch(name)}
    else:
        found = {known_name(normalize_title(part)) for part in title.split("/")} if "/" in title else set()
    fields = {FIELD_OF_NAME.get(name) for name in found}
    return min(found, key=RANK.__getitem__) if len(fields) == 1 and None not in fields else ""


def field_of(title: object) -> str | None:
    """The stored field, or part of one, that a title is known to carry."""
    return FIELD_OF_NAME.get(name_of(title))


def is_of_others(title: object) -> bool:
    """Whether a title says that its column is somebody else's: the mother's, the clinic's, the doctor's."""
    return not _OTHERS.isdisjoint(known_name(normalize_title(title)).split())


def without_prefix(cells: Sequence[object]) -> Sequence[object]:
    """Titles without the patient before each of them: `PAC_NOME`, `PAC_NUMERO`, `PAC_CEP`."""
    heads = [str(cell).split(None, 1) if isinstance(cell, str) else [] for cell in map(_apart, cells)]
    same = Counter(head[0] for head in heads if len(head) > 1 and _SHORT.get(head[0], head[0]) in _PATIENTS)
    prefix, count = same.most_common(1)[0] if same else ("", 0)
    if count < _FEWEST_OF_A_PREFIX:
        return cells
    return [head[1] if len(head) > 1 and head[0] == prefix else cell for head, cell in zip(heads, cells, strict=True)]


def _apart(cell: object) -> object:
    return normalize_title(cell) if isinstance(cell, str) else cell


#: What a row of normalized titles means beyond the known names: title to field, or `IGNORED`.
Also: TypeAlias = Callable[[Sequence[str]], Mapping[str, str]]

HEADER_SEARCH_ROWS: Final = 100
_MIN_SCORE: Final = 2
_TOLD_SCORE: Final = 2  # a title that was explained makes a header by itself
_VALUE: Final = re.compile(r"[0-9]{3}|@|[0-9]{1,2}[/:][0-9]{2}")


@dataclass(frozen=True, slots=True)
class Header:
    """Where the header stands (1-based row) and which column (0-based) carries which stored field.

    Several columns may carry one field: parts of an address, equal titles, several phones.

    Attributes:
        titles: as written, of every column.
        unknown: titles of columns nobody knows.
        told: titles that are read by what was said of them, with their field.
        passed_over: titles that could be it, with the more specific one that was taken instead.
        beside: the headers of tables that stand to the right in the same rows.
        score: how many titles of the row are known, less what reads like a value.
    """

    row: int
    columns: dict[int, str]
    titles: tuple[str, ...]
    unknown: tuple[str, ...]
    told: Mapping[str, str] = field(default_factory=dict)
    passed_over: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[Header, ...] = ()
    score: int = 0

    def title_of(self, field: str) -> str | None:
        """The title as written of the column that carries `field`."""
        return next((self.titles[i] for i, name in self.columns.items() if name == field), None)

    @property
    def fields(self) -> frozenset[str]:
        """The stored fields some column carries."""
        parts = frozenset(self.columns.values())
        return parts | {"endereco_completo"} if "logradouro" in parts else parts

    @property
    def address_field(self) -> str:
        """The field that the parts of an address belong to."""
        found = set(self.columns.values())
        parts = (self.titles[index] for index, carried in self.columns.items() if carried in ADDRESS_PARTS)
        of_collection = any("coleta" in normalize_title(title) for title in parts)
        own = of_collection or found.isdisjoint({"endereco_completo", "logradouro"})
        return "endereco_coleta" if own and "endereco_coleta" in found else "endereco_completo"

    @property
    def general_address(self) -> str | None:
        """The title of a plain “Endereço” beside one of collection, which is the more specific of the two."""
        title = self.title_of("endereco_completo")
        beside = "endereco_coleta" in self.columns.values() and name_of(title) == "endereco"
        return title if beside else None

    def is_of(self, cells: Sequence[object]) -> bool:
        """Whether a row below is surely one of data: addresses or documents stand where this header says so."""
        telling = [index for index, carried in self.columns.items() if carried in ADDRESS_FIELDS | DOCUMENT_FIELDS]
        values = [cells[index] for index in telling if index < len(cells)]
        return any(_is_value(value) for value in values) and self.row > 0

    def sources(self) -> dict[str, list[list[int]]]:
        """Per field its columns: titles in one list mean the same, and the filled one counts; lists are joined."""
        found: dict[str, dict[str, list[int]]] = {}
        for index, carried in self.columns.items():
            title = self.titles[index]
            name = "" if title in self.told or carried in JOINED_FIELDS else name_of(title)
            found.setdefault(carried, {}).setdefault(name or normalize_title(title), []).append(index)
        return {carried: list(columns.values()) for carried, columns in found.items()}

    def is_repeated_by(self, cells: Sequence[object]) -> bool:
        """Whether a data row is the header once more, as page breaks leave it."""
        return all(index < len(cells) and cells[index] == self.titles[index] for index in self.columns)


def find_header(rows: Iterable[tuple[int, Sequence[object]]], also: Also | None = None) -> Header | None:
    """Return the row that holds the most known titles among the first ones, or None when no row holds two of them.

    The first of equals wins, and any that has data below it, of which none may be lost to another table's. Titles cut
    over two rows are read together where that makes more of them known. One title alone is a header where nothing else
    could be one.
    """
    best: Header | None = None
    best_score = _MIN_SCORE - 1
    single: list[Header] = []
    above: Sequence[object] = ()
    for number, cells in islice(rows, HEADER_SEARCH_ROWS):
        if isinstance(cells, BrokenRow):
            continue
        if best is not None and best.is_of(cells):
            break
        header = header_at(number, cells, also, above)
        if header.score == 1 and (sum(map(_is_filled, cells)) == 1 or _is_titled(header, cells)):
            single.append(header)
        if header.score > best_score:
            best, best_score = header, header.score
        header = header_at(number, _over(above, cells), also, above)
        if header.score > best_score + (not _columns_of_others(above, cells)):
            best, best_score = header, header.score
        above = cells if any(map(_is_filled, cells)) else ()
    return best if best is not None or len(single) != 1 else single[0]


def header_within(number: int, cells: Sequence[object], above: Sequence[object] = ()) -> Header | None:
    """A row of data read as the header of a second table, where it can be nothing else: titles alone, known ones."""
    header = header_at(number, cells, None, () if any(map(_is_value, above)) else above)
    filled = sum(map(_is_filled, cells))
    useful = header.fields & (ADDRESS_FIELDS | DOCUMENT_FIELDS)
    return header if useful and header.score >= max(_MIN_SCORE, (filled + 1) // 2) else None


def _is_titled(header: Header, cells: Sequence[object]) -> bool:
    """Whether a row of one known title may be the header: words alone, and that one useful."""
    useful = header.fields & (ADDRESS_FIELDS | DOCUMENT_FIELDS)
    return bool(useful) and all(isinstance(cell, str) and not _is_value(cell) for cell in cells if _is_filled(cell))


def _over(above: Sequence[object], cells: Sequence[object]) -> Sequence[object]:
    """Titles cut in two: each with what stands above it; alone where the two make no known name."""
    return [_joined(above[index] if index < len(above) else None, cell) for index, cell in enumerate(cells)]


def _joined(upper: object, lower: object) -> object:
    if not (isinstance(upper, str) and upper.strip()):
        return lower
    if not (isinstance(lower, str) and lower.strip()):
        return upper
    both = f"{upper.strip()} {lower.strip()}"
    return both if field_of(both) or not field_of(lower) else lower


def _is_filled(cell: object) -> bool:
    return bool(cell.strip()) if isinstance(cell, str) else cell is not None


def header_at(number: int, cells: Sequence[object], also: Also | None = None, above: Sequence[object] = ()) -> Header:
    """That row read as the header, under the one `above`."""
    names = [normalize_title(cell) for cell in cells]
    meanings = also(names) if also is not None else {}
    told = {index: meanings[name] for index, name in enumerate(names) if name in meanings}
    others = _columns_of_others(above, cells)
    bare = enumerate(without_prefix(cells))
    known = {index: name for index, cell in bare if index not in told and (name := name_of(cell))}
    fields = {
        index: FIELD_OF_NAME[name] for index, name in known.items() if name in FIELD_OF_NAME and index not in others
    }
    blocks = _side_by_side({at: known[at] for at in fields}, [at for at, name in enumerate(names) if not name])
    titles = tuple("" if cell is None or isinstance(cell, Unreadable) else str(cell) for cell in cells)
    said = {titles[index]: carried for index, carried in told.items()}
    first, *beside = [_columns(told if at == 0 else {}, block, known) for at, block in enumerate(blocks)]
    columns, passed = first
    read = {*told, *columns, *(index for more, _ in beside for index in more)}
    read |= {index for index, name in known.items() if name in IGNORED_NAMES} | passed.keys()
    unknown = tuple(titles[index] for index, name in enumerate(names) if name and index not in read)
    score = _TOLD_SCORE * len(told) + sum(index not in told for index in read) - sum(map(_is_value, cells))
    over = {titles[index]: titles[taken] for index, taken in passed.items()}
    tables = tuple(Header(number, more, titles, ()) for more, _ in beside)
    return Header(number, columns, titles, unknown, said, over, tables, score)


def _columns_of_others(above: Sequence[object], cells: Sequence[object]) -> set[int]:
    """Columns under a group title of somebody else: "Responsável" over "Nome" and "CPF"."""
    if sum(map(_is_filled, above)) >= sum(map(_is_filled, cells)):
        return set()
    found: set[int] = set()
    group: object = None
    for index in range(len(cells)):
        group = above[index] if index < len(above) and _is_filled(above[index]) else group
        if is_of_others(group):
            found.add(index)
    return found


def _side_by_side(known: Mapping[int, str], untitled: Sequence[int]) -> list[dict[int, str]]:
    """The columns by table: one begins behind an untitled column, or where all titles come again."""
    ends = pairwise([-1, *untitled, max(known, default=0) + 1])
    parted = [{index: name for index, name in known.items() if after < index < end} for after, end in ends]
    if len(parted := list(filter(None, parted))) > 1 and all(map(_is_a_table, parted)):
        return parted
    names, indices = list(known.values()), list(known)
    step = next((at for at in range(2, len(names) // 2 + 1) if _comes_again(names, at)), len(names) or 1)
    return [
        {index: known[index] for index in indices[start : start + step]} for start in range(0, len(names) or 1, step)
    ]


def _is_a_table(names: Mapping[int, str]) -> bool:
    fields = {FIELD_OF_NAME[name] for name in names.values()}
    return "nome_paciente" in fields and not fields.isdisjoint(ADDRESS_FIELDS | DOCUMENT_FIELDS | {"logradouro"})


def _comes_again(names: Sequence[str], width: int) -> bool:
    whole = len(names) % width == 0 and list(names) == [*names[:width]] * (len(names) // width)
    return whole and "nome_paciente" in {FIELD_OF_NAME[name] for name in names[:width]}


def _columns(
    told: Mapping[int, str], block: Mapping[int, str], names: Mapping[int, str]
) -> tuple[dict[int, str], dict[int, int]]:
    """The field of each column that is read, and the columns passed over with the one that was taken instead."""
    columns = {index: carried for index, carried in told.items() if carried != IGNORED}
    passed: dict[int, int] = {}
    same: dict[str, list[int]] = {}
    for index, name in block.items():
        if FIELD_OF_NAME[name] not in columns.values():
            same.setdefault(FIELD_OF_NAME[name], []).append(index)
    for carried, indices in same.items():
        taken = min(indices, key=lambda index: RANK[names[index]])
        for index in indices:
            if carried in JOINED_FIELDS or names[index] == names[taken]:
                columns[index] = carried
            else:
                passed[index] = taken
    passed = dict(sorted(passed.items()))
    return _settled(_without_loose_parts(dict(sorted(columns.items()))), names), passed


def _without_loose_parts(columns: dict[int, str]) -> dict[int, str]:
    """Numbers, districts and cities are an address's only beside a street; a check digit, beside its number."""
    found = set(columns.values())
    loose = set() if found & {"logradouro", "endereco_completo", "endereco_coleta"} else set(ADDRESS_PARTS)
    loose |= set() if found & DOCUMENT_FIELDS else {"digito", "tipo_documento"}
    loose |= set() if "nome_paciente" in found else {"sobrenome"}
    return {index: carried for index, carried in columns.items() if carried not in loose}


def _settled(columns: dict[int, str], names: Mapping[int, str]) -> dict[int, str]:
    """Titles that mean what their neighbours make of them: “Tipo” of a street or a document, a lone “Convênio”."""
    settled = dict(columns)
    for index, name in names.items():
        if name == "tipo" and "documento_completo" in (columns.get(index - 1), columns.get(index + 1)):
            settled[index] = "tipo_documento"
        elif name == "tipo" and columns.get(index + 1) != "logradouro":
            settled.pop(index, None)
        elif name == "convenio" and index in columns and "nome_convenio" not in columns.values():
            settled[index] = "nome_convenio"
    return settled


def _is_value(cell: object) -> bool:
    """Whether a cell reads like data, not like a title."""
    if isinstance(cell, str):
        return _VALUE.search(ASIDE.sub("", cell)) is not None
    return cell is not None and cell != "" and not isinstance(cell, Unreadable)
