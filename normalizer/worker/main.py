"""One replica from start to stop: settings, banner, worker, exit code."""

from __future__ import annotations

import gc
import sys
from typing import Final

import structlog

from normalizer.domain.address import parse_address
from normalizer.errors import NormalizerError, TransientError
from normalizer.queue.connection import describe
from normalizer.runtime import build_worker, redis_of, start_logging
from normalizer.settings import Settings, load_settings
from normalizer.worker import tasks

log = structlog.get_logger(__name__)

_LINE: Final = "=" * 60
_YOUNG_OBJECTS: Final = 10_000  # new ones before the collector looks at them; Python's own 700 are a few rows


def main() -> int:
    """Run one worker until it is told to stop. Returns the process's exit code (see `normalizer.cli`)."""
    try:
        settings = load_settings()
        start_logging(settings)
        print(banner(settings), flush=True)  # noqa: T201 — the banner operators look for, on stdout
        if settings.openai_api_key is None:
            log.warning("llm.disabled", reason="sem OPENAI_API_KEY: só regras e cache; o resto espera em revisão")
        worker = build_worker(settings)
        spare_the_collector()
        worker.run()
    except NormalizerError as error:
        print(f"Erro: {error}", file=sys.stderr)  # noqa: T201
        return 3 if isinstance(error, TransientError) else 2
    return 0


def spare_the_collector() -> None:
    """Keep what lives as long as the process out of garbage collection, and look for cycles among the rest less often.

    A group or a sheet makes tens of thousands of objects, and nearly all go by their counts; every full collection
    walked the modules and the tables of places again to find nothing.
    """
    parse_address("Rua das Flores, 1, Centro, Campinas - SP, 13010-000")  # reads the tables, which stay
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


def banner(settings: Settings) -> str:
    """The start-up lines of the deployed system, line for line.

    Raises:
        Misconfigured: REDIS_URL cannot be used.
    """
    return "\n".join(
        (
            _LINE,
            "Starting ARQ Background Worker",
            _LINE,
            "Tasks registered:",
            f"  - {tasks.normalize_appointment.__name__}",
            f"Redis: {describe(redis_of(settings))}",
            f"Max concurrent jobs: {settings.arq_max_jobs}",
            f"Job timeout: {settings.arq_job_timeout} seconds",
            _LINE,
        )
    )
