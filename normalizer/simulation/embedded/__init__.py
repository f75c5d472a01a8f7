"""Real services as child processes, for the demo, development and tests: Valkey, SecantusDB, the simulated provider.

Never for production. Everything here is the real protocol spoken by a real process; nothing is imported from it
(SecantusDB is GPL-2.0: it stays a program of its own). What holds for every child:

- it listens on 127.0.0.1 only, on a free port, and keeps that port and its data over `restart()`;
- its output goes to a log file, so a terminal stays readable and a failed start can be explained;
- it lives in a session of its own: Ctrl-C reaches the parent alone, which then stops its children in order;
- it dies with its parent, even when that is killed with SIGKILL (Linux: PR_SET_PDEATHSIG).
"""

from normalizer.simulation.embedded.process import Child, spawn_python, spawn_worker
from normalizer.simulation.embedded.programs import (
    MEND,
    MongoService,
    ProviderService,
    RedisService,
    start_mongo,
    start_provider,
    start_valkey,
)
from normalizer.simulation.embedded.service import Service

__all__ = [
    "MEND",
    "Child",
    "MongoService",
    "ProviderService",
    "RedisService",
    "Service",
    "spawn_python",
    "spawn_worker",
    "start_mongo",
    "start_provider",
    "start_valkey",
]
