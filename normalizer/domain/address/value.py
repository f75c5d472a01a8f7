"""The normalized Brazilian address as it is stored in `endereco_normalizado`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS: Final = ("rua", "numero", "complemento", "bairro", "cidade", "estado", "cep")


@dataclass(frozen=True, slots=True)
class Address:
    """Street, city and state are the minimum; everything else may be absent (None, never an empty string)."""

    rua: str
    cidade: str
    estado: str
    numero: str | None = None
    complemento: str | None = None
    bairro: str | None = None
    cep: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Return the seven stored fields, in the stored order."""
        return {
            "rua": self.rua,
            "numero": self.numero,
            "complemento": self.complemento,
            "bairro": self.bairro,
            "cidade": self.cidade,
            "estado": self.estado,
            "cep": self.cep,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, object]) -> Address:
        """Return the address of seven stored fields; empty strings count as absent.

        Raises ValueError when a field is neither string nor null, or when street, city or state is missing.
        """
        fields: dict[str, str | None] = {}
        for name in FIELDS:
            value = stored.get(name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name} must be a string or null")
            fields[name] = value or None
        rua, cidade, estado = fields.pop("rua"), fields.pop("cidade"), fields.pop("estado")
        if rua is None or cidade is None or estado is None:
            raise ValueError("rua, cidade and estado are required")
        return cls(rua=rua, cidade=cidade, estado=estado, **fields)
