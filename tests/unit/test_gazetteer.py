"""The public facts of Brazilian places are complete and cheap to load."""

import subprocess
import sys
from collections import Counter

import pytest

from normalizer.domain import gazetteer

# IBGE, Divisão Territorial Brasileira: municipalities per state (the Distrito Federal counts as one).
PER_UF = {
    "AC": 22, "AL": 102, "AM": 62, "AP": 16, "BA": 417, "CE": 184, "DF": 1, "ES": 78, "GO": 246, "MA": 217, "MG": 853,
    "MS": 79, "MT": 141, "PA": 144, "PB": 223, "PE": 185, "PI": 224, "PR": 399, "RJ": 92, "RN": 167, "RO": 52, "RR": 15,
    "RS": 497, "SC": 295, "SE": 75, "SP": 645, "TO": 139,
}  # fmt: skip


def official():
    lines = gazetteer.MUNICIPALITIES_FILE.read_text("utf-8").splitlines()
    for line in lines:
        uf, _, names = line.partition("\t")
        if not line.startswith("#") and not uf.endswith("="):
            yield from ((uf, name) for name in names.split("|"))


def test_all_municipalities_are_there_and_found_under_their_own_name():
    names = list(official())
    assert len(names) == 5_570
    assert Counter(uf for uf, _ in names) == PER_UF
    assert all(gazetteer.municipalities(gazetteer.name_key(name)).get(uf) == name for uf, name in names)


def test_the_data_file_tells_its_source_and_date():
    header = gazetteer.MUNICIPALITIES_FILE.read_text("utf-8")[:400]
    assert "IBGE" in header
    assert "2026" in header


def test_every_capital_and_nickname_is_a_municipality():
    for uf, capital in gazetteer.CAPITALS.items():
        assert gazetteer.municipalities(gazetteer.name_key(capital))[uf] == capital
    for key in gazetteer.NICKNAMES:
        place = gazetteer.nickname(key)
        assert place is not None
        assert gazetteer.municipalities(gazetteer.name_key(place.name))[place.uf] == place.name


@pytest.mark.parametrize(
    ("typed", "uf", "name"),
    [
        ("santa barbara d'oeste", "SP", "Santa Bárbara d'Oeste"),
        ("SANTA BARBARA D OESTE", "SP", "Santa Bárbara d'Oeste"),
        ("Mogi-Mirim", "SP", "Mogi Mirim"),
        ("moji mirim", "SP", "Mogi Mirim"),
        ("Parati", "RJ", "Paraty"),
        ("Ceilândia", "DF", "Ceilândia"),
    ],
)
def test_names_are_found_as_people_write_them(typed, uf, name):
    assert gazetteer.municipalities(gazetteer.name_key(typed)).get(uf) == name


@pytest.mark.parametrize(
    ("cep", "uf"),
    [
        ("01000-000", "SP"), ("19999-999", "SP"), ("20000-000", "RJ"), ("29999999", "ES"), ("68899-999", "PA"),
        ("68900-000", "AP"), ("69299-000", "AM"), ("69300-000", "RR"), ("69400-000", "AM"), ("69900-000", "AC"),
        ("72799-000", "DF"), ("72800-000", "GO"), ("73000-000", "DF"), ("73700-000", "GO"), ("76799-000", "GO"),
        ("76800-000", "RO"), ("77000-000", "TO"), ("79999-000", "MS"), ("99999-999", "RS"),
        ("00999-999", None), ("1310-100", None), ("", None),
    ],
)  # fmt: skip
def test_cep_ranges(cep, uf):
    assert gazetteer.uf_of_cep(cep) == uf


def test_it_loads_lazily_and_fast():
    code = """
import time, tracemalloc
from normalizer.domain import gazetteer
assert gazetteer._municipalities.cache_info().currsize == 0
started = time.process_time(); gazetteer.municipalities("natal"); took = time.process_time() - started
gazetteer._municipalities.cache_clear(); gazetteer.name_key.cache_clear()
tracemalloc.start(); gazetteer.municipalities("natal"); size = tracemalloc.get_traced_memory()[0]
print(took, size)
"""
    took, size = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert float(took) < 0.15  # 15 ms on a quiet machine; the promise is 50
    assert int(size) < 20_000_000
