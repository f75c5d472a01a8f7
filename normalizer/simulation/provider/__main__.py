"""Serves the simulated provider: see `normalizer.simulation.provider`."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import orjson
import uvicorn

from normalizer.simulation.provider import build_app
from normalizer.simulation.provider.faults import read_faults
from normalizer.simulation.provider.model import Options, read_labels


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description="simulated OpenAI-compatible provider")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--faults", type=Path, help="a JSON list of faults, as POST /faults takes it")
    for field in fields(Options):
        kind = {"float": float, "int": int}.get(str(field.type))
        name = f"--{field.name.replace('_', '-')}"
        if kind is None:
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            parser.add_argument(name, type=kind, default=field.default)
    given = vars(parser.parse_args())
    options = Options(**{field.name: given[field.name] for field in fields(Options)})
    labels = read_labels(given["labels"]) if given["labels"] else {}
    app = build_app(labels, options)
    if given["faults"]:
        app.state.provider.faults[:] = read_faults(orjson.loads(given["faults"].read_bytes()))
    uvicorn.run(app, host=given["host"], port=given["port"], log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
