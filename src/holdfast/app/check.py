"""Use case: look for damage in a vault."""

from __future__ import annotations

from holdfast.app.context import Context
from holdfast.app.endings import of_check
from holdfast.app.recording import recording
from holdfast.kernel.errors import Invalid
from holdfast.vaults.base import CheckOptions, CheckReport


@recording("check", of_check)
def check(context: Context, options: CheckOptions) -> CheckReport:
    """Check the vault. Damage is in the report, not an exception. ``Invalid``: to ``rebuild`` what it does not have."""
    with context.opened_any(cached=False) as vault:
        if options.rebuild and vault.kind == "archive":
            raise Invalid(
                "an archive has no state index to rebuild",
                hint="'holdfast repair index' makes its index anew from what the packs say.",
            )
        return vault.check(options, emit=context.emit, cancel=context.cancel)


_INDEX = "'holdfast repair index' makes the index anew from what the packs say."
_PACKS = (
    "'holdfast repair packs --all-damaged' saves what is intact in damaged packs; with --from VAULT also what a second "
    "vault has."
)
_LOST = (
    "What is lost comes back from a second vault ('holdfast repair packs --from VAULT'), or from the files themselves: "
    "'holdfast repair index', then back them up again. 'holdfast repair snapshots' gives it up."
)
_SNAPSHOTS = "'holdfast repair snapshots' makes snapshots anew without what makes no sense in them."
_RECOVER = "'holdfast recover' brings back folders of snapshots that cannot be read."
_KEYS = "Put back the damaged key from a copy of the vault, or remove it: 'holdfast key list', 'holdfast key remove'."
_CONFIG = "Put back the file 'config' from a copy of the vault; without it the vault cannot be opened again."
_COPY = "'holdfast backup' of the same paths copies what is missing or was changed again."
_CHECKSUM = "'holdfast backup --checksum' compares every file with its source, and copies the damaged ones again."
_REBUILD = (
    "'holdfast check --rebuild' makes the state index anew; so does the next backup, which compares all files once."
)
_REMEDIES = {
    "index.corrupt": (_INDEX,),
    "index.overlap": (_INDEX, _PACKS),
    "pack.conflict": (_INDEX, _PACKS),
    "pack.missing": (_LOST,),
    "pack.corrupt": (_PACKS,),
    "pack.size": (_INDEX, _PACKS),
    "pack.unreadable": (_PACKS,),
    "blob.missing": (_INDEX, _LOST),
    "tree.invalid": (_SNAPSHOTS,),
    "file.size": (_SNAPSHOTS,),
    "snapshot.corrupt": (_RECOVER,),
    "key.corrupt": (_KEYS,),
    "config.corrupt": (_CONFIG,),
    "config.missing": (_CONFIG,),
    "file.missing": (_COPY,),
    "file.type": (_COPY,),
    "file.corrupt": (_CHECKSUM,),
    "file.unreadable": (_CHECKSUM,),
    "state.missing": (_REBUILD,),
    "state.corrupt": (_REBUILD,),
    "lock.corrupt": ("If nobody is using the vault, 'holdfast unlock' removes the lock.",),
}


def remedies(report: CheckReport) -> list[str]:
    """What to do about the damage that was found: sentences for a person, in the order in which to do it."""
    found = {damage.kind for damage in report.damage if damage.severity == "error"}
    wanted = {words for kind in found for words in _REMEDIES.get(kind, ())}
    every = dict.fromkeys(words for several in _REMEDIES.values() for words in several)
    return [words for words in every if words in wanted]
