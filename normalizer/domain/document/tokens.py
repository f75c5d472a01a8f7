"""A document text cut into what matters: labels, numbers by shape, separators. No judgement is passed here.

Every pattern is linear: separators and digit groups have fixed counts, the one open run cannot be split in two ways.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from normalizer.domain.text import clean


class Label:
    """What a word announces about the numbers after it. Plain integers: they are compared several times a token."""

    NONE: Final = 0
    CPF: Final = 1
    RG: Final = 2
    BOTH: Final = 3  # "CPF/RG": length and check digits tell them apart
    OTHER: Final = 4  # a number that is neither: CNH, CNS, PIS, título, prontuário …
    PHONE: Final = 5
    RECORD: Final = 6  # "registro", "carteira": OTHER, unless "geral" or "identidade" follows
    ANY: Final = 7  # "documento": ends the scope of the label before
    MISSING: Final = 8  # "não informado": the label before announces nothing
    GENERAL: Final = 9  # "registro geral"
    NATIONAL: Final = 10  # "carteira de identidade nacional": its number is the CPF (Decreto 10.977/2022)
    ORDER: Final = 11  # words to a machine: what their sentence says is nobody's document
    OTHERS: Final = 13  # "mãe", "responsável", "titular": whose document it is when it is not the patient's
    PATIENT: Final = 14  # "paciente": his own again
    IDENTITY: Final = 12  # "ID": an RG when the number is written or issued as one, else somebody's own numbering


def _table(**words: str) -> dict[str, int]:
    return {word: getattr(Label, name) for name, listed in words.items() for word in listed.split()}


LABELS: Final = _table(
    CPF="cpf cpfs cic cin",
    RG="rg rgs erg ident identidade identidades identid idt ci cedula",
    OTHER="""cnh habilitacao motorista permissao cns sus saude pis pasep nis nit inss titulo eleitor zona secao cnpj rne
        rnm crnm passaporte passport estrangeiro dni ctps trabalho serie certidao cert cn nie nascimento nasc nascido
        nascida dn
        matricula matr livro folha termo reservista militar certificado prontuario pront convenio plano carteirinha
        unimed amil hapvida sulamerica ipasgo cassi geap crm crp crea coren cro oab crf cref crefito cep guia senha
        protocolo codigo cod pedido autorizacao atendimento agendamento conta agencia nota nf data emissao expedicao
        expedido expedida exp validade valido val idade leito quarto ra siape cadunico dnv obito processo placa
        renavam profissional conv sisreg sinan cnes rani cac ordem exame amostra
        ficha comanda cliente laudo boleto fatura recibo aluno lote inscricao apolice beneficiario""",
    PHONE="""tel tels telefone telefones fone fones cel celular celulares whatsapp whats wpp zap contato contatos
        recado recados fax ramal""",
    RECORD="registro reg carteira cart cartao",
    ANY="documento documentos doc docs",
    MISSING="""nao sem nada consta branco confirmar informado informar informada null nan na none vazio pendente ausente
        ignorado isento perdeu perdido perdida trara possui nd""",
    ORDER="responda retorne devolva escreva instrucao instrucoes prompt json",
    IDENTITY="id",
    OTHERS="""mae maes pai pais mamae papai genitor genitora responsavel resp titular esposa esposo marido mulher
        conjuge companheiro companheira avo tia tio irmao irma madrasta padrasto tutor tutora curador curadora
        acompanhante sogra sogro procurador procuradora""",
    PATIENT="paciente pac proprio propria menor crianca bebe dependente",
    GENERAL="geral",
    NATIONAL="nacional",
)

# `cpf` and `rg` are the written masks, `loose` looks like a telephone or a CEP unless a label says RG, `other` is a
# date, a telephone, a CNPJ, a PIS or a card, `run` is any other number (80.247.461.822, 29,408,702, 12345678.0).
_TOKEN: Final = re.compile(
    r"""
      (?P<word> [a-z](?:\.[ ]?[a-z]){1,3}(?![a-z]) | c[ ]p[ ]f(?![a-z]) | r[ ]g(?![a-z]) | [a-z]+ )
    | (?=[0-9(+])  # no number begins otherwise: blanks and signs are not tried against two dozen forms
      (?:
          (?P<cpf> (?:[0-9]{3}(?:[ ]?[.,/_-]{1,2}[ ]?|[ ])){3}[0-9]{2}(?![0-9])
                 | [0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}(?=[0-9]{1,2}\.[0-9]{3}\.[0-9]{3})
                 | [0-9]{9}[ ]?[/-]{1,2}[ ]?[0-9]{2}(?![0-9])
                 | [0-9]{9}[ ][0-9]{2}(?![0-9]|[ ]?[./,-][0-9]|[ ][0-9])
                 | (?:[0-9][ ]){10}[0-9](?![0-9]) )
        | (?P<scientific> [0-9]{1,3}(?:[.,][0-9]{1,15})?e\+?[0-9]{1,3}(?![0-9a-z]) )
        | (?P<other> (?<![0-9])[0-9]{6}[ .-]?[0-9]{2}[ .-]?[0-9]{2}[ .-]?(?:19|20)[0-9]{2}[ .-]?[0-9][ .-]?[0-9]{5}
                     [ .-]?[0-9]{3}[ .-]?[0-9]{7}[ .-]?[0-9]{2}(?![0-9])
                 | [0-3]?[0-9][ ]?[/.-][ ]?[01]?[0-9][ ]?[/.-][ ]?(?:[12][0-9])?[0-9]{2}(?![0-9])
                 | [12][0-9]{3}-[01][0-9]-[0-3][0-9](?![0-9])
                 | [0-9]{2}\.?[0-9]{3}\.?[0-9]{3}/[0-9]{4}-?[0-9]{2}
                 | [0-9]{3}\.[0-9]{5}\.[0-9]{2}[/.-][0-9](?![0-9])
                 | (?:[0-9]{3,4}[ .-])?[0-9]{4}[ .-][0-9]{4}[ .-][0-9]{4}(?![0-9])
                 | (?:\+?55[ .-]?)?\(0?[0-9]{2}\)[ ]?(?:9[ .-])?[0-9]{4,5}[ .-]?[0-9]{4}(?![0-9])
                 | \+55[ .-]?[0-9]{2}[ .-]?(?:9[ .-])?[0-9]{4,5}[ .-]?[0-9]{4}(?![0-9])
                 | [0-9]{2}[ .-](?:9[ .-])?[0-9]{4,5}[ .-][0-9]{4}(?![0-9])
                 | [0-9]{2}[ ]9[0-9]{8}(?![0-9]) )
        | (?P<loose> [0-9]{4,5}-[0-9]{4}(?![0-9]) | [0-9]{2}\.?[0-9]{3}-[0-9]{3}(?![0-9]) )
        | (?P<rg> [0-9]{1,2}[.,]?[0-9]{3}[.,]?[0-9]{3}
                  (?: [./-]?x(?![a-bd-qt-z]) | [/-][0-9](?![0-9/]) | [ ]?-[ ]?[0-9x](?![0-9a-z]) )
                 | [0-9]{2}\.[0-9]{3}\.[0-9]{3}[ ][0-9](?![.,/-]?[0-9a-z]|[ ]vias?(?![a-z]))
                 | (?:[0-9][ ]){6,8}[0-9x](?![0-9a-z]|[ ][0-9])
                 | [0-9]{1,3}[ ][0-9]{3}[ ][0-9]{3}(?:(?:[ ]|[ ]?-[ ]?)[0-9x](?![0-9a-z]))?(?![.,-]?[0-9]) )
        | (?P<run> [0-9]{1,3}(?:,[0-9]{3}){2,3}(?![0-9])
                 | [0-9]+(?:[.-]{1,2}[0-9]+)*(?:[ ./-]?x(?![a-bd-qt-z]) | ,00?(?![0-9]))? )
      )
    | (?P<masked> \x00 )
    | (?P<break> [,;|/()\n] | [ ]-[ ] )
    """,
    re.VERBOSE,
)
scan: Final = _TOKEN.finditer

_CHUNK: Final = re.compile(r"[0-9x*•#?./-]+")
_MASK: Final = re.compile(r"[*•]|xx|##|\?\?")
_EMPHASIS: Final = re.compile(r"[*•]{1,2}([0-9][0-9./-]*x?)\*{0,2}")  # bold in chats, or a list's bullet
_DASHES: Final = str.maketrans(dict.fromkeys("‐‑‒–—―−", "-"))


def prepare(text: str) -> str:
    """Return `text` clean, folded to lower-case ASCII where it can be, with masked numbers as one NUL each."""
    text = clean(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text.translate(_DASHES))
        text = "".join(char for char in text if not unicodedata.combining(char))
    text = text.lower()
    return _CHUNK.sub(_hide_mask, text) if _MASK.search(text) else text


def _hide_mask(match: re.Match[str]) -> str:
    chunk = match.group()
    if not _MASK.search(chunk) or not any("0" <= char <= "9" for char in chunk):
        return chunk
    emphasis = _EMPHASIS.fullmatch(chunk)
    return emphasis[1] if emphasis else " \x00 "


def label_of(word: str) -> int:
    """What a folded word announces; dotted spellings (c.p.f) and a CPF glued to another word count."""
    label = LABELS.get(word)
    if label is None and not word.isalpha():
        word = word.replace(".", "").replace(" ", "")
        label = LABELS.get(word)
    if label is None and len(word) > 3 and (word.startswith("cpf") or word.endswith("cpf")):
        label = Label.CPF
    return label or Label.NONE
