"""`python workers.py`: one replica of the worker, configured by the environment. Exit codes: 0 stopped, 1 failed."""

from __future__ import annotations

import sys

from normalizer.worker.main import main

if __name__ == "__main__":
    sys.exit(main())
