"""What may leave the machine: an address text without the phones, e-mails, documents and names around it.

Only what is recognisable by its shape or its label is taken out. Everything taken out is no part of an address, so the
answer can still be grounded against the whole text. The one run of eight digits that may stay is a CEP.
"""

from __future__ import annotations

import re

_EMAIL = re.compile(r"\S+@\S+")
_LABELLED_NUMBER = re.compile(
    r"""\b(?:cpf|rg|cnh|cns|cnpj|rne|rnm|pis|nis|sus|identidade|documento|doc|registro|
         tel(?:efone|\.)?s?|fones?|cel(?:ular)?(?:es)?|whats(?:app)?|wpp|zap|ramal|recado|contatos?|ligar|
         conv[eê]nio|carteir(?:a|inha)|matr[ií]cula|prontu[aá]rio|benefici[aá]rio)
        \b[^\w\n]*(?:n[º°.o]*[^\w\n]*)?
        \(?\+?\d[\d\s().\-/–]*\d[\dxX]?""",
    re.IGNORECASE | re.VERBOSE,
)
# A number with a country or area code, a mobile, or four digits, hyphen, four: +55 11 98765-4321, (11) 3456-7890.
_PHONE = re.compile(
    r"""(?<![\w.,/-])(?:\+\s?55[\s.-]*)?(?:\(\s*0?\d{2}\s*\)[\s.-]*|0?\d{2}[\s.-]+(?=9?\s?\d{4}[\s.-]\d{4}))?
        (?:9[\s.-]?\d{4}[\s.-]?\d{4}|[2-5]\d{3}[-–.]\d{4})(?![\d-])""",
    re.VERBOSE,
)
_PHONE_WITH_AREA = re.compile(r"(?:\+\s?55[\s.-]*)?\(\s*0?\d{2}\s*\)[\s.-]*\d{4,5}[\s.-]?\d{4}(?!\d)")
# Seven digits or more, grouped or not: a document, a phone, a card. (The CEP has been set aside by then.)
_LONG_RUN = re.compile(r"(?<!\d)\d(?:[.\-/–]?\d){6,}(?:-?[xX](?!\w))?")
_EXCEL_FLOAT = re.compile(r"(?<!\d)(\d{7,8})\.0(?!\d)")
_CEP_SPELLINGS = (
    re.compile(r"\bcep[^\w\n]{0,4}\d(?:[.\- –]?\d){7}(?![\d-])", re.IGNORECASE),
    re.compile(r"(?<![\d.\-/(])\d{2}\.?\d{3}\s?[-–]\s?\d{3}(?![\d-])"),
)
_BARE_CEP = re.compile(r"(?<![\w.\-/(])\d{8}(?![\w-])")

_WORD = r"[^\W\d_]+(?:['’.][^\W\d_]+)*\.?"
_STREET = (
    r"(?!(?:rua|r|av|avenida|al|alameda|tv|trav|travessa|estr|estrada|rod|rodovia|p[cç]a|pra[cç]a|largo|lgo|"
    r"vila|jd|jardim|quadra|qd|lote|casa|apto?|bloco|bl|n|no|nº|num|endere[cç]o|end|cep)\b)"
)
_LABELLED_NAME = re.compile(
    r"\b(?:(?:paciente|nome(?:\s+d[aeo]\s+\w+)?|respons[aá]vel|resp|m[aã]e|pai|titular|solicitante|cliente|contato)\s*[:=]\s*|"
    r"(?:a/c|aos\s+cuidados\s+d[eoa]|falar\s+com|procurar(?:\s+por)?|chamar(?:\s+por)?|tratar\s+com|perguntar\s+por|"
    r"moradora?:)\s+(?:[oa]\s+)?)"
    rf"{_STREET}{_WORD}(?:\s+{_STREET}{_WORD}){{0,5}}",
    re.IGNORECASE,
)
_BLANKS = re.compile(r"[^\S\n]{2,}")


def outgoing(text: str) -> str:
    """Return `text` without e-mails, labelled names, phones and runs of seven or more digits other than its CEP."""
    text = _EXCEL_FLOAT.sub(r"\1", text)
    for pattern in (_EMAIL, _LABELLED_NAME):
        text = pattern.sub(" ", text)
    start, end = _cep_span(text)
    kept = _without_numbers(text[:start]) + text[start:end] + _without_numbers(text[end:])
    return _BLANKS.sub(" ", kept).strip()


def _without_numbers(text: str) -> str:
    for pattern in (_LABELLED_NUMBER, _PHONE_WITH_AREA, _PHONE, _LONG_RUN):
        text = pattern.sub(" ", text)
    return text


def _cep_span(text: str) -> tuple[int, int]:
    """Where the CEP stands; an empty span at the end if there is none. Bare digits count only when nothing else can."""
    for spelling in _CEP_SPELLINGS:
        if found := spelling.search(text):
            return found.span()
    bare = list(_BARE_CEP.finditer(_LABELLED_NUMBER.sub(lambda found: "#" * len(found[0]), text)))
    return bare[0].span() if len(bare) == 1 else (len(text), len(text))
