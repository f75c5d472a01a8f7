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
AC: Santa Rosa=Santa Rosa do Purus
AM: Careiro Castanho=Careiro
AP: Água Branca do Amapari=Pedra Branca do Amaparí; Amapari=Pedra Branca do Amaparí
BA: Muquém de São Francisco=Muquém do São Francisco; Santa Teresinha=Santa Terezinha
BA: Governador Lomanto Júnior=Barro Preto; Água Quente=Érico Cardoso; Camacã=Camacan
BA: Lagedo do Tabocal=Lajedo do Tabocal
CE: Itapagé=Itapajé; Deputado Irapuã Pinheiro=Deputado Irapuan Pinheiro
ES: Cachoeiro do Itapemirim=Cachoeiro de Itapemirim; São Gabriel do Palha=São Gabriel da Palha
GO: Bom Jesus=Bom Jesus de Goiás; Sítio da Abadia=Sítio d'Abadia
MA: Governador Edson Lobão=Governador Edison Lobão; São José do Ribamar=São José de Ribamar
MA: Victorino Freire=Vitorino Freire
MG: Brasópolis=Brazópolis; Dona Eusébia=Dona Euzébia; São Thomé das Letras=São Tomé das Letras
MG: Itabirinha de Mantena=Itabirinha; Barão do Monte Alto=Barão de Monte Alto; Gouvea=Gouveia; Queluzita=Queluzito
MG: Amparo da Serra=Amparo do Serra; São João del Rey=São João del Rei; Piui=Piumhi
MS: Bataiporã=Batayporã; Bataguaçu=Bataguassu
MT: Poxoréo=Poxoréu; Santo Antônio do Leverger=Santo Antônio de Leverger
PA: Eldorado dos Carajás=Eldorado do Carajás; Santa Isabel do Pará=Santa Izabel do Pará
PB: Seridó=São Vicente do Seridó; São Domingos de Pombal=São Domingos; Campo de Santana=Tacima
PB: Santarém=Joca Claudino
PE: Belém de São Francisco=Belém do São Francisco; Iguaraci=Iguaracy; Lagoa do Itaenga=Lagoa de Itaenga
PE: Cabo=Cabo de Santo Agostinho; São Caetano=São Caitano; Itamaracá=Ilha de Itamaracá
PR: Munhoz de Mello=Munhoz de Melo; Vila Alta=Alto Paraíso; Bela Vista do Caroba=Bela Vista da Caroba
PR: Pinhal do São Bento=Pinhal de São Bento; Santa Cruz do Monte Castelo=Santa Cruz de Monte Castelo
PR: Coronel Domingo Soares=Coronel Domingos Soares; Santa Isabel do Oeste=Santa Izabel do Oeste
RJ: Parati=Paraty; Trajano de Morais=Trajano de Moraes; Armação de Búzios=Armação dos Búzios
RJ: Búzios=Armação dos Búzios; Varre e Sai=Varre-Sai
RN: Augusto Severo=Campo Grande; Presidente Juscelino=Serra Caiada; Boa Saúde=Januário Cicco; Assú=Açu; Assu=Açu
RN: Olho d'Água dos Borges=Olho-d'Água do Borges; Lagoa de Anta=Lagoa d'Anta
RR: São Luiz do Anauá=São Luiz; São Luís do Anauá=São Luiz; São Luís=São Luiz
RS: Chiapeta=Chiapetta; Santana do Livramento=Sant'Ana do Livramento; Livramento=Sant'Ana do Livramento
RS: Xangrilá=Xangri-lá; Santo Ângelo das Missões=Santo Ângelo; São Luís Gonzaga=São Luiz Gonzaga; Erexim=Erechim
RS: Barão do Cotegipe=Barão de Cotegipe
SC: Piçarras=Balneário Piçarras; Presidente Castelo Branco=Presidente Castello Branco
SC: Balneário de Piçarras=Balneário Piçarras; Luís Alves=Luiz Alves; São Miguel d'Oeste=São Miguel do Oeste
SC: São Lourenço d'Oeste=São Lourenço do Oeste; Herval Velho=Erval Velho
SE: Amparo de São Francisco=Amparo do São Francisco
SP: Embu=Embu das Artes; Florínia=Florínea; Moji Mirim=Mogi Mirim; São Luís do Paraitinga=São Luiz do Paraitinga
SP: Moji das Cruzes=Mogi das Cruzes; Moji-Guaçu=Mogi Guaçu; Mojimirim=Mogi Mirim; Ipauçu=Ipaussu
SP: Luisiânia=Luiziânia; Brodósqui=Brodowski; Dulcinópolis=Dolcinópolis; Aparecida do Norte=Aparecida
TO: Couto de Magalhães=Couto Magalhães; Fortaleza do Tabocão=Tabocão; São Valério da Natividade=São Valério
TO: Mosquito=Palmeiras do Tocantins; Pau d'Arco do Tocantins=Pau d'Arco
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
