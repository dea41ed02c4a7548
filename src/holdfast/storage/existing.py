"""What it means that a name is taken already: damage, a rival, or a write that was done before."""

from __future__ import annotations

from holdfast.kernel.errors import Corrupt, Invalid


def wrong_size(location: str, name: str, found: int, expected: int) -> Corrupt:
    """The error for a name that is a hash and holds ``found`` bytes, while its content has ``expected``."""
    return Corrupt(
        f"{location}: {name} exists with {found} bytes instead of {expected}",
        hint="A file of the vault was cut off or changed: run a check, then repair.",
        name=name,
        size=found,
        expected=expected,
    )


def rival(location: str, name: str) -> Invalid:
    """The error for a name that is no hash and holds something else already."""
    return Invalid(
        f"{location}: {name} exists already, with other content",
        hint="Somebody else made it first, perhaps at this moment: look at what is there.",
        name=name,
    )
