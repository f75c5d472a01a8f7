"""Baseline of savings: the replaced worker's one call per field, long instructions, indented JSON back.

Used by `benchmarks.peers.seed` to really make those calls, and by the demo to say what they would have cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

_INSTRUCTIONS = {
    "endereco": (
        "Você é um assistente especializado em normalização de endereços brasileiros. Receba o texto de um endereço "
        "e devolva somente um objeto JSON com os campos rua, numero, complemento, bairro, cidade, estado e cep. "
        "Escreva o tipo do logradouro por extenso, use a grafia correta com acentos, a sigla do estado com duas "
        "letras e o CEP no formato NNNNN-NNN. Use null para o que não estiver no texto e não invente informações."
    ),
    "documento": (
        "Você é um assistente especializado em documentos brasileiros. Receba o texto com os documentos de um "
        "paciente e devolva somente um objeto JSON com os campos cpf, rg, cpf_formatted e rg_formatted. O CPF tem 11 "
        "dígitos e precisa ter dígitos verificadores válidos; o RG tem de 7 a 9 caracteres. Use null para o que não "
        "estiver no texto e não invente informações."
    ),
}
FIELDS = {
    "endereco": ("rua", "numero", "complemento", "bairro", "cidade", "estado", "cep"),
    "documento": ("cpf", "rg", "cpf_formatted", "rg_formatted"),
}
_MESSAGE_OVERHEAD_TOKENS = 4  # role and separators of one chat message, as in OpenAI's cookbook on counting tokens


def messages(kind: str, text: str) -> list[dict[str, str]]:
    """The chat messages of one field of one appointment."""
    return [{"role": "system", "content": _INSTRUCTIONS[kind]}, {"role": "user", "content": text}]


def answer(expected: Mapping[str, Any] | None, fields: tuple[str, ...]) -> str:
    """The answer such a call brings: indented JSON with every field."""
    values = {name: (expected or {}).get(name) for name in fields}
    return orjson.dumps(values, option=orjson.OPT_INDENT_2).decode()


def tokens(kind: str, text: str, reply: str, *, count: Callable[[str], int]) -> int:
    """Input and output tokens of one such call."""
    sent = sum(_MESSAGE_OVERHEAD_TOKENS + count(message["content"]) for message in messages(kind, text))
    return sent + count(reply)
