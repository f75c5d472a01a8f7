"""Forms with a file (`curl -F arquivo=@agenda.xlsx`): the file taken out of the body as it comes, never held whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import HTTPException
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from fastapi import Request

_FIELD_BYTES: Final = 1024 * 1024
_MOST_FIELDS: Final = 20
_FORM: Final = b"multipart/form-data"
_UNREADABLE: Final = "O formulário não se lê: envie o arquivo com curl -F arquivo=@agenda.xlsx ou --data-binary."
_NO_FILE: Final = "O formulário não traz arquivo: envie um, por exemplo com curl -F arquivo=@agenda.xlsx."


class FilePart:
    """The first file of a form, and its name once that has come; `fields` are the form's others, bounded."""

    def __init__(self, boundary: bytes) -> None:
        self.name: str | None = None
        self.fields: dict[str, bytearray] = {}
        self._current: bytearray | None = None
        self._is_in_file = False
        self._is_file = self._is_over = False
        self._field, self._value = bytearray(), bytearray()
        self._pieces: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
            },
        )

    def feed(self, piece: bytes) -> bytes:
        """What of the file is in this piece of the body. Raises 422 for what is no form."""
        self._pieces.clear()
        try:
            self._parser.write(piece)
        except FormParserError:
            raise HTTPException(422, _UNREADABLE) from None
        return b"".join(self._pieces)

    def close(self) -> None:
        """The body has ended. Raises 422 where no file was in it."""
        if not self._is_over:
            raise HTTPException(422, _NO_FILE if not self._is_file else _UNREADABLE)

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            options = parse_options_header(bytes(self._value))[1]
            given = options.get(b"filename")
            self._current = bytearray() if given is None else None
            if self._current is not None and len(self.fields) < _MOST_FIELDS:
                self.fields[options.get(b"name", b"").decode("utf-8", "replace")] = self._current
            elif given is not None and not self._is_over:
                self._is_file = self._is_in_file = True
                self.name = given.decode("utf-8", "replace") or self.name
        self._field.clear()
        self._value.clear()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_in_file:
            self._pieces.append(data[start:end])
        elif self._current is not None:
            self._current += data[start:end]
            if len(self._current) > _FIELD_BYTES:
                raise HTTPException(413, "Um campo do formulário é grande demais.")

    def _on_part_end(self) -> None:
        self._is_over = self._is_over or self._is_in_file
        self._is_in_file, self._current = False, None


def file_part_of(request: Request) -> FilePart | None:
    """How the file is to be taken out of this request's body; None where the body is the file. Raises 422."""
    kind, options = parse_options_header(request.headers.get("content-type", "").encode("latin-1"))
    if kind != _FORM:
        return None
    if not options.get(b"boundary"):
        raise HTTPException(422, _UNREADABLE)
    return FilePart(options[b"boundary"])
