"""Advice on a cause, in one sentence, and messages without the names that only who runs the servers knows."""

from __future__ import annotations

import re
from typing import Final

from normalizer.domain.decision import Reason
from normalizer.queue.group import ABORTED, CRASHED

_FOR_REASON: Final = {
    Reason.ADDRESS_MISSING: "Peça o endereço ao paciente e preencha-o na planilha.",
    Reason.ADDRESS_JUNK: "O texto não traz endereço: corrija a célula de origem.",
    Reason.ADDRESS_FOREIGN: "Endereços de fora do Brasil não são normalizados; confira o texto.",
    Reason.STREET_UNKNOWN: "Informe a rua por inteiro, ou corrija aqui.",
    Reason.CITY_UNKNOWN: "Acrescente a cidade ao endereço, ou corrija aqui.",
    Reason.STATE_UNKNOWN: "Acrescente a UF ao endereço, ou corrija aqui.",
    Reason.NUMBER_AMBIGUOUS: "Há mais de um número possível: diga qual é o da casa.",
    Reason.DISTRICT_AMBIGUOUS: "Diga qual é o bairro.",
    Reason.ADDRESS_AMBIGUOUS: "O texto se lê de mais de um modo: escolha a leitura certa.",
    Reason.CITY_STATE_CONFLICT: "Confira se a cidade fica mesmo nesse estado.",
    Reason.CEP_STATE_CONFLICT: "O CEP é de outro estado: confira os dois.",
    Reason.TEXT_UNEXPLAINED: "Parte do texto não cabe em campo nenhum: confira.",
    Reason.TEXT_TOO_LONG: "Deixe na célula só o endereço.",
    Reason.DOCUMENT_MISSING: "Peça CPF ou RG ao paciente.",
    Reason.DOCUMENT_JUNK: "A célula não traz CPF nem RG: confira a coluna.",
    Reason.CPF_CHECK_DIGIT: "O CPF tem um algarismo trocado: confira com o paciente.",
    Reason.CPF_LENGTH: "O CPF precisa ter 11 algarismos.",
    Reason.CPF_MASKED: "O CPF veio com asteriscos: exporte-o por inteiro.",
    Reason.EXCEL_SCIENTIFIC: "Formate a coluna como Texto no Excel e exporte de novo: os algarismos se perderam.",
    Reason.RG_INVALID: "O RG precisa ter de 7 a 9 algarismos; mais, só com o órgão emissor (RS, BA, CE, MA).",
    Reason.DOCUMENT_AMBIGUOUS: "Diga qual número é o CPF e qual é o RG.",
    Reason.NOT_TEXT: "O sistema de origem gravou outra coisa que um texto: corrija-o lá, ou aqui.",
    Reason.DOCUMENT_OF_OTHERS: "O documento é da mãe, do responsável ou do titular: peça o do paciente.",
    Reason.DOCUMENT_OF_SEVERAL: "A célula traz vários pacientes: diga qual documento é deste.",
    Reason.NOT_GROUNDED: "A IA respondeu o que não está no texto, e nada foi gravado: corrija aqui.",
    Reason.MODEL_NO_ANSWER: "A IA não soube ler: corrija aqui.",
    Reason.MODEL_REFUSED: "A IA recusou o texto: corrija aqui.",
    Reason.NO_MODEL_KEY: "Falta a chave da IA: avise quem cuida do servidor; depois, “Reler o que está em revisão”.",
    Reason.MODEL_BUDGET: "O orçamento de hoje acabou: espere o dia virar e use “Reler o que está em revisão”.",
}
_FOR_FAILURE: Final = {
    ABORTED: "O sistema de origem cancelou o pedido: use “Tentar falhas de novo” se ainda for preciso.",
    CRASHED: "Este agendamento interrompeu o trabalho várias vezes: confira o texto, corrija aqui e avise o suporte.",
}
_ELSE: Final = "Use “Tentar falhas de novo”; se falhar outra vez, corrija aqui e avise quem cuida do servidor."


_VARIABLES: Final = {
    "OPENAI_API_KEY": "chave da IA",
    "DAILY_BUDGET_USD": "orçamento do dia",
    "MONGODB_URL": "o endereço configurado",
    "REDIS_URL": "o endereço configurado",
    "ARQ_QUEUE_NAMES": "as filas dos workers",
}
_VARIABLE: Final = re.compile("|".join(_VARIABLES))


def plain(text: str) -> str:
    """A message for operators: what a variable holds instead of its name."""
    return _VARIABLE.sub(lambda found: _VARIABLES[found[0]], text)


def for_cause(cause: str) -> str:
    """What an operator does about `motivo` or `erro`."""
    if cause in _FOR_FAILURE:
        return _FOR_FAILURE[cause]
    try:
        return _FOR_REASON[Reason(cause)]
    except (ValueError, KeyError):
        return _ELSE
