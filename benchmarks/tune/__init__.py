"""Settings for a workload and a provider's limits: searched with the queueing model, told to an operator.

`python -m benchmarks.tune --sheet agenda.xlsx --rpm 500 --tpm 200000` (see docs/TUNING.md).
"""
