"""Compile `normalizer/domain/data/municipalities.txt` from two public lists of IBGE's municipalities.

    python -m benchmarks.compile_gazetteer CITIES_CODE.json CIDADES.json ESTADOS.json

CITIES_CODE is `data/cities_code.json` of the PyPI package brutils 2.5 (MIT): the 5,570 municipalities by UF, folded.
CIDADES and ESTADOS are the files of the npm package cidades-estados-brasil-json 1.0.3 (ISC): names with accents, some
of them older spellings. Names and codes are IBGE's public facts. The first list decides which municipalities exist,
the second how they are written; where they differ, the spelling is that of the file as it is (IBGE, Divisão
Territorial Brasileira). So are the lines of older and variant names, `UF= <tab> variante=oficial|…`: these are typed
every day and understood; stored is the official name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from normalizer.domain.gazetteer import MUNICIPALITIES_FILE, name_key

TOTAL: Final = 5_570
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
    known = [line for line in MUNICIPALITIES_FILE.read_text("utf-8").splitlines() if not line.startswith("#")]
    variants = [line for line in known if line[2] == "="]
    spelled = {(line[:2], name_key(name)): name for line in known for name in line[3:].split("|")}
    lines = []
    for uf in sorted(codes):
        official = [accented.get((uf, key)) or spelled[uf, key] for key in map(name_key, codes[uf])]
        lines.append(f"{uf}\t{'|'.join(sorted(official, key=name_key))}")
    total = sum(len(names) for names in codes.values())
    if total != TOTAL:
        raise SystemExit(f"{total} municipalities, not {TOTAL}")
    MUNICIPALITIES_FILE.write_text(HEADER.format(total=total) + "\n".join(lines + variants) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
