"""Invented cells as receptionists type them: an address with people, phones and documents around it, unlabelled."""

from random import Random

_FIRST = "Josefina Waldemar Dulcineia Ambrosio Etelvina Genivaldo Creusa Adalberto Ivonete Sebastiana Zulmira Edivaldo"
_LAST = "Figueira Quintanilha Bragantino Vasconcelos Taveira Mesquitela Saldanha Brandolim Carvalhosa Peixotinho"
_STREETS = ("Rua das Acácias", "R. XV de Novembro", "Av. Brasil", "Travessa da Paz", "rua projetada 12", "AL DOS IPES")
_DISTRICTS = ("Centro", "Jardim Primavera", "Vila Nova", "Tirol", "Recreio dos Bandeirantes", "Cidade Nova")
_TOWNS = ("Itu SP", "Natal/RN", "Campinas - SP", "Uberlândia MG 38400-128", "Niterói, RJ")
_SHAPES = (
    "{street} {number} casa da dona {first} {district} {town}",
    "{street}, {number}, mãe {first} {last}, {district}, {town}",
    "{first} {last}, {street}, {number}, {district}, {town}",
    "{first} de {last} - {street} {number} - {district} - {town}",
    "{street} {number} fundos da casa do seu {first} {district} {town}",
    "{street}, {number} ({first} {last}) {district}, {town}",
    "{street} {number} {district} {town} falar com {first}",
    "{street} {number}, perto do bar do {first}, {district}, {town}",
    "{street} {number} {district} {town} {first} {last} {phone}",
    "{first} {phone} {street} {number} {district} {town}",
    "{street}, {number}, {district}, {town}, cpf {cpf} {first}",
    "{street} {number} ap 12 filha {first} mora no 13 {district} {town}",
    "deixar com a vizinha {first}, {street}, {number}, {district}, {town}",
    "{street} {number} esposa {first} {last} {district} {town}",
    "{street}, {number}, aos cuidados de {first} {last}, {district}, {town}",
    "{street} {number} {first}@exemplo.com {district} {town}",
    "casa da {first} {street} {number} {district} {town}",
    "{street} n {number} Sra {first} {last} - {district} - {town}",
    "{street} {number} pai {first} mae {second} {district} {town}",
    "Dr. {first} {last}, {street}, {number}, sala 3, {district}, {town}",
)
NAMES = {name.lower() for name in f"{_FIRST} {_LAST}".split()}


def loose_cells(count: int, chance: Random) -> list[tuple[str, set[str]]]:
    """Return cells, each with the names that are in it."""
    cells = []
    for number in range(count):
        first, second = chance.sample(_FIRST.split(), 2)
        shape, last = _SHAPES[number % len(_SHAPES)], chance.choice(_LAST.split())
        cell = shape.format(
            first=first,
            second=second,
            last=last,
            street=chance.choice(_STREETS),
            number=chance.randrange(1, 3_000),
            district=chance.choice(_DISTRICTS),
            town=chance.choice(_TOWNS),
            phone=f"({chance.randrange(11, 99)}) 9{chance.randrange(1000, 9999)}-{chance.randrange(1000, 9999)}",
            cpf=f"{chance.randrange(10**10, 10**11)}",
        )
        if chance.random() < 0.3:
            cell = chance.choice((cell.upper(), cell.lower()))
        cells.append((cell, {name.lower() for name in (first, second, last) if name.lower() in cell.lower()}))
    return cells
