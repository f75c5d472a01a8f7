"""Titles of columns: the names a stored field goes by, and which of them a title is, however it is put."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from normalizer.domain.text import clean, fold

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
