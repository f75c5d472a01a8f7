"""The report: `docs/BENCHMARKS.md`, its pictures and README's table, all of them made of `benchmarks/results/*.json`.

A new kind of result joins by one line in `sections.py`.
"""
