"""The command itself, and what every command shares: exit codes, where results go and where words to people go."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.exceptions import TyperException

from normalizer import __version__
from normalizer.cli.language import OPTIONS, SUBCOMMAND, Group, slip, usage
from normalizer.errors import Misconfigured, NormalizerError, TransientError
from normalizer.observability.logs import configure_logging

OK, FAILED, USAGE, NOT_READY, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    name="normalizer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    cls=Group,
    options_metavar=OPTIONS,
    subcommand_metavar=SUBCOMMAND,
    context_settings={"help_option_names": ["-h", "--help"]},
)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)  # a sentence is one line, also in a log

Json = Annotated[bool, typer.Option("--json", help="Um único documento JSON na saída padrão.")]


def main() -> None:
    """Entry point: run the command; turn a slip and our own errors into one sentence and an exit code."""
    try:
        sys.exit(app(standalone_mode=False) or OK)
    except (KeyboardInterrupt, typer.Abort):
        stderr.print("Interrompido.")
        sys.exit(INTERRUPTED)
    except NormalizerError as error:
        stderr.print(f"[red]Erro:[/red] {escaped(error)}")
        sys.exit(exit_code(error))
    except TyperException as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # help was asked for; it has been shown
            for line in usage(error).splitlines():
                stderr.print(escaped(line))
            stderr.print(f"[red]Erro:[/red] {escaped(slip(error))}")
        sys.exit(USAGE)


def exit_code(error: NormalizerError) -> int:
    """The documented exit code of an error."""
    if isinstance(error, TransientError):
        return NOT_READY
    if isinstance(error, Misconfigured):
        return USAGE
    return FAILED


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"normalizer {__version__}")
        raise typer.Exit


@app.callback()
def _quiet(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Mostra a versão e sai.")
    ] = False,
) -> None:
    """Normaliza endereços e documentos de agendamentos, em lotes e sem inventar nada."""
    configure_logging("WARNING", json_lines=False)  # a worker configures it again, from LOG_LEVEL


def print_json(document: dict[str, Any]) -> None:
    """One document on stdout."""
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.buffer.flush()


def escaped(value: object) -> str:
    """Text that `stderr` shows as it is: no markup, and no control character that a sheet's title brought along."""
    return printable(value).replace("[", r"\[")


def printable(value: object) -> str:
    """Text without control characters, which a terminal would obey; lines stay lines."""
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in str(value))


@contextlib.contextmanager
def bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """How far it is, on stderr, where somebody looks at it."""
    with Progress(
        TextColumn(f"[bold]{escaped(name)}[/bold]"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,
    ) as shown:
        task = shown.add_task("", total=None)
        yield lambda done, rows: shown.update(task, completed=done, total=rows or None)
