"""Prompt measured on a real model: `python -m benchmarks.prompt --endpoint URL --model NAME [--arrays] [--rows N]`.

Asks an OpenAI-compatible endpoint for each row of the `residue` alone, at temperature 0, with the product's messages
and strict schema, and judges what the product would store of the answer: right, wrong yet stored, asked again, left to
review. `--arrays` asks the prompt before decision 020 in the same run, in turns of 25 rows so that an endpoint may keep
a prompt's beginning. `--save` writes `benchmarks/results/prompt.json`.

The residue of the rules are invented addresses that they refuse and a careful reader understands, labelled: 25 rows in
each of eight kinds, put together by chance from a seed, of what registers and clinics print. Each row is one the rules
refuse at present, and one whose label grounding accepts: what a model is asked, and could answer. A kind that no longer
has such rows is an error, not an empty measurement.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from openai import AsyncOpenAI

from benchmarks.circumstances import environment, keep
from benchmarks.quality import is_right
from normalizer.domain.address import parse_address, standardize
from normalizer.domain.decision import Settled
from normalizer.llm.model_call import Again, evaluate_record
from normalizer.llm.prompt import PROMPT_VERSION, SYSTEM, Record, build_messages, parse_answer, response_schema
from normalizer.simulation.texts import CITIES, LANDMARKS, STREET_NAMES, STREET_TYPES, City

if TYPE_CHECKING:
    from collections.abc import Iterator


Label = dict[str, str | None]
Made = tuple[str, Label, Label | None]

ROWS_PER_KIND: Final = 25
_TRIES: Final = 2_000
_QUARTERS: Final = (
    *("Espinheiro", "Alto da Colina", "Santa Mônica", "Boa Esperança", "Pedra Branca", "Morada do Sol", "Três Marias"),
    *("São Cristóvão", "Bom Pastor", "Campo Belo", "Lagoa Seca", "Água Fresca", "Monte Verde", "Pedra Grande"),
)
_HEADED: Final = ("Jardim América", "Vila Operária", "Parque das Árvores", "Jardim Primavera", "Vila São João")
_COURTS: Final = ("º Distrito Judiciário", "º Subdistrito", "ª Zona", "º Ofício", "ª Circunscrição")
_ESTATES: Final = ("Conjunto Habitacional", "Conjunto", "Residencial", "Condomínio", "Loteamento")
_STREET_KINDS: Final = tuple(kind for kind, *_ in STREET_TYPES)
_SETTLEMENTS: Final = ("Povoado", "Vila", "Distrito", "Comunidade", "Localidade")
_NATURE: Final = (
    "Curral Velho",
    "Lagoa do Meio",
    "Baixa Funda",
    "Pau Ferro",
    "Olho d'Água",
    "Barra do Cedro",
    "Capim Grosso",
)
_GIVEN: Final = ("Joana", "Heitor", "Marta Regina", "Olga", "Tadeu", "Inês", "Nilo Augusto", "Vera", "Elisa", "Davi")
_SURNAMES: Final = ("Pereira Machado", "Sampaio", "de Andrade Moura", "Furtado", "Nogueira", "dos Reis Lemos", "Bittar")
_WAYS_IN: Final = (
    "entrada pela",
    "sobrado amarelo na",
    "casa de esquina na",
    "descendo a ladeira,",
    "segunda casa depois da ponte,",
    "portão azul na esquina,",
    "chegando na pracinha,",
)
_NOTES: Final = (
    "recebe só de manhã",
    "avisar antes da visita",
    "casa da dona {given}",
    "vizinho do seu {given}",
    "mãe {name}",
    "portão de ferro verde",
)
_CAREERS: Final = (
    "cadeirante",
    "acamado",
    "cuidadora {given}",
    "mora com a filha {given}",
    "2 cachorros bravos",
    "interfone quebrado",
)


class _Parts:
    """The parts of one address, by chance, and its label."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.kind = rng.choices([kind for kind, *_ in STREET_TYPES], weights=[weight for *_, weight in STREET_TYPES])[0]
        self.bare = rng.choice(STREET_NAMES)[0]
        self.number = str(rng.randint(2, 2_999))
        self.city: City = rng.choice(CITIES)
        self.cep = f"{rng.randint(self.city.cep_from, self.city.cep_to):05}-{rng.randrange(1000):03}"
        self.quarter, self.other = rng.sample(_QUARTERS, 2)
        self.headed = rng.choice(_HEADED)
        self.nature = rng.choice(_NATURE)
        self.given = rng.choice(_GIVEN)
        self.name = f"{self.given} {rng.choice(_SURNAMES)}"

    @property
    def street(self) -> str:
        return f"{self.kind} {self.bare}"

    @property
    def town(self) -> str:
        return f"{self.city.name} - {self.city.uf}"

    def said(self, remarks: tuple[str, ...]) -> str:
        return self.rng.choice(remarks).format(given=self.given, name=self.name)

    def label(self, **other: str | None) -> Label:
        found: Label = {
            "rua": self.street,
            "numero": self.number,
            "complemento": None,
            "bairro": self.quarter,
            "cidade": self.city.name,
            "estado": self.city.uf,
            "cep": None,
        }
        return found | other


def _two_quarters(parts: _Parts) -> Made:
    court = f"{parts.rng.randint(2, 9)}{parts.rng.choice(_COURTS)}"
    head = f"{parts.street}, nº {parts.number}\n\n{parts.quarter} - {parts.other} - {court}"
    return f"{head}\n{parts.town}\nCEP: {parts.cep}", parts.label(cep=parts.cep), None


def _estate(parts: _Parts) -> Made:
    other = f"{parts.rng.choice(_STREET_KINDS)} {parts.rng.choice(STREET_NAMES)[0]}"
    estate = f"{parts.rng.choice(_ESTATES)} {parts.nature} {other}"
    text = f"{parts.bare}, {parts.number} {estate}. {parts.cep} {parts.town}."
    label = parts.label(rua=f"Rua {parts.bare}", bairro=estate, cep=parts.cep)
    return text, label, label | {"complemento": estate, "bairro": None}


def _settlement(parts: _Parts) -> Made:
    place = f"{parts.rng.choice(_SETTLEMENTS)} {parts.nature}"
    rural = parts.rng.choice((None, "Zona Rural"))
    text = ", ".join(filter(None, (place, rural, parts.town, parts.rng.choice(("", parts.cep)))))
    cep = parts.cep if parts.cep in text else None
    return text, parts.label(rua=place, numero=None, bairro=rural, cep=cep), None


def _no_state(parts: _Parts) -> Made:
    quarter = parts.rng.choice((parts.headed, parts.quarter))
    joint = parts.rng.choice((" ", ", ", " - "))
    text = f"{parts.street} {parts.number}{joint}{quarter}{joint}{parts.city.name}"
    return text, parts.label(bairro=quarter), None


def _name_first(parts: _Parts) -> Made:
    joint = parts.rng.choice((", ", " - ", ": "))
    text = f"{parts.name}{joint}{parts.street}, {parts.number}, {parts.headed}, {parts.town}"
    return text, parts.label(bairro=parts.headed), None


def _described(parts: _Parts) -> Made:
    text = f"{parts.rng.choice(_WAYS_IN)} {parts.street}, {parts.number}, {parts.headed}, {parts.town}, {parts.cep}"
    return text, parts.label(bairro=parts.headed, cep=parts.cep), None


def _ringed(parts: _Parts) -> Made:
    remark = parts.rng.choice((parts.rng.choice(LANDMARKS), parts.said(_NOTES), parts.said(_CAREERS)))
    before, after = parts.rng.choice((("(", ")"), ('"', '"'), ("//", "//"), ("[", "]")))
    text = f"{parts.street}, {parts.number} {before}{remark}{after} {parts.headed} - {parts.town}"
    label = parts.label(bairro=parts.headed)
    return text, label, label | {"complemento": remark}


def _between(parts: _Parts) -> Made:
    remark = parts.rng.choice((parts.rng.choice(LANDMARKS), parts.said(_NOTES), parts.said(_CAREERS)))
    text = f"{parts.street}, {parts.number}, {remark}, {parts.headed}, {parts.town}, {parts.cep}"
    label = parts.label(bairro=parts.headed, cep=parts.cep)
    return text, label, label | {"complemento": remark}


KINDS: Final[tuple[Callable[[_Parts], Made], ...]] = (
    _two_quarters,
    _estate,
    _settlement,
    _no_state,
    _name_first,
    _described,
    _ringed,
    _between,
)


def residue(rows_per_kind: int = ROWS_PER_KIND) -> list[dict[str, Any]]:
    """Return labelled rows, kind after kind in turns, the same ones each time the rules are the same.

    Raises AssertionError where the rules leave too few rows of a kind.
    """
    columns = [list(_rows(kind, rows_per_kind)) for kind in KINDS]
    return [row for rows in zip(*columns, strict=True) for row in rows]


def _rows(kind: Callable[[_Parts], Made], wanted: int) -> Iterator[dict[str, Any]]:
    name = kind.__name__.strip("_")
    rng, found = random.Random(name), 0
    for _ in range(_TRIES):
        text, label, also = kind(_Parts(rng))
        text = rng.choice((text, text, _capitals(text)))
        if not isinstance(parse_address(text), Settled) and isinstance(standardize(label, text), Settled):
            accept = [] if also is None else [also]
            yield {
                "id": f"{name}-{found}",
                "text": text,
                "expected": label,
                "accept": accept,
                "tags": [f"class:{name}"],
            }
            found += 1
        if found == wanted:
            return
    raise AssertionError(f"the rules leave {found} rows of {wanted} in {name}")


def _capitals(text: str) -> str:
    text = text.replace("º", "o").replace("ª", "a")
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char)).upper()


HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results" / "prompt.json"
_TURN: Final = 25
_MAX_TOKENS: Final = 300
_PATIENCE_S: Final = 600.0


@dataclass(frozen=True)
class Prompt:
    """A system text and the schema of one slot's value."""

    system: str
    schema: Callable[[int], dict[str, Any]]

    def request(self, record: Record) -> dict[str, Any]:
        _, user = build_messages([record])
        schema = {"name": "answer", "strict": True, "schema": self.schema(1)}
        return {
            "messages": [{"role": "system", "content": self.system}, user],
            "response_format": {"type": "json_schema", "json_schema": schema},
        }


def arrays(n: int) -> dict[str, Any]:
    """Return the schema before decision 020: a slot's value is an array of seven strings."""
    seven = {"type": "array", "items": {"type": "string"}, "minItems": 7, "maxItems": 7}
    return response_schema(n) | {"$defs": {"a": seven}}


BEFORE: Final = Prompt((HERE / "prompt_of_arrays.txt").read_text(encoding="utf-8").strip(), arrays)
NOW: Final = Prompt(SYSTEM, response_schema)


def main(argv: Sequence[str] | None = None) -> int:
    """Ask, judge, print a line a prompt; 1 where a wrong value would be stored for more than one row in a hundred."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True, help="base URL; its key is taken from OPENAI_API_KEY")
    parser.add_argument("--model", required=True)
    parser.add_argument("--arrays", action="store_true", help="the prompt before decision 020, too")
    parser.add_argument("--rows", type=int, default=8 * ROWS_PER_KIND)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args(argv)
    prompts = {PROMPT_VERSION: NOW} | ({"arrays": BEFORE} if options.arrays else {})
    found = asyncio.run(_measure(prompts, options.endpoint, options.model, options.rows))
    if options.save:
        keep(RESULTS, {"environment": environment(), "model": options.model, "prompts": found})
    return int(any(figures["wrong"] > figures["rows"] / 100 for figures in found.values()))


async def _measure(prompts: dict[str, Prompt], endpoint: str, model: str, wanted: int) -> dict[str, dict[str, Any]]:
    judged: dict[str, Counter[str]] = {name: Counter() for name in prompts}
    every = residue()[:wanted]
    key = os.environ.get("OPENAI_API_KEY") or "none"
    async with AsyncOpenAI(api_key=key, base_url=endpoint, timeout=_PATIENCE_S) as client:
        for start in range(0, len(every), _TURN):
            for name, prompt in prompts.items():
                for row in every[start : start + _TURN]:
                    judged[name].update(await _asked(client, model, prompt, row))
                print(name, json.dumps(_figures(judged[name])), flush=True)
    return {name: _figures(counts) for name, counts in judged.items()}


async def _asked(client: AsyncOpenAI, model: str, prompt: Prompt, row: dict[str, Any]) -> Counter[str]:
    """One row's fate, by itself and by its kind, and its tokens."""
    record = Record.of(row["text"])
    answer: Any = await client.chat.completions.create(
        model=model, temperature=0, max_tokens=_MAX_TOKENS, **prompt.request(record)
    )
    (said,) = parse_answer(answer.choices[0].message.content or "", 1)
    decision = evaluate_record(row["text"], record.restored(said), asked=1)
    if isinstance(decision, Settled):
        fate = "right" if is_right(decision.value.as_dict(), row) else "wrong"
    else:
        fate = "again" if isinstance(decision, Again) else "review"
    kind = row["tags"][0].removeprefix("class:")
    usage = answer.usage
    return Counter({"rows": 1, fate: 1, f"{fate}/{kind}": 1, "in": usage.prompt_tokens, "out": usage.completion_tokens})


def _figures(counts: Counter[str]) -> dict[str, Any]:
    """Counts by fate, the right ones by kind, and mean tokens a row."""
    by_kind = {key.removeprefix("right/"): n for key, n in sorted(counts.items()) if key.startswith("right/")}
    return {
        **{key: counts[key] for key in ("rows", "right", "wrong", "again", "review")},
        "tokens_in": round(counts["in"] / counts["rows"]),
        "tokens_out": round(counts["out"] / counts["rows"]),
        "right_by_kind": by_kind,
    }


if __name__ == "__main__":
    raise SystemExit(main())
