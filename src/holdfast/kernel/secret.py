"""A value that must never be printed."""

from __future__ import annotations


class Secret:
    """Bytes that show up as stars in every message, log and traceback.

    ``random`` says that the bytes came from a generator with at least 256 bits of entropy, so that stretching them
    with an expensive key derivation would protect nothing (decision 0003).
    """

    __slots__ = ("_value", "origin", "random")

    def __init__(self, value: bytes, *, origin: str = "", random: bool = False) -> None:
        self._value = value
        self.origin = origin
        self.random = random

    def reveal(self) -> bytes:
        """The bytes themselves. Call it as late as possible."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled")
