"""`python -m benchmarks.tune (--sheet FILE | --rows N) [--rpm N] [--tpm N] [--endpoint URL --max-usd X] [--verify]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final, Never

from benchmarks.model import Costs, Deployment
from benchmarks.scale import RESULTS
from benchmarks.tune import words
from benchmarks.tune.endpoint import Probed, probe
from benchmarks.tune.search import REPLICAS, Advice, search
from benchmarks.tune.verify import Verified, environment_of, verify
from benchmarks.tune.workload import Sheet, of_file, of_words
from normalizer.errors import NormalizerError
from normalizer.llm.client import LlmClient
from normalizer.llm.pricing import price

_QUICK_ROWS: Final = 200
_VERIFY_S: Final = 60.0
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
    """Search, print, draw. 0 ok, 1 not possible, 2 usage."""
    given = _parsed(argv)
    try:
        return _run(given)
    except NormalizerError as problem:
        print(f"Erro: {problem}", file=sys.stderr)
        return 1


def _run(given: argparse.Namespace) -> int:
    costs = Costs.of(json.loads(RESULTS.read_text(encoding="utf-8")))
    found = asyncio.run(_probed(given)) if given.endpoint else None
    provider = _provider(given, found)
    sheet = _sheet(given)
    advice = search(costs, sheet.load, provider, sheet.rows, most=given.max_replicas)
    lines = [*(words.probed_lines(found) if found else ()), *words.advice_lines(sheet, advice, model=given.model)]
    print("\n".join(lines), file=sys.stderr if given.json else sys.stdout)
    checked = None
    if given.verify:
        rows = _QUICK_ROWS if given.quick else None
        checked = verify(costs, sheet.load, advice.at, seconds=_VERIFY_S, rows=rows)
        lines += words.verified_lines(checked)
        print(lines[-1], file=sys.stderr if given.json else sys.stdout)
    if given.json:
        print(json.dumps(_document(sheet, advice, checked), ensure_ascii=False))
    return 0


def _document(sheet: Sheet, advice: Advice, checked: Verified | None) -> Mapping[str, object]:
    return {
        "linhas": sheet.rows,
        "carga": asdict(sheet.load),
        "workers": advice.at.replicas,
        "ambiente": environment_of(advice.at),
        "previsao": {name: value for name, value in asdict(advice).items() if name != "at"},
        "mais_workers_ajudam": advice.more_helps,
        "conferido": asdict(checked) if checked else None,
    }


def _sheet(given: argparse.Namespace) -> Sheet:
    if given.sheet:
        return of_file(given.sheet, model=given.model)
    return of_words(
        given.rows, residual=given.residual, known=given.known, characters=given.characters, model=given.model
    )


def _provider(given: argparse.Namespace, found: Probed | None) -> Deployment:
    """What is said wins over what was measured."""
    at = Deployment(updates_per_s=given.updates_per_s)
    if found is not None:
        at = replace(at, latency_s=found.latency_s, tokens_per_s=found.tokens_per_s)
        at = replace(at, rpm=float(found.rpm or at.rpm), tpm=float(found.tpm or at.tpm))
    return replace(
        at,
        rpm=at.rpm if given.rpm is None else given.rpm,
        tpm=at.tpm if given.tpm is None else given.tpm,
        latency_s=at.latency_s if given.latency_s is None else given.latency_s,
        tokens_per_s=at.tokens_per_s if given.tokens_per_s is None else given.tokens_per_s,
    )


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
    parser.add_argument("--characters", type=_real(1), default=70.0, help="tamanho médio de um endereço")
    parser.add_argument("--model", default="gpt-6-luna")
    parser.add_argument("--rpm", type=_real(0), help="pedidos por minuto da conta (0: sem limite)")
    parser.add_argument("--tpm", type=_real(0), help="tokens por minuto da conta (0: sem limite)")
    parser.add_argument("--latency-s", type=_real(0), help="segundos até a resposta começar")
    parser.add_argument("--tokens-per-s", type=_real(1), help="velocidade da resposta")
    parser.add_argument(
        "--updates-per-s", type=_real(0), default=0.0, help="gravações que o MongoDB aguenta (0: folga)"
    )
    parser.add_argument("--endpoint", help="mede o provedor de verdade; a chave vem de OPENAI_API_KEY")
    parser.add_argument("--max-usd", type=_real(0), help="quanto a medição pode custar no máximo")
    parser.add_argument("--max-replicas", type=_whole(1), default=REPLICAS)
    parser.add_argument("--verify", action="store_true", help="confere num provedor simulado, com workers de verdade")
    parser.add_argument("--quick", action="store_true", help="confere com poucas linhas")
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
