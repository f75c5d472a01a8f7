"""A simulated OpenAI-compatible provider: answers from labels, takes its time, keeps limits, and fails on demand.

`python -m normalizer.simulation.provider --port 9999 --labels labels.jsonl --latency-ms 400 --tokens-per-s 80 --rpm 60`

POST /v1/chat/completions and GET /v1/models as the real ones; GET /stats, GET /requests (the last bodies), POST /faults
(a list of faults, see `Fault`; `--faults FILE.json` is the same from the start), POST /reset. Every answer and header
says "simulated". Labels are JSON Lines `{"text", "expected"}`; a text without a label is answered with nulls. Tokens
are counted with the real tokenizer.
"""

from normalizer.simulation.provider.app import build_app
from normalizer.simulation.provider.faults import Fault
from normalizer.simulation.provider.limits import Options
from normalizer.simulation.provider.model import Provider

__all__ = ["Fault", "Options", "Provider", "build_app"]
