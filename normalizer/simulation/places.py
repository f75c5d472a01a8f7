"""The words synthetic sheets are made of: real public place names, invented people, no real address.

Municipalities and their CEP prefixes are public (IBGE, Correios); street and district names are common ones of Brazil,
put together at random, so that no line is anybody's address.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class City(NamedTuple):
    """A municipality, its UF, the first five digits of its CEPs (from, to), and how people abbreviate it."""

    name: str
    uf: str
    cep_from: int
    cep_to: int
    short: str | None = None


def _cities(table: str) -> tuple[City, ...]:
    rows = [line.split("|") for line in table.strip().splitlines()]
    return tuple(City(n, uf, int(a), int(b), short or None) for n, uf, a, b, short in (map(str.strip, r) for r in rows))


CITIES: Final = _cities(
    """
    São Paulo | SP | 1000 | 5899 |
    São Paulo | SP | 8000 | 8499 |
    Campinas | SP | 13000 | 13139 |
    Santos | SP | 11000 | 11099 |
    São José dos Campos | SP | 12200 | 12248 | SJC
    São Bernardo do Campo | SP | 9600 | 9899 | SBC
    Santo André | SP | 9000 | 9299 |
    Ribeirão Preto | SP | 14000 | 14114 |
    Sorocaba | SP | 18000 | 18109 |
    Bauru | SP | 17000 | 17123 |
    Piracicaba | SP | 13400 | 13439 |
    Taubaté | SP | 12000 | 12119 |
    Rio de Janeiro | RJ | 20000 | 23799 |
    Niterói | RJ | 24000 | 24399 |
    Nova Iguaçu | RJ | 26000 | 26299 |
    Petrópolis | RJ | 25600 | 25779 |
    Volta Redonda | RJ | 27200 | 27299 |
    Campos dos Goytacazes | RJ | 28000 | 28149 |
    Vitória | ES | 29000 | 29099 |
    Vila Velha | ES | 29100 | 29129 |
    Cariacica | ES | 29140 | 29159 |
    Belo Horizonte | MG | 30000 | 31999 | BH
    Contagem | MG | 32000 | 32399 |
    Uberlândia | MG | 38400 | 38419 |
    Juiz de Fora | MG | 36000 | 36107 |
    Montes Claros | MG | 39400 | 39409 |
    Poços de Caldas | MG | 37700 | 37719 |
    Salvador | BA | 40000 | 42499 |
    Feira de Santana | BA | 44000 | 44149 |
    Vitória da Conquista | BA | 45000 | 45119 |
    Ilhéus | BA | 45650 | 45669 |
    Aracaju | SE | 49000 | 49098 |
    Recife | PE | 50000 | 52999 |
    Olinda | PE | 53000 | 53399 |
    Caruaru | PE | 55000 | 55099 |
    Petrolina | PE | 56300 | 56354 |
    Maceió | AL | 57000 | 57099 |
    Arapiraca | AL | 57300 | 57319 |
    João Pessoa | PB | 58000 | 58099 |
    Campina Grande | PB | 58400 | 58449 |
    Natal | RN | 59000 | 59139 |
    Mossoró | RN | 59600 | 59649 |
    Fortaleza | CE | 60000 | 61599 |
    Sobral | CE | 62000 | 62119 |
    Juazeiro do Norte | CE | 63000 | 63059 |
    Teresina | PI | 64000 | 64099 |
    Parnaíba | PI | 64200 | 64219 |
    São Luís | MA | 65000 | 65109 |
    Imperatriz | MA | 65900 | 65919 |
    Belém | PA | 66000 | 66999 |
    Ananindeua | PA | 67000 | 67199 |
    Santarém | PA | 68000 | 68099 |
    Macapá | AP | 68900 | 68914 |
    Manaus | AM | 69000 | 69099 |
    Boa Vista | RR | 69300 | 69339 |
    Rio Branco | AC | 69900 | 69924 |
    Porto Velho | RO | 76800 | 76834 |
    Ji-Paraná | RO | 76900 | 76914 |
    Palmas | TO | 77000 | 77249 |
    Araguaína | TO | 77800 | 77834 |
    Goiânia | GO | 74000 | 74899 |
    Anápolis | GO | 75000 | 75149 |
    Aparecida de Goiânia | GO | 74900 | 74999 |
    Cuiabá | MT | 78000 | 78109 |
    Várzea Grande | MT | 78110 | 78169 |
    Rondonópolis | MT | 78700 | 78759 |
    Campo Grande | MS | 79000 | 79124 |
    Dourados | MS | 79800 | 79849 |
    Curitiba | PR | 80000 | 82999 |
    Londrina | PR | 86000 | 86099 |
    Maringá | PR | 87000 | 87109 |
    Cascavel | PR | 85800 | 85820 |
    Ponta Grossa | PR | 84000 | 84099 |
    Florianópolis | SC | 88000 | 88099 | Floripa
    Joinville | SC | 89200 | 89239 |
    Blumenau | SC | 89000 | 89099 |
    Chapecó | SC | 89800 | 89816 |
    Criciúma | SC | 88800 | 88819 |
    Porto Alegre | RS | 90000 | 91999 | POA
    Caxias do Sul | RS | 95000 | 95124 |
    Pelotas | RS | 96000 | 96099 |
    Santa Maria | RS | 97000 | 97119 |
    Canoas | RS | 92000 | 92499 |
    Passo Fundo | RS | 99000 | 99099 |
    """
)

# Street types as written out, their usual abbreviations, and how often they occur.
STREET_TYPES: Final = (
    ("Rua", ("R.", "R", "r"), 66),
    ("Avenida", ("Av.", "AV", "av"), 22),
    ("Travessa", ("Tv.", "Trav."), 4),
    ("Alameda", ("Al.",), 4),
    ("Praça", ("Pça.", "Pç."), 2),
    ("Estrada", ("Estr.",), 2),
)

# Written out, and abbreviated where people do.
STREET_NAMES: Final = (
    *((name, None) for name in ("das Acácias", "dos Ipês", "das Palmeiras", "das Hortênsias", "dos Girassóis")),
    *(
        (name, None)
        for name in ("das Flores", "da Saudade", "da Paz", "do Comércio", "da Liberdade", "da Independência")
    ),
    *((name, None) for name in ("do Sol", "das Mangueiras", "dos Coqueiros", "do Rosário", "da Matriz", "do Cruzeiro")),
    *((name, None) for name in ("Tiradentes", "Getúlio Vargas", "Santos Dumont", "Rui Barbosa", "Castro Alves")),
    *(
        (name, None)
        for name in ("Machado de Assis", "José de Alencar", "Olavo Bilac", "Monteiro Lobato", "Cecília Meireles")
    ),
    *(
        (name, None)
        for name in ("Joaquim Nabuco", "Euclides da Cunha", "Gonçalves Dias", "Carlos Gomes", "Villa-Lobos")
    ),
    *(
        (name, None)
        for name in ("Sete de Setembro", "Quinze de Novembro", "Treze de Maio", "Dois de Julho", "Nove de Julho")
    ),
    *((name, None) for name in ("XV de Novembro", "7 de Setembro", "13 de Maio", "Bento Gonçalves", "Anita Garibaldi")),
    *((name, None) for name in ("Tupinambás", "Guarani", "Tamoios", "Aimorés", "Xavantes", "Oiapoque", "Tocantins")),
    *((name, None) for name in ("José Bonifácio", "Benjamin Constant", "Barão do Rio Branco", "Princesa Isabel")),
    ("Doutor João Mendes", "Dr. João Mendes"),
    ("Doutor Oswaldo Cruz", "Dr. Oswaldo Cruz"),
    ("Professor Anísio Teixeira", "Prof. Anísio Teixeira"),
    ("Professora Maria Helena", "Profa. Maria Helena"),
    ("Coronel Antônio Lopes", "Cel. Antônio Lopes"),
    ("General Osório", "Gal. Osório"),
    ("Marechal Deodoro", "Mal. Deodoro"),
    ("Presidente Kennedy", "Pres. Kennedy"),
    ("Presidente Vargas", "Pres. Vargas"),
    ("Engenheiro Teixeira Soares", "Eng. Teixeira Soares"),
    ("Vereador Antônio Silveira", "Ver. Antônio Silveira"),
    ("Padre Anchieta", "Pe. Anchieta"),
    ("Capitão Alberto Mendes", "Cap. Alberto Mendes"),
    ("Santo Antônio", "Sto. Antônio"),
    ("Santa Rita", "Sta. Rita"),
    ("Nossa Senhora de Fátima", "N. Sra. de Fátima"),
)

DISTRICTS: Final = (
    *((name, None) for name in ("Centro",) * 6),
    *((name, None) for name in ("Bela Vista", "Cidade Nova", "Santo Antônio", "São Cristóvão", "Santa Mônica")),
    *((name, None) for name in ("Boa Esperança", "Nova Esperança", "Alto da Colina", "São Benedito", "Bom Pastor")),
    ("Jardim América", "Jd. América"),
    ("Jardim Primavera", "Jd. Primavera"),
    ("Jardim das Oliveiras", "Jd. das Oliveiras"),
    ("Jardim Europa", "Jd Europa"),
    ("Vila Operária", "Vl. Operária"),
    ("Vila Nova", "Vl. Nova"),
    ("Vila São João", "Vl. São João"),
    ("Parque Industrial", "Pq. Industrial"),
    ("Parque das Árvores", "Pq. das Árvores"),
    ("Setor Oeste", "St. Oeste"),
)

# As the label wants it, as people type it.
COMPLEMENTS: Final = (
    ("Apartamento {n}", ("apto {n}", "ap {n}", "AP. {n}", "apartamento {n}")),
    ("Casa {s}", ("casa {s}", "cs {s}", "Casa {s}")),
    ("Bloco {l}, Apartamento {n}", ("bloco {l} apto {n}", "bl {l} ap {n}", "Bl. {l} Apto {n}")),
    ("Fundos", ("fundos", "fds", "Fundos")),
    ("Sala {s}", ("sala {s}", "sl {s}")),
    ("Sobrado", ("sobrado", "Sobrado")),
    ("Torre {s}, Apartamento {n}", ("torre {s} apto {n}", "Torre {s} ap {n}")),
)

NO_NUMBER: Final = ("S/N", "s/n", "SN", "s/nº", "sem número")
# What people add that is no part of an address; dropped from the label.
REMARKS: Final = (
    *("portão verde", "portão azul", "em cima da padaria", "deixar na portaria", "ao lado da farmácia"),
    *("perto do mercado", "próximo à escola", "em frente à praça", "tocar a campainha"),
    *("esquina com a padaria", "atrás da igreja", "depois do posto", "muro branco"),
)
# Landmarks that stand where a district could: only who knows what a "Mercadinho" is can tell them apart.
LANDMARKS: Final = tuple(
    f"{kind} {name}"
    for kind in ("Mercadinho", "Padaria", "Oficina", "Salão", "Borracharia", "Bar", "Academia", "Colégio")
    for name in ("Bom Preço", "Pão Quente", "da Olga", "do Nilo", "do Heitor", "Corpo Leve", "Modelo")
)
JUNK_ADDRESSES: Final = (
    *("a confirmar com o paciente", "o mesmo da consulta anterior", "não informado", "ver cadastro", "-", "xxxxx"),
    *("paciente vai ligar depois", "endereço incompleto", "retirar no local", "casa da avó, portão verde", "???"),
)
JUNK_DOCUMENTS: Final = ("a confirmar", "não trouxe documento", "CPF: - RG: -", "ver cadastro", "pendente", "-")

# Nobody is called this.
GIVEN_NAMES: Final = (
    "Ana",
    "Bruno",
    "Carla",
    "Davi",
    "Elisa",
    "Fábio",
    "Gisele",
    "Heitor",
    "Inês",
    "Joana",
    "Lucas",
    "Marta",
    "Nilo",
    "Olga",
    "Paulo",
    "Rita",
    "Sara",
    "Tadeu",
    "Vera",
)
SURNAMES: Final = (
    "Exemplo",
    "Amostra",
    "Fictício",
    "Teste",
    "Modelo",
    "Sintético",
    "Inventado",
    "Ensaio",
    "Demonstração",
    "Simulado",
)
EXAMS: Final = (
    *(("4030105", "Hemograma Completo"), ("4030236", "Glicemia"), ("4031653", "TSH"), ("4030178", "Colesterol Total")),
    *(("4030451", "Ureia"), ("4030163", "Creatinina"), ("4031114", "Urina Tipo I"), ("4030250", "Hemoglobina Glicada")),
)
INSURERS: Final = (
    ("101", "Saúde Exemplo"),
    ("102", "Plano Modelo"),
    ("103", "Assistência Amostra"),
    ("900", "Particular"),
)
