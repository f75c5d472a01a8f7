"""Compile `normalizer/domain/data/municipalities.txt` from two public lists of IBGE's municipalities.

    python -m benchmarks.compile_gazetteer CITIES_CODE.json CIDADES.json ESTADOS.json

CITIES_CODE is `data/cities_code.json` of the PyPI package brutils 2.5 (MIT): the 5,570 municipalities by UF, folded.
CIDADES and ESTADOS are the files of the npm package cidades-estados-brasil-json 1.0.3 (ISC): names with accents, some
of them older spellings. Names and codes are IBGE's public facts. The first list decides which municipalities exist,
the second how they are written; where they differ, the spelling is given here (IBGE, Divisão Territorial Brasileira).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from normalizer.domain.gazetteer import MUNICIPALITIES_FILE, name_key

TOTAL: Final = 5_570
# Folded official name → official spelling, where the accented list lacks it or writes an older name.
SPELLINGS: Final = """
Barro Preto|Muquém do São Francisco|Santa Terezinha|Itapajé|Brazópolis|Dona Euzébia|Itabirinha|São Tomé das Letras
Batayporã|Paraíso das Águas|Nova Nazaré|Poxoréu|Santo Antônio de Leverger|Eldorado do Carajás|Mojuí dos Campos
Santa Izabel do Pará|Joca Claudino|São Domingos|São Vicente do Seridó|Tacima|Belém do São Francisco|Iguaracy
Lagoa de Itaenga|Nazária|Paraty|São José do Vale do Rio Preto|Trajano de Moraes|Campo Grande|Serra Caiada|Chiapetta
Pinto Bandeira|Sant'Ana do Livramento|Balneário Piçarras|Balneário Rincão|Pescaria Brava|Presidente Castello Branco
Amparo do São Francisco|Embu das Artes|Florínea|Mogi Mirim|São Luiz do Paraitinga|Couto Magalhães|São Valério|Tabocão
"""
# UF: older or variant name = official name. Typed every day, so they are understood; stored is the official one.
ALIASES: Final = """
BA: Muquém de São Francisco=Muquém do São Francisco; Santa Teresinha=Santa Terezinha
CE: Itapagé=Itapajé
MG: Brasópolis=Brazópolis; Dona Eusébia=Dona Euzébia; São Thomé das Letras=São Tomé das Letras
MS: Bataiporã=Batayporã
MT: Poxoréo=Poxoréu; Santo Antônio do Leverger=Santo Antônio de Leverger
PA: Eldorado dos Carajás=Eldorado do Carajás; Santa Isabel do Pará=Santa Izabel do Pará
PB: Seridó=São Vicente do Seridó
PE: Belém de São Francisco=Belém do São Francisco; Iguaraci=Iguaracy; Lagoa do Itaenga=Lagoa de Itaenga
RJ: Parati=Paraty; Trajano de Morais=Trajano de Moraes
RS: Chiapeta=Chiapetta; Santana do Livramento=Sant'Ana do Livramento; Livramento=Sant'Ana do Livramento
SC: Piçarras=Balneário Piçarras; Presidente Castelo Branco=Presidente Castello Branco
SE: Amparo de São Francisco=Amparo do São Francisco
SP: Embu=Embu das Artes; Florínia=Florínea; Moji Mirim=Mogi Mirim; São Luís do Paraitinga=São Luiz do Paraitinga
TO: Couto de Magalhães=Couto Magalhães; Fortaleza do Tabocão=Tabocão
"""
HEADER: Final = """\
# Municípios do Brasil por UF, com acentos: {total} nomes oficiais (IBGE, Divisão Territorial Brasileira).
# Compilado em 2026-11 por benchmarks/compile_gazetteer.py de brutils 2.5 (MIT; quais existem)
# e cidades-estados-brasil-json 1.0.3 (ISC; acentos). Linhas: UF <tab> nome|nome|…; depois UF= <tab> variante=oficial|…
"""


def main(argv: list[str]) -> int:
    codes, cities, states = (json.loads(Path(path).read_text("utf-8")) for path in argv)
    uf_of = {state["ID"]: state["Sigla"] for state in states}
    accented: dict[tuple[str, str], str] = {}
    for city in cities:
        name = city["Nome"].replace("`", "'")
        accented[uf_of[city["Estado"]], name_key(name)] = name
    spelled = {name_key(name): name for name in SPELLINGS.replace("\n", "|").split("|") if name}
    lines = []
    for uf in sorted(codes):
        official = [accented.get((uf, key)) or spelled[key] for key in map(name_key, codes[uf])]
        lines.append(f"{uf}\t{'|'.join(sorted(official, key=name_key))}")
    total = sum(len(names) for names in codes.values())
    if total != TOTAL:
        raise SystemExit(f"{total} municipalities, not {TOTAL}")
    for line in ALIASES.strip().splitlines():
        uf, pairs = line.split(": ")
        lines.append(f"{uf}=\t{pairs.replace('; ', '|')}")
    MUNICIPALITIES_FILE.write_text(HEADER.format(total=total) + "\n".join(lines) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
