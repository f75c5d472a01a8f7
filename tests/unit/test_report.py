"""The report says what the result files say, and so do the documents that are committed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import __main__ as report
from benchmarks.report.sections import RESULTS, SECTIONS
from benchmarks.report.text import number, spread, table

# In a sentence with its folder, in README's table without.
NAMED = re.compile(r"(?:benchmarks/results/|\| `)([\w-]+\.json)`")


def test_the_committed_documents_are_those_the_report_makes() -> None:
    assert report.REPORT.read_text("utf-8") == report.report()
    readme = report.README.read_text("utf-8")
    assert readme == report.with_headline(readme)


def test_a_document_that_says_something_else_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(report.README.read_text("utf-8").replace("0 calls", "1 calls"), "utf-8")
    monkeypatch.setattr(report, "README", readme)

    assert report.main(["--check"]) == 1
    assert capsys.readouterr().out == "README.md says something else than benchmarks/results"


def test_every_picture_is_there_and_drawn_anew(tmp_path: Path) -> None:
    wanted = {name for section in SECTIONS for name in section.pictures if list(section.found())}

    report.draw(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == wanted
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in wanted)
    assert all((report.IMAGES / name).stat().st_size > 5_000 for name in wanted)


def test_every_result_file_is_in_the_report() -> None:
    text = report.report()
    assert all(f"`benchmarks/results/{path.name}`" in text for path in RESULTS.glob("*.json"))


def test_a_result_file_nothing_is_made_of_is_named_at_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "unheard.json").write_text("{}", "utf-8")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert report.report().endswith("## Other results\n\n- `benchmarks/results/unheard.json`\n")


DOCUMENTS = [report.README, *sorted(report.ROOT.glob("docs/**/*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_result_file_that_is_named_is_there(document: Path) -> None:
    named = set(NAMED.findall(document.read_text("utf-8")))
    assert named <= {path.name for path in RESULTS.glob("*.json")}
    assert named or document.name not in {"README.md", "BENCHMARKS.md"}


def test_the_headline_of_a_comparison_is_of_its_medians() -> None:
    document: dict[str, Any] = json.loads((RESULTS / "run.json").read_text("utf-8"))
    ours, seed = document["open"]["normalizer"], document["open"]["seed"]
    assert document["ratios"]["seed"]["rows_per_s"] == round(
        ours["rows_per_s"]["median"] / seed["rows_per_s"]["median"], 2
    )
    for each in document["limited"]:
        assert each["saved"] <= each["rows"] == document["scenarios"]["limited"]["rows"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (0.81, "0.81"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1234, "1,234"),
        (8.0, "8"),
    ],
)
def test_numbers_keep_three_figures(value: float, text: str) -> None:
    assert number(value) == text


def test_a_spread_is_told_where_there_is_one() -> None:
    assert spread({"median": 2.0, "low": 1.0, "high": 3.5}) == "2 (1–3.50)"
    assert spread({"median": 2.0, "low": 2.0, "high": 2.0}) == "2"


def test_a_table_aligns_figures_to_the_right() -> None:
    assert table(["what", "n"], [["a", "1"]]) == ["| what | n |", "| --- | ---: |", "| a | 1 |"]
