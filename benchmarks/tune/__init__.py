"""Settings for a workload and a provider's limits, found by short trials with real workers, told to an operator.

`python -m benchmarks.tune --sheet agenda.xlsx --rpm 500 --tpm 200000` (see docs/TUNING.md).
"""
