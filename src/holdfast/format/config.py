"""The config file of a repository: its version, its id, and the polynomial that places chunk boundaries."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import field
from typing import Any

from holdfast.format.crypto import Buffer
from holdfast.format.gostring import json_value
from holdfast.format.jsonfields import load_object, parse_id, take_int, take_text, wrong
from holdfast.kernel.errors import Internal, Unsupported
from holdfast.kernel.values import dataclass

VERSION = 2
DEGREE = 53
_WHAT = "the repository's config"
_KNOWN_VERSIONS = (1, 2)
_MAX_DRAWS = 100_000


@dataclass(frozen=True)
class RepoConfig:
    """``id`` is 32 random bytes, ``polynomial`` a binary polynomial of degree 53; ``extra`` keeps unknown fields."""

    version: int
    id: bytes
    polynomial: int
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: Buffer) -> RepoConfig:
        """Read an opened config file.

        Raises ``Unsupported`` for versions other than 1 and 2, ``Corrupt`` for damage, which includes a polynomial
        that is reducible or of another degree.
        """
        fields = load_object(raw, _WHAT)
        version = take_int(fields, "version", _WHAT)
        if version not in _KNOWN_VERSIONS:
            raise Unsupported(
                f"the repository has format version {version}; versions 1 and 2 are known",
                hint="Update Holdfast, or open the repository with the program that made it.",
                version=version,
            )
        repo_id = parse_id(fields.pop("id", None), "id", _WHAT)
        text = take_text(fields, "chunker_polynomial", _WHAT)
        if not re.fullmatch("[0-9a-fA-F]{1,16}", text):
            raise wrong(_WHAT, "chunker_polynomial is not a hexadecimal number")
        polynomial = int(text, 16)
        if polynomial.bit_length() != DEGREE + 1 or not polynomial_is_irreducible(polynomial):
            raise wrong(_WHAT, f"chunker_polynomial is not irreducible of degree {DEGREE}")
        return cls(version, repo_id, polynomial, fields)

    def encode(self) -> bytes:
        """The JSON to seal; fields in restic's order, unknown ones behind them."""
        known = {"version": self.version, "id": self.id.hex(), "chunker_polynomial": f"{self.polynomial:x}"}
        return json_value(known | self.extra)


def _square(value: int) -> int:
    # Over GF(2) squaring puts a zero between the bits: binary digits read as base 4.
    return int(f"{value:b}", 4)


def _remainder(value: int, divisor: int) -> int:
    length = divisor.bit_length()
    while (excess := value.bit_length() - length) >= 0:
        value ^= divisor << excess
    return value


def _common_divisor(first: int, second: int) -> int:
    while second:
        first, second = second, _remainder(first, second)
    return first


def polynomial_is_irreducible(polynomial: int) -> bool:
    """Whether a binary polynomial (bit i = coefficient of x**i) has no factors: Ben-Or's test, a few milliseconds.

    A factor of degree i divides x**(2**i) - x, so none may be shared for any i up to half the degree.
    """
    degree = polynomial.bit_length() - 1
    if degree < 1:
        return False
    power = 2
    for _ in range(degree // 2):
        power = _remainder(_square(power), polynomial)
        if _common_divisor(polynomial, power ^ 2) != 1:
            return False
    return True


def polynomial_from_random(draw: Callable[[int], bytes]) -> int:
    """A random irreducible polynomial of degree 53; ``draw(n)`` returns n random bytes. About 27 draws on average.

    Raises ``Internal`` if ``draw`` is not random enough to ever find one.
    """
    for _ in range(_MAX_DRAWS):
        candidate = int.from_bytes(draw(8), "big") & ((1 << DEGREE) - 1) | 1 << DEGREE | 1
        if polynomial_is_irreducible(candidate):
            return candidate
    raise Internal("no irreducible polynomial found: the random source repeats itself", hint="Report this.")
