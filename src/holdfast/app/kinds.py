"""What saves into a vault of which kind: the one place where a plan's run chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from holdfast.app.backup import BackupRequest, BackupResult, back_up
from holdfast.app.context import Context
from holdfast.app.forget import ForgetOptions, Forgotten, forget
from holdfast.kernel.errors import Unsupported

Save = Callable[[Context, BackupRequest], BackupResult]
Thin = Callable[[Context, ForgetOptions], Forgotten]


def _thin(context: Context, options: ForgetOptions) -> Forgotten:
    done: list[Forgotten] = []
    forget(context, options, lambda _plan: None, done.append)
    return done[0]


KINDS: Mapping[str, tuple[Save, Thin | None]] = MappingProxyType(
    {"archive": (back_up, _thin), "mirror": (back_up, None), "versioned": (back_up, _thin)}
)
"""Kind of vault -> (what saves into the context's vault, what forgets snapshots in it; None where there is
only the current one)."""


def of_kind(context: Context) -> tuple[Save, Thin | None]:
    """What serves the context's vault. Raises ``Unsupported`` where nothing does."""
    named = context.named
    kind = "archive" if named is None else named.kind
    if kind not in KINDS:
        name = context.location if named is None else named.name
        raise Unsupported(
            f"nothing can be saved into the vault {name!r}: this version makes no vaults of the kind {kind}",
            hint=f"It can save into: {', '.join(KINDS)}.",
        )
    return KINDS[kind]
