"""Typer's own words in Portuguese: what it says of a slip in the command, and the headings of its help.

Typer has no translations. Errors are told anew by their kind, never by their English text, as far as they have a kind.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import typer.rich_utils
from pydantic import ValidationError
from typer.core import TyperCommand, TyperGroup

from normalizer.settings import expected

if TYPE_CHECKING:
    from typer.core import TyperOption

OPTIONS, SUBCOMMAND = "[OPÇÕES]", "COMANDO [ARGUMENTOS]..."
_HELP: Final = {
    "help": "Mostra esta ajuda e sai.",
    "install_completion": "Instala o completamento (Tab) neste shell.",
    "show_completion": "Mostra o completamento deste shell, para copiar ou adaptar.",
}
_QUOTED: Final = re.compile(r"'([^']*)'")
_EXTRA: Final = re.compile(r"\((.*)\)")

_panels: Any = typer.rich_utils
_panels.ARGUMENTS_PANEL_TITLE = "Argumentos"
_panels.OPTIONS_PANEL_TITLE = "Opções"
_panels.COMMANDS_PANEL_TITLE = "Comandos"
_panels.DEFAULT_STRING = "[padrão: {}]"
_panels.REQUIRED_LONG_STRING = "[obrigatório]"


class _Portuguese:
    """What a command and a command of commands say of themselves."""

    def get_usage(self, ctx: Any) -> str:
        """The usage line."""
        line: str = super().get_usage(ctx)  # type: ignore[misc] # beside a class of Typer's
        return line.replace("Usage:", "Uso:", 1)

    def get_help_option(self, ctx: Any) -> TyperOption | None:
        """`--help`."""
        option: TyperOption | None = _translated(super().get_help_option(ctx))  # type: ignore[misc]
        return option

    def get_params(self, ctx: Any) -> list[Any]:
        """Parameters, those of the shell completion among them."""
        return [_translated(param) for param in super().get_params(ctx)]  # type: ignore[misc]


class Command(_Portuguese, TyperCommand):
    """A command whose help is in Portuguese."""


class Group(_Portuguese, TyperGroup):
    """A command of commands whose help is in Portuguese."""


def slip(error: Any) -> str:
    """One sentence for a usage error of Typer's, whatever class of its this version has."""
    tell = _TOLD.get(type(error).__name__)
    return tell(error) if tell is not None else _by_its_words(error)


def usage(error: Any) -> str:
    """How the command is called and where its help is; empty when it is not known which command was meant."""
    ctx = getattr(error, "ctx", None)
    return "" if ctx is None else f"{ctx.get_usage()}\nAjuda: {ctx.command_path} --help"


def _translated(param: Any) -> Any:
    if param is not None and param.name in _HELP:
        param.help = _HELP[param.name]
    return param


def _missing(error: Any) -> str:
    if error.param is None:
        return "Falta um argumento."
    what = "a opção" if error.param.param_type_name == "option" else "o argumento"
    return f"Falta {what} {error.param.get_error_hint()}."


def _unknown_option(error: Any) -> str:
    near = ", ".join(sorted(error.possibilities or ()))
    return f"A opção {error.option_name} não existe." + (f" Quis dizer {near}?" if near else "")


def _bad_value(error: Any) -> str:
    cause, message = error.__cause__, error.message
    if isinstance(cause, ValidationError):
        first = cause.errors()[0]
        message = f"{expected(first['type'], first.get('ctx') or {})}; encontrado {str(first['input'])[:40]!r}."
    hint = error.param_hint or (error.param.get_error_hint() if error.param is not None else None)
    return f"{hint}: {message}" if hint else message


def _bad_usage(error: Any) -> str:
    if "does not take" in error.message:
        return f"A opção {error.option_name} não leva valor."
    return f"A opção {error.option_name} pede um valor."


_TOLD: Final = {
    "MissingParameter": _missing,
    "NoSuchOption": _unknown_option,
    "BadParameter": _bad_value,
    "BadOptionUsage": _bad_usage,
}


def _by_its_words(error: Any) -> str:
    message = str(error.message)
    quoted = _QUOTED.findall(message)
    if message.startswith("No such command") and quoted:
        near = f" Quis dizer {', '.join(quoted[1:])}?" if quoted[1:] else ""
        return f"O comando {quoted[0]} não existe.{near}"
    if message.startswith("Missing command"):
        return "Falta o comando."
    if (
        extra := _EXTRA.search(message.removeprefix("Got unexpected extra argument(s)"))
    ) and "extra argument" in message:
        return f"Argumentos a mais: {extra[1]}."
    return "Uso errado do comando."
