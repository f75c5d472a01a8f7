"""What the smaller benches say: the provider's speed, cost, queue, rules, answer formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.report.text import number, table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def told_in(page: str) -> Callable[[Mapping[str, Any]], list[str]]:
    """For results that have a page of their own under docs/."""
    return lambda _document: [f"Tables and what follows from them: [{page}]({page}).", ""]


def provider(document: Mapping[str, Any]) -> list[str]:
    """How fast the simulated provider itself is."""
    target = f"the {document['target_per_s']} requests a second that it must not fall behind"
    answers = (
        f"It answers {target}" if document["keeps_up"] else f"On a machine as busy as this it did not reach {target}"
    )
    slowest_us = max(found["cpu_us_per_request"] for found in document["calls"].values())
    capacity = f"its processor time allows for {number(1e6 / slowest_us)} a second on a core of its own"
    return [
        f"What all the figures here are measured against. {answers}; {capacity}.",
        "",
        *table(
            ["kind of call", "requests/s", "CPU µs per request"],
            (
                [name, number(found["requests_per_s"]), number(found["cpu_us_per_request"])]
                for name, found in document["calls"].items()
            ),
        ),
        "",
    ]


def cost(document: Mapping[str, Any]) -> list[str]:
    """What a sheet costs, by way of working."""
    limits = document["provider"]
    return [
        (
            f"{number(document['rows'])} rows with {number(document['distinct_addresses'])} distinct addresses, of "
            f"which {document['residual_used']:.0%} are left to the model, at {number(limits['rpm'])} requests and "
            f"{number(limits['tpm'])} tokens a minute; prices of {document['prices']['model']}."
        ),
        "",
        *table(
            ["way", "calls", "tokens in", "tokens out", "US$", "seconds", "how"],
            (
                [
                    way["what"],
                    *(number(way[name]) for name in ("calls", "tokens_in", "tokens_out", "usd", "seconds")),
                    way["measured"],
                ]
                for way in document["ways"]
            ),
        ),
        "",
    ]


def cost_headline(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What README says of it."""
    ways = {way["what"]: way for way in document["ways"]}
    first, ours, again = ways["one call per field"], ways["batched + cache + rules"], ways["warm re-import"]
    tokens = [(way["tokens_in"] + way["tokens_out"]) / document["rows"] for way in (ours, first)]
    return [
        (
            (
                f"a {number(document['rows'])}-row sheet, {document['residual_used']:.0%} of its addresses left to the "
                "model: calls, against one call per field"
            ),
            f"{number(ours['calls'])} against {number(first['calls'])} ({first['measured']})",
        ),
        ("the same: tokens per row", " against ".join(map(number, tokens))),
        ("the same sheet again", f"{number(again['calls'])} calls"),
    ]


def queue(document: Mapping[str, Any]) -> list[str]:
    """What claiming and settling alone cost."""
    names = ("jobs_per_s", "commands_per_job", "worker_cpu_us_per_job", "redis_cpu_us_per_job")
    pairs = [f"{value} times the jobs per second with {name[1:]} process(es)" for name, value in _times(document)]
    return [
        "Jobs that do nothing, through a stock `arq.Worker` and through `BatchWorker`. "
        + "; ".join(pairs)
        + f". A job whose worker was killed is run by another after {document['recovery_after_kill_s']['batch']} s "
        f"(stock: {document['recovery_after_kill_s']['stock']} s).",
        "",
        *table(
            ["worker × processes", "jobs/s", "Redis commands/job", "worker CPU µs/job", "Redis CPU µs/job"],
            ([name, *(number(found[each]) for each in names)] for name, found in document["median"].items()),
        ),
        "",
    ]


def _times(document: Mapping[str, Any]) -> list[tuple[str, float]]:
    return list(document["batch_over_stock"].items())


def _single(document: Mapping[str, Any]) -> list[float]:
    """Round by round, with one process: how many times as fast."""
    rates = {
        peer: [each["jobs_per_s"] for each in document["rounds"] if (each["peer"], each["processes"]) == (peer, 1)]
        for peer in ("stock", "batch")
    }
    return [batch / stock for stock, batch in zip(rates["stock"], rates["batch"], strict=True)]


def queue_headline(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What README says of it."""
    median, single = document["median"], _single(document)
    commands = [number(median[name]["commands_per_job"]) for name in ("batch x1", "stock x1")]
    return [
        (
            "claiming and settling no-op jobs, one process, against stock ARQ: jobs per second",
            f"{number(document['batch_over_stock']['x1'])} times (rounds: {min(single):.0f} to {max(single):.0f})",
        ),
        ("the same: Redis commands per job", " against ".join(commands)),
    ]


def rows(document: Mapping[str, Any]) -> list[str]:
    """What one worker process spends on a row."""
    targets = document["targets"]
    return [
        f"One `python workers.py`, {number(document['rows'])} different rows a way, the store in memory: medians of",
        f"{document['rounds']} rounds, the lowest in brackets. `rules`: nothing is known of the texts; `cache`: their",
        "addresses are known in Redis; `memory`: in the process itself.",
        "",
        *table(
            ["checkout, way", "worker CPU µs/row", "target at most", "rows/s", "target at least"],
            (
                [
                    f"{peer} ({document['commits'][peer]}), {way}",
                    f"{number(found['cpu_us_per_row'])} ({number(_least(document, peer, way))})",
                    number(targets[way]["cpu_us_per_row"]),
                    number(found["rows_per_s"]),
                    number(targets[way]["rows_per_s"]),
                ]
                for peer, ways in document["median"].items()
                for way, found in ways.items()
            ),
        ),
        "",
    ]


def rows_headline(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What README says of it."""
    ways = {"rules": "settled by rules", "cache": "answered from the cache in Redis"}
    measured = document["median"]["now"]
    return [
        (
            f"one worker process, from the claim to the settled job, rows {said}: rows/s, CPU per row",
            f"{number(measured[way]['rows_per_s'])}, {number(measured[way]['cpu_us_per_row'])} µs",
        )
        for way, said in ways.items()
    ]


def _least(document: Mapping[str, Any], peer: str, way: str) -> float:
    rounds = (each for each in document["raw"] if (each["peer"], each["way"]) == (peer, way))
    return min(float(each["cpu_us_per_row"]) for each in rounds)


def imports(document: Mapping[str, Any]) -> list[str]:
    """A large sheet: the import in a process of its own, then preview, import and undo over HTTP."""
    alone, served = document["alone"], document["served"]
    names = {"preview": "dry run", "import": "import", "again": "the same file again"}
    memory = f"{alone['peak_mb']} MB in the importing process and {alone['reader_peak_mb']} MB in its workbook reader"
    sheet = f"One sheet of {number(document['rows'])} rows × {document['columns']} columns ({document['sheet_mb']} MB)"
    return [
        f"{sheet}: at most {memory}; {served['peak_mb']} MB in `normalizer serve`. CPU is that of process and reader.",
        "",
        *table(
            ["step", "CPU s", "wall s without the store", "wall s", "new", "equal"],
            (
                [label, *(number(alone["steps"][name][each]) for each in ("cpu_s", "own_s", "wall_s", "new", "equal"))]
                for name, label in names.items()
            ),
        ),
        "",
        *table(
            ["over HTTP", "answered after s", "done after s"],
            ([name, *(number(served[name][each]) for each in ("answered_s", "done_s"))] for name in _SERVED),
        ),
        "",
        f"Meanwhile `/health/live` took {number(served['slowest_health_s'])} s at most.",
        "",
    ]


_SERVED = ("preview", "import", "undo")


def imports_headline(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What README says of it."""
    alone = document["alone"]
    most = max(step["cpu_s"] for step in alone["steps"].values())
    what = f"a sheet of {number(document['rows'])} rows × {document['columns']} columns imported: CPU and memory"
    return [
        (what, f"{number(most)} s and {alone['peak_mb'] + alone['reader_peak_mb']} MB at most, without the store's own")
    ]


def answer_formats(document: Mapping[str, Any]) -> list[str]:
    """How many tokens each format of an answer takes."""
    counted = document["tokens_per_record"]
    sizes = list(next(iter(counted.values())))
    return [
        f"Tokens per record of a faultless answer to {document['rows']} development rows, by records per call.",
        "Counted: no model is asked. The decision is [006](decisions/006-answer-format.md).",
        "",
        *table(
            ["format", *sizes], ([name, *(f"{found[size]:.1f}" for size in sizes)] for name, found in counted.items())
        ),
        "",
    ]


def answers_of_a_model(document: Mapping[str, Any]) -> list[str]:
    """How each format fared on a real model."""

    def share(found: Mapping[str, Any], name: str) -> str:
        return f"{found[name] / found['records']:.0%}"

    schema = "strict" if document["strict_schema"] else "no"
    return [
        (
            f"Development rows, the messy ones first, asked of `{document['model']}` ({schema} "
            "schema), a small model on the processor: an adversary, not a yardstick. Answers are judged as the worker "
            "judges them. "
            "`refused`: not accepted by standardisers or grounding, so asked again or given to review; "
            "`stored and wrong`: accepted, and not what the label says; "
            "`misplaced`: refused, and right for another record of its call."
        ),
        "",
        *table(
            [
                "format",
                "records a call",
                "records asked",
                "output tokens a record",
                "seconds a record",
                "exact",
                "refused",
                "unread",
                "misplaced",
                "stored and wrong",
                "commit",
            ],
            (
                [
                    found["format"],
                    number(found["size"]),
                    number(found["records"]),
                    f"{found['tokens_out_per_record']:.1f}",
                    f"{found['seconds'] / found['records']:.1f}",
                    *(share(found, name) for name in ("exact", "refused", "unread", "misplaced", "wrong")),
                    found["commit"],
                ]
                for found in document["scores"]
            ),
        ),
        "",
    ]


_QUALITY_COLUMNS: Final = [
    "set",
    "rows",
    "exact",
    "settled",
    "invented",
    "wrong but accepted",
    "refused although right",
]


def _quality_cells(name: str, found: Mapping[str, Any]) -> list[str]:
    counts = ("settled", "hallucinations", "wrong_accepted", "refused_wrongly")
    return [name, number(found["rows"]), f"{found['canon']:.1%}", *(number(found[each]) for each in counts)]


def quality(document: Mapping[str, Any]) -> list[str]:
    """What the rules get right, alone and with a model."""
    with_model = [found for found in document.values() if "model" in found]
    asked = (
        f" With a model, `{with_model[0]['model']}` was asked about the "
        f"{sum(found['asked'] for found in with_model)} that the rules leave open."
        if with_model
        else ""
    )
    return [
        (
            "The rules alone, without a model, on labelled texts. The rows of the `blind` sets were written by "
            "three authors who had not seen the rules; the rules were mended afterwards by what they found, so they "
            "are no longer blind to these." + asked
        ),
        "",
        *table(_QUALITY_COLUMNS, (_quality_cells(name, found) for name, found in document.items())),
        "",
    ]


def quality_before(document: Mapping[str, Any]) -> list[str]:
    """What they got right before the blind rows were used to mend them."""
    return [
        "The same blind rows, read by the rules as they were before anything was mended by them.",
        "",
        *table(
            [*_QUALITY_COLUMNS, "rules of"],
            ([*_quality_cells(name, found), found["commit"]] for name, found in document.items()),
        ),
        "",
    ]


def quality_before_headline(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What README says of it."""
    return [
        (what.replace("after mending what they found", "before any was mended"), figure)
        for what, figure in quality_headline(document)
    ]


def quality_headline(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What README says of it."""
    return [
        (
            (
                f"rules alone, {found['rows']} {kind} written by {author} who had not seen the rules, after mending "
                "what they found: exact, invented, wrong yet accepted"
            ),
            f"{found['canon']:.0%}, {found['hallucinations']}, {found['wrong_accepted']}",
        )
        for kind in ("addresses", "documents")
        for blind, author in (
            ("blind", "somebody"),
            ("second blind", "a second author"),
            ("third blind", "a third author"),
        )
        if (found := document.get(f"{kind} ({blind})"))
    ]
