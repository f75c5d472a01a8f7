"""Gazetteer of Brazilian places: states, municipalities, CEP ranges, the administrative regions of DF.

Sources: IBGE (states and the 5,570 municipalities, see the header of `data/municipalities.txt`), Correios (CEP ranges
per UF), Governo do Distrito Federal (regiões administrativas). Names are compared through `name_key`. The file is read
at the first use.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from normalizer.domain.text import fold

MUNICIPALITIES_FILE: Final = Path(__file__).parent / "data" / "municipalities.txt"
MAX_NAME_WORDS: Final = 8

UF_NAMES: Final = {
    "AC": "Acre", "AL": "Alagoas", "AM": "Amazonas", "AP": "Amapá", "BA": "Bahia", "CE": "Ceará",
    "DF": "Distrito Federal", "ES": "Espírito Santo", "GO": "Goiás", "MA": "Maranhão", "MG": "Minas Gerais",
    "MS": "Mato Grosso do Sul", "MT": "Mato Grosso", "PA": "Pará", "PB": "Paraíba", "PE": "Pernambuco", "PI": "Piauí",
    "PR": "Paraná", "RJ": "Rio de Janeiro", "RN": "Rio Grande do Norte", "RO": "Rondônia", "RR": "Roraima",
    "RS": "Rio Grande do Sul", "SC": "Santa Catarina", "SE": "Sergipe", "SP": "São Paulo", "TO": "Tocantins",
}  # fmt: skip
CAPITALS: Final = {
    "AC": "Rio Branco", "AL": "Maceió", "AM": "Manaus", "AP": "Macapá", "BA": "Salvador", "CE": "Fortaleza",
    "DF": "Brasília", "ES": "Vitória", "GO": "Goiânia", "MA": "São Luís", "MG": "Belo Horizonte",
    "MS": "Campo Grande", "MT": "Cuiabá", "PA": "Belém", "PB": "João Pessoa", "PE": "Recife", "PI": "Teresina",
    "PR": "Curitiba", "RJ": "Rio de Janeiro", "RN": "Natal", "RO": "Porto Velho", "RR": "Boa Vista",
    "RS": "Porto Alegre", "SC": "Florianópolis", "SE": "Aracaju", "SP": "São Paulo", "TO": "Palmas",
}  # fmt: skip

# First three digits of the first CEP of each run of ranges, and whose it is. Correios.
_CEP_STARTS: Final = (
    (10, "SP"), (200, "RJ"), (290, "ES"), (300, "MG"), (400, "BA"), (490, "SE"), (500, "PE"), (570, "AL"), (580, "PB"),
    (590, "RN"), (600, "CE"), (640, "PI"), (650, "MA"), (660, "PA"), (689, "AP"), (690, "AM"), (693, "RR"),
    (694, "AM"), (699, "AC"), (700, "DF"), (728, "GO"), (730, "DF"), (737, "GO"), (768, "RO"), (770, "TO"),
    (780, "MT"), (789, "RO"), (790, "MS"), (800, "PR"), (880, "SC"), (900, "RS"),
)  # fmt: skip
_UF_BY_PREFIX: Final = {
    f"{prefix:03}": uf
    for (start, uf), (end, _) in pairwise((*_CEP_STARTS, (1_000, "")))
    for prefix in range(start, end)
}

# The administrative regions of the Distrito Federal, which people write where a city stands.
DF_REGIONS: Final = (
    "Águas Claras", "Arapoanga", "Arniqueira", "Brazlândia", "Candangolândia", "Ceilândia", "Ceilândia Norte",
    "Ceilândia Sul", "Cruzeiro", "Fercal", "Gama", "Guará", "Guará I", "Guará II", "Itapoã", "Jardim Botânico",
    "Lago Norte", "Lago Sul", "Núcleo Bandeirante", "Octogonal", "Paranoá", "Park Way", "Planaltina", "Plano Piloto",
    "Recanto das Emas", "Riacho Fundo", "Riacho Fundo I", "Riacho Fundo II", "Samambaia", "Samambaia Norte",
    "Samambaia Sul", "Santa Maria", "São Sebastião", "Sobradinho", "Sobradinho I", "Sobradinho II", "Sol Nascente",
    "Sudoeste", "Taguatinga", "Taguatinga Norte", "Taguatinga Sul", "Varjão", "Vicente Pires", "Água Quente",
)  # fmt: skip

# Names in daily use that no dictionary would resolve. "UF:" limits one to the state where it is meant.
NICKNAMES: Final = {
    "bh": "MG:Belo Horizonte", "belo hte": "MG:Belo Horizonte", "b hte": "MG:Belo Horizonte",
    "poa": "RS:Porto Alegre", "ctba": "PR:Curitiba", "cwb": "PR:Curitiba", "bsb": "DF:Brasília",
    "sjc": "SP:São José dos Campos", "sbc": "SP:São Bernardo do Campo", "scs": "SP:São Caetano do Sul",
    "sjrp": "SP:São José do Rio Preto", "sjp": "PR:São José dos Pinhais", "sjm": "RJ:São João de Meriti",
    "sampa": "SP:São Paulo", "floripa": "SC:Florianópolis", "fpolis": "SC:Florianópolis", "gyn": "GO:Goiânia",
    "jp": "PB:João Pessoa", "ssa": "BA:Salvador", "rec": "PE:Recife", "campos": "RJ:Campos dos Goytacazes",
    "friburgo": "RJ:Nova Friburgo", "caxias do s": "RS:Caxias do Sul", "s paulo": "SP:São Paulo",
    "rio": "RJ:Rio de Janeiro", "jaboatao": "PE:Jaboatão dos Guararapes", "cachoeiro": "ES:Cachoeiro de Itapemirim",
    "foz": "PR:Foz do Iguaçu", "rio preto": "SP:São José do Rio Preto", "pinda": "SP:Pindamonhangaba",
    "itaqua": "SP:Itaquaquecetuba", "aguas lindas": "GO:Águas Lindas de Goiás", "ribamar": "MA:São José de Ribamar",
    "mogi": "SP:Mogi das Cruzes", "bal camboriu": "SC:Balneário Camboriú", "ap de goiania": "GO:Aparecida de Goiânia",
}  # fmt: skip


_NEARLY: Final = 0.85  # share of letters in the same order (difflib's ratio): "salavdor" and "salvador" 0.875


class Municipality(NamedTuple):
    """An official name and its UF."""

    name: str
    uf: str


@lru_cache(maxsize=16_384)
def name_key(name: str) -> str:
    """Return the form place names are compared in: folded, apostrophes dropped, hyphens as blanks."""
    return fold(name).replace("'", "").replace("’", "").replace("`", "").replace("-", " ")


class _Municipalities:
    def __init__(self) -> None:
        self.by_key: dict[str, dict[str, str]] = {}
        self.by_last_word: dict[str, list[tuple[tuple[str, ...], Municipality]]] = {}
        for line in MUNICIPALITIES_FILE.read_text("utf-8").splitlines():
            if not line.startswith("#"):
                uf, _, names = line.partition("\t")
                for entry in names.split("|"):
                    variant, _, official = entry.partition("=")
                    place = Municipality(official or variant, uf[:2])
                    self._add(variant, place)
                    if " d'" in variant:  # typed "d Oeste" and "do Oeste", too
                        self._add(variant.replace(" d'", " d "), place)
                        self._add(variant.replace(" d'", " do "), place)
        for region in DF_REGIONS:
            self._add(region, Municipality(region, "DF"))

    def _add(self, spelling: str, place: Municipality) -> None:
        key = name_key(spelling)
        self.by_key.setdefault(key, {}).setdefault(place.uf, place.name)
        words = tuple(key.split())
        if len(words) > 1:
            self.by_last_word.setdefault(words[-1], []).append((words, place))


@cache
def _municipalities() -> _Municipalities:
    return _Municipalities()


def municipalities(key: str) -> dict[str, str]:
    """Return {UF: official name} of the municipalities (and DF regions) written `key` (a `name_key`); maybe empty."""
    return _municipalities().by_key.get(key, {})


def resembles_one(key: str, uf: str) -> bool:
    """Is `key` nearly, but not, the name of a municipality of that state: letters swapped, doubled or left out."""
    names = [name for name, by_uf in _municipalities().by_key.items() if uf in by_uf]
    return bool(get_close_matches(key, names, n=1, cutoff=_NEARLY))


def municipality_names() -> dict[str, dict[str, str]]:
    """Return every `name_key` with its {UF: official name}."""
    return _municipalities().by_key


def ending_with(last_word: str) -> list[tuple[tuple[str, ...], Municipality]]:
    """Return the municipalities of two words or more whose last word is `last_word` (folded), as (key words, place)."""
    return _municipalities().by_last_word.get(last_word, [])


def nickname(key: str) -> Municipality | None:
    """Return the municipality meant by a nickname or sigla in daily use."""
    entry = NICKNAMES.get(key)
    return Municipality(entry[3:], entry[:2]) if entry else None


def uf_of_cep(cep: str) -> str | None:
    """Return the UF whose Correios range holds the CEP (eight digits, any punctuation), or None."""
    digits = cep if len(cep) == 8 else "".join(char for char in cep if char in "0123456789")
    if len(digits) != 8 or not (digits.isascii() and digits.isdigit()):
        return None
    return _UF_BY_PREFIX.get(digits[:3])
