"""Every format says what it means, and reads back what it writes."""

import json

import pytest

from benchmarks.answer_formats import FORMATS, GOLD, Score, count, faultless_tokens, main
from benchmarks.report.parts import answers_of_a_model
from normalizer.llm.prompt import FIELDS, slot

VALUES = ["R. das Flores", "12", "", "Centro", "Itu", "SP", "13300-000"]
SEGMENTS = dict(zip(FIELDS, [value or None for value in VALUES], strict=True))
ROWS = [
    {
        "text": f"R. das Flores, {number}, Centro, Itu, SP, 13300-000",
        "expected": SEGMENTS | {"rua": "Rua das Flores", "numero": str(number)},
    }
    for number in (12, 13)
]


@pytest.mark.parametrize("how", FORMATS.values(), ids=list(FORMATS))
def test_a_format_reads_back_what_it_writes(how):
    raw = json.dumps({slot(0): how.write(VALUES)}, ensure_ascii=False)

    assert how.read(raw, 2) == [SEGMENTS, None]


@pytest.mark.parametrize("how", FORMATS.values(), ids=list(FORMATS))
def test_a_format_is_told_with_the_same_rules_and_its_own_example(how):
    system = how.system()

    assert "7. A piece belongs to one field only." in system
    assert (
        json.dumps(
            how.write(["R. DAS CAMELIAS", "2040", "AP. 83", "VL. AURORA", "S. BENTO DO LAGO", "MG", ""]),
            ensure_ascii=False,
            separators=(",", ":"),
        )
        in system
    )
    assert system.count("Output:") == 1
    assert ("array of exactly 7" in system) == (how.name == "array")


@pytest.mark.parametrize("how", FORMATS.values(), ids=list(FORMATS))
@pytest.mark.parametrize("value", [None, 1, "a|b", ["x"], {"r": 1}, {}, "{"])
def test_what_is_of_another_shape_is_not_read(how, value):
    segments = how.parse(value)

    assert segments is None or not any(segments.values())
    assert how.read(json.dumps(value), 1) == [None]


def test_the_score_tells_right_wrong_misplaced_and_lost_apart():
    score = Score("array", 2)
    twelve, thirteen = (SEGMENTS | {"numero": number} for number in ("12", "13"))

    count(score, ROWS, [twelve, thirteen])
    count(score, ROWS, [thirteen, None])
    count(score, ROWS, [twelve | {"bairro": None}, thirteen])

    assert (score.records, score.exact, score.unread, score.refused, score.misplaced) == (6, 3, 1, 2, 1)
    assert score.wrong == 0


def test_the_array_is_the_shortest_whose_arity_a_schema_can_hold():
    tokens = {name: faultless_tokens(how, ROWS, 2) for name, how in FORMATS.items()}

    assert tokens["delimited"] < tokens["array"] < tokens["short_keys"] < tokens["long_keys"]


def test_an_endpoint_is_asked_and_what_it_answered_is_written_down(start_provider, tmp_path):
    provider = start_provider(GOLD)
    out = tmp_path / "asked.json"
    given = ["--base-url", provider.url, "--model", "simulated", "--rows", "6", "--formats", "array"]

    assert main([*given, "--sizes", "4,1", "--out", str(out)]) == 0

    written = json.loads(out.read_text("utf-8"))
    assert [(each["size"], each["calls"], each["records"]) for each in written["scores"]] == [(4, 2, 6), (1, 6, 6)]
    assert all(each["exact"] > 0 and each["wrong"] == 0 for each in written["scores"])
    assert written["strict_schema"]
    assert answers_of_a_model(written)[-2].count("|") == 12


def test_what_was_measured_before_is_not_asked_again(start_provider, tmp_path):
    provider = start_provider(GOLD)
    out = tmp_path / "asked.json"
    given = ["--base-url", provider.url, "--model", "simulated", "--formats", "array", "--out", str(out)]

    assert main([*given, "--rows", "3", "--sizes", "1"]) == 0
    assert main([*given, "--rows", "3", "--sizes", "1,3"]) == 0
    assert main([*given, "--rows", "6", "--sizes", "1"]) == 0

    written = json.loads(out.read_text("utf-8"))
    assert [(each["size"], each["records"]) for each in written["scores"]] == [(1, 3), (3, 3), (1, 6)]
    assert all(each["commit"] for each in written["scores"])
    with pytest.raises(SystemExit, match="another model"):
        main([*given, "--model", "other", "--sizes", "1"])


def test_counting_needs_no_endpoint(capsys):
    assert main(["--count-only", "--rows", "5", "--sizes", "1,5"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(FORMATS)
    with pytest.raises(SystemExit):
        main([])
