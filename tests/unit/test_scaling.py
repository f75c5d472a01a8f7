"""`docs/SCALING.md` says what the result file says."""

from __future__ import annotations

import re
import statistics

import pytest

from benchmarks.checked import check
from benchmarks.scaling import PAGE, blocks, headline, read, rendered

MEASURED = read()
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_says_what_the_result_file_says() -> None:
    assert rendered(TEXT, blocks(MEASURED)) == TEXT, "run: python -m benchmarks.scaling"


def test_every_block_that_is_made_is_on_the_page() -> None:
    assert set(re.findall(r"<!-- scale:(\w+) -->", TEXT)) == set(blocks(MEASURED))


def test_a_block_that_nobody_makes_is_an_error() -> None:
    with pytest.raises(KeyError):
        rendered("<!-- scale:nobody -->\n<!-- /scale:nobody -->", blocks(MEASURED))


def test_no_number_outside_the_blocks_is_a_measured_one() -> None:
    """Figures in the running text are the workload's and the provider's, never results: those would go stale there."""
    prose = re.sub(r"<!-- scale:(\w+) -->.*?<!-- /scale:\1 -->", "", TEXT, flags=re.DOTALL)
    assert re.findall(r"\d[\d,.]*\s*(?:µs|MB|rows/s|commands)", prose) == []


def test_the_redis_guide_says_what_was_measured() -> None:
    guide = (PAGE.parent / "COOLIFY_REDIS.md").read_text(encoding="utf-8")
    said = [int(size) for size in re.findall(r"\| cerca de (\d+) \|", guide)]
    assert said == [round(point["bytes"], -1) for point in MEASURED["room"]["points"]]


def test_the_headline_is_of_the_same_figures() -> None:
    (what, largest), (_, refused), (_, errors) = headline(MEASURED)
    assert what.startswith("1,000,000 rows by rules")
    assert re.fullmatch(r"[\d.]+, [\d.]+ µs, [\d.]+ times", largest)
    assert re.fullmatch(r"\d+ against \d+", refused)
    assert re.fullmatch(r"\d+% \(median\), \d+% at most", errors)


def test_the_model_is_near_where_something_else_than_the_processor_is_the_limit() -> None:
    """Half of the points within a quarter: a model that misses more knows little. How near it is stands on the page."""
    errors = [abs(each.error) for each in check(MEASURED) if each.unit == "s"]
    assert statistics.median(errors) < 0.25
