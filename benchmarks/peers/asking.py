"""The three ways peers ask: one text a call, one record a call, many texts a call.

All leave retries to the SDK, which keeps to `Retry-After`, and let it go on for as long as it takes: none of them shall
lose a row to a limit of the provider's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import openai
import orjson

from normalizer.domain.appointment import Kind
from normalizer.llm import baseline
from normalizer.llm.prompt import Record, build_messages, parse_answer, response_schema, slot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normalizer.settings import Settings

_DOCUMENTS: Final = (
    "Cada linha traz, depois de sua chave, os documentos de um paciente. Responda somente com um objeto JSON: para "
    "cada chave uma lista de quatro textos, cpf, rg, cpf_formatted e rg_formatted, vazios quando faltarem. Não "
    "invente nada."
)
_RECORD: Final = (
    "Você recebe o endereço e os documentos de um paciente brasileiro. Responda somente com um objeto JSON com "
    "endereco (rua, numero, complemento, bairro, cidade, estado, cep) e documento (cpf, rg, cpf_formatted, "
    "rg_formatted). Tipo do logradouro por extenso, acentos corretos, null para o que faltar. Não invente nada."
)
_JSON: Final = {"type": "json_object"}


def client_options(settings: Settings) -> dict[str, Any]:
    """What the SDK's client of a peer is made with, blocking or not."""
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    return {"api_key": key, "base_url": settings.base_url, "max_retries": 1_000}


def one_text(kind: Kind, text: str) -> dict[str, Any]:
    """A call for one text, as the replaced worker asks it."""
    return {"messages": baseline.messages(kind, text), "response_format": _JSON}


def one_record(texts: Mapping[Kind, str]) -> dict[str, Any]:
    """A call for both texts of a record, as a script asks it."""
    lines = "\n".join(f"{kind}: {_line(text)}" for kind, text in texts.items())
    return {"messages": _messages(_RECORD, lines), "response_format": _JSON}


def many_texts(kind: Kind, texts: Sequence[str]) -> dict[str, Any]:
    """A call for many texts of one kind: for addresses the worker's own prompt and schema, the shortest known here."""
    if kind is Kind.ADDRESS:
        records = list(map(Record, map(_line, texts)))
        schema = {"name": "enderecos", "strict": True, "schema": response_schema(len(records))}
        return {
            "messages": build_messages(records),
            "response_format": {"type": "json_schema", "json_schema": schema},
        }
    lines = "\n".join(f"{slot(index)}: {_line(text)}" for index, text in enumerate(texts))
    return {"messages": _messages(_DOCUMENTS, lines), "response_format": _JSON}


def answer(completion: openai.types.chat.ChatCompletion) -> dict[str, Any]:
    """The JSON of an answer."""
    found: dict[str, Any] = orjson.loads(completion.choices[0].message.content or "{}")
    return found


def answers(kind: Kind, completion: openai.types.chat.ChatCompletion, n: int) -> list[Mapping[str, Any]]:
    """What an answer says of each of `n` texts; an empty mapping where it says nothing."""
    if kind is Kind.ADDRESS:
        return [each or {} for each in parse_answer(completion.choices[0].message.content or "", n)]
    said, fields = answer(completion), baseline.FIELDS[kind]
    values = [said.get(slot(index), []) for index in range(n)]
    return [{name: value or None for name, value in zip(fields, each, strict=False)} for each in values]


def _line(text: str) -> str:
    return " ".join(text.split())


def _messages(system: str, user: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]
