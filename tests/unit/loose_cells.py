"""Invented cells as receptionists type them: an address with people, illnesses and numbers around it, unlabelled."""

import re
from random import Random

from normalizer.domain.text import fold

_FIRST_NAMES = "Josefina Waldemar Dulcineia Ambrosio Etelvina Genivaldo Creusa Zulmira Marília Vitória Salvador Marco"
_LAST_NAMES = "Figueira Quintanilha Bragantino Vasconcelos Taveira Saldanha Peixotinho Brasil Flores Natal Bahia Acre"
_FIRST, _LAST = _FIRST_NAMES.split(), _LAST_NAMES.split()
_NAMES = (
    *("{first}", "{first} {last}", "{first} de {last}", "{first} da Silva {last}", "{first} {last} e {second} {last}"),
    *("{letter}. {last}", "{first} {letter}. {last}", "{last}, {first}", "{first}-{second}", "{first} {last} Jr."),
)
_SAID = (
    *("casa da dona {name}", "mãe {name}", "pai {name}", "avó {name}", "tia {name}", "esposa {name}", "nora {name}"),
    *("sobrinho {name}", "vizinha {name}", "síndica {name}", "cuidador {name}", "porteiro {name}", "caseiro {name}"),
    *("a/c {name}", "aos cuidados de {name}", "falar com {name}", "procurar {name}", "chamar {name}", "resp. {name}"),
    *("contato {name}", "c/ {name}", "dr. {name}", "Sr. {name}", "sra {name}", "seu {name}", "d. {name}", "{name}"),
    *("fundos da casa de {name}", "perto do bar do {name}", "filha {name} mora no 13", "deixar com a {name}"),
    *('"{name}"', "'{name}'", "({name})", "[{name}]", "vulgo {name}", "conhecida como {name}", "*{name}*", "@{name}"),
    *("{first}@exemplo.com", "{first} . {last} @ exemplo . com", "{first}.{last} arroba exemplo ponto com"),
)
_ILL = (
    *(
        "diabético",
        "diabético tipo 2",
        "HIV+",
        "hipertensa",
        "CID F32.1",
        "cid 10 e11.9",
        "F20",
        "hepatite B",
        "autista",
    ),
    *("gestante de 32 semanas", "pac. oncológica", "Alzheimer", "AVC em 2019", "usa marcapasso", "hepatite B e AVC"),
)
_ILLNESSES = "diabetico hiv hipertensa f32 e11 f20 hepatite autista gestante oncologica alzheimer avc marcapasso"
_NUMBERS = (
    *("({area}) 9{four}-{last4}", "9{four} {last4}", "{area} 9{four}{last4}", "9 {four} {last4}", "9{four}_{last4}"),
    *(
        "nasc. {day}/0{digit}/19{two}",
        "{day}/0{digit}/{two}",
        "nascida em {day} de março de 19{two}",
        "DN {day}.03.{two}",
    ),
    *(
        "cpf {cpf}",
        "{three} {three} {three} {two}",
        "cpf {three} e {three} e {three} dv {two}",
        "rg 12.{three} {three}-9",
    ),
    *(
        "unimed 0 064 {four} {last4} {four}",
        "carteirinha {cpf}",
        "plano {three} {cpf} 00 1",
        "CNS 700 {four} {last4} {four}",
    ),
)
_PLACES = (
    *("{x}, {street}, {number}, {district}, {town}", "{x} {street} {number} {district} {town}"),
    *("{street}, {x}, {number}, {district}, {town}", "{street}, {number}, {x}, {district}, {town}"),
    *("{street} {number} {x} {district} {town}", "{street}, {number} ap 12 {x}, {district}, {town}"),
    *("{street} {number} {district} {town} {x}", "{street} - {x} - {number} - {district} - {town}"),
    *("{street} {x} {number} {district} {town}", "{street} n {number}, {district}, {x}, {town}"),
    *("{street} {number}\n{x}\n{town}", "{street} s/n fundos {x} {town}", "{street} {number} {district} {x}"),
)
_STREETS = (
    "Rua das Acácias",
    "R. XV de Novembro",
    "Av. Paulista",
    "Travessa da Paz",
    "rua projetada 12",
    "AL DOS IPES",
)
_DISTRICTS = ("Centro", "Jardim Primavera", "Vila Nova", "Tirol", "Recreio dos Bandeirantes", "Cidade Nova")
_TOWNS = ("Itu SP", "Campinas - SP", "Uberlândia MG 38400-128", "Niterói, RJ", "Cascavel/PR")
_SECRET = {*map(fold, _FIRST), *map(fold, _LAST), *_ILLNESSES.split(), "exemplo"}


def loose_cells(count: int, chance: Random) -> list[tuple[str, set[str]]]:
    """Return cells, each with the words and numbers that nobody may learn of it, folded."""
    return [_cell(number, chance) for number in range(count)]


def secrets_of(said: str) -> set[str]:
    """Return the words of `said` that tell of somebody, folded, and the digits of its numbers of seven and more."""
    numbers = re.findall(r"\d(?:\W{0,3}\d)+", said)
    bare = {re.sub(r"\D", "", number) for number in numbers}
    return (set(re.findall(r"[a-z0-9]+", fold(said))) & _SECRET) | {number for number in bare if len(number) > 4}


def _cell(number: int, chance: Random) -> tuple[str, set[str]]:
    first, second = chance.sample(_FIRST, 2)
    people = {"first": first, "second": second, "last": chance.choice(_LAST), "letter": chance.choice("JMAS")}
    name = chance.choice(_NAMES).format(**people)
    digits = {
        "four": chance.randrange(1000, 9999),
        "last4": chance.randrange(1000, 9999),
        "three": chance.randrange(100, 999),
        "two": chance.randrange(30, 99),
        "digit": chance.randrange(1, 9),
        "day": chance.randrange(10, 28),
        "area": chance.randrange(11, 99),
        "cpf": chance.randrange(10**10, 10**11),
    }
    kind = (_SAID, _SAID, _SAID, _ILL, _NUMBERS)[number % 5]
    said = chance.choice(kind).format(name=name, **people, **digits)
    cell = chance.choice(_PLACES).format(
        x=said,
        street=chance.choice(_STREETS),
        number=chance.randrange(1, 3_000),
        district=chance.choice(_DISTRICTS),
        town=chance.choice(_TOWNS),
    )
    return chance.choice((str, str, str.upper, str.lower))(cell), secrets_of(said)
