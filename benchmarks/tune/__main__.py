"""`python -m benchmarks.tune (--sheet FILE | --rows N) [--rpm N] [--tpm N] [--endpoint URL --max-usd X]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, Never

from benchmarks.tune import words
from benchmarks.tune.endpoint import Probed, probe
from benchmarks.tune.trial import Account, Climb, Setting, Trial, rows_for, run
from benchmarks.tune.workload import Workload, of_file
from normalizer.errors import NormalizerError
from normalizer.llm.client import LlmClient
from normalizer.llm.pricing import price

_REPLICAS: Final = 2
_TRIALS: Final = 12
_SECONDS: Final = 30.0
_SAID: Final = {
    "unrecognized arguments": "opção desconhecida",
    "expected one argument": "falta o valor",
    "one of the arguments --sheet --rows is required": "diga a planilha (--sheet ARQUIVO) ou quantas linhas (--rows N)",
    "not allowed with argument": "não pode vir junto com",
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, and nothing else."""

    def error(self, message: str) -> Never:
        for said, meant in _SAID.items():
            message = message.replace(said, meant)
        self.exit(2, f"Erro: {message.removeprefix('argument ')}.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Try, print. 0 ok, 1 not possible, 2 usage."""
    given = _parsed(argv)
    try:
        return _run(given)
    except NormalizerError as problem:
        print(f"Erro: {problem}", file=sys.stderr)
        return 1


def _run(given: argparse.Namespace) -> int:
    tell = sys.stderr if given.json else sys.stdout
    found = asyncio.run(_probed(given)) if given.endpoint else None
    if found:
        print(words.probed_line(found), file=tell)
    account = _account(given, found)
    load = of_file(given.sheet) if given.sheet else Workload(given.rows, given.residual, given.known)
    print(words.load_line(load), file=tell, flush=True)
    rows = rows_for(load, account, given.seconds)

    def measure(setting: Setting) -> Trial:
        trial = run(setting, load, account, rows)
        print(words.trial_line(trial), file=sys.stderr, flush=True)
        return trial

    climb = Climb(measure, given.max_replicas, given.trials)
    best = climb.run()
    print("\n".join(words.advice_lines(load, best, climb.tried, model=given.model)), file=tell)
    if given.json:
        print(json.dumps(_document(load, best, climb.tried), ensure_ascii=False))
    return 0


def _document(load: Workload, best: Trial, tried: Sequence[Trial]) -> Mapping[str, object]:
    return {
        "carga": asdict(load),
        "workers": best.setting.replicas,
        "ambiente": words.environment_of(best),
        "linhas_por_min": round(best.rows_per_min),
        "limite": best.limit,
        "mais_workers_ajudam": words.more_workers_help(best, tried),
        "ensaios": [asdict(trial) for trial in tried],
    }


def _account(given: argparse.Namespace, found: Probed | None) -> Account:
    """What is said wins over what was measured, and that over what is usual."""
    usual, measured = Account(), found or Account()

    def of(name: str) -> float:
        said = getattr(given, name)
        return float(getattr(measured, name) or getattr(usual, name)) if said is None else float(said)

    return Account(round(of("rpm")), round(of("tpm")), of("latency_s"), of("tokens_per_s"))


async def _probed(given: argparse.Namespace) -> Probed:
    client = LlmClient(api_key=os.environ["OPENAI_API_KEY"], model=given.model, base_url=given.endpoint)
    try:
        return await probe(client, model=given.model, price=price(given.model), max_usd=given.max_usd)
    finally:
        await client.close()


# -- arguments


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="benchmarks.tune", description="variáveis para uma carga e os limites de um provedor")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--sheet", type=_file, help="planilha, lida como numa importação")
    what.add_argument("--rows", type=_whole(1), help="ou quantas linhas ela teria")
    parser.add_argument("--residual", type=_share, default=0.15, help="parte dos endereços que só a IA lê")
    parser.add_argument("--known", type=_share, default=0.30, help="parte desses cujo texto já foi respondido")
    parser.add_argument("--model", default="gpt-6-luna")
    parser.add_argument("--rpm", type=_real(0), help="pedidos por minuto da conta (0: sem limite)")
    parser.add_argument("--tpm", type=_real(0), help="tokens por minuto da conta (0: sem limite)")
    parser.add_argument("--latency-s", type=_real(0), help="segundos até a resposta começar")
    parser.add_argument("--tokens-per-s", type=_real(1), help="velocidade da resposta")
    parser.add_argument("--endpoint", help="mede o provedor de verdade; a chave vem de OPENAI_API_KEY")
    parser.add_argument("--max-usd", type=_real(0), help="quanto a medição pode custar no máximo")
    parser.add_argument("--max-replicas", type=_whole(1), default=_REPLICAS, help="quantos workers você pode ter")
    parser.add_argument("--seconds", type=_real(1), default=_SECONDS, help="duração aproximada de um ensaio")
    parser.add_argument("--trials", type=_whole(1), default=_TRIALS, help="ensaios, no máximo")
    parser.add_argument("--json", action="store_true", help="um documento JSON na saída; o resto vai para stderr")
    given = parser.parse_args(argv)
    if given.endpoint and given.max_usd is None:
        parser.error("--endpoint gasta dinheiro de verdade: diga quanto com --max-usd")
    if given.endpoint and not os.environ.get("OPENAI_API_KEY"):
        parser.error("--endpoint precisa da chave em OPENAI_API_KEY")
    return given


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"o arquivo {text!r} não existe")
    return Path(text)


def _share(text: str) -> float:
    return _bounded(text, float, 0, 1, "um número de 0 a 1")


def _real(least: float) -> Callable[[str], float]:
    return lambda text: _bounded(text, float, least, 1e12, f"um número a partir de {least:g}")


def _whole(least: int) -> Callable[[str], int]:
    return lambda text: int(_bounded(text, int, least, 10**9, f"um número inteiro a partir de {least}"))


def _bounded(text: str, kind: Callable[[str], float], least: float, most: float, expected: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"esperado {expected}; encontrado {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
