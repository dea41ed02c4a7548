"""Use case: take files out of existing snapshots."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from holdfast.app.context import Context
from holdfast.app.endings import of_work
from holdfast.app.recording import recording
from holdfast.app.repair import Choice, chosen, held, refuse_append_only
from holdfast.kernel.errors import Invalid
from holdfast.kernel.values import dataclass

if TYPE_CHECKING:
    from holdfast.vaults.archive.rewrite import RewriteSummary


@dataclass(frozen=True, slots=True)
class RewriteRequest:
    """``excludes`` are gitignore lines, ``exclude_files`` files of such lines (``-``: standard input)."""

    excludes: tuple[str, ...] = ()
    exclude_files: tuple[str, ...] = ()
    choice: Choice = field(default_factory=Choice)
    forget: bool = False
    dry_run: bool = False


@recording("rewrite", of_work)
def rewrite(context: Context, request: RewriteRequest) -> RewriteSummary:
    """See :func:`holdfast.vaults.archive.rewrite.rewrite`. Raises ``Invalid`` where no rule says what goes."""
    from holdfast.app.backup import read_lines
    from holdfast.files.rules import Rules
    from holdfast.vaults.archive.rewrite import RewriteOptions
    from holdfast.vaults.archive.rewrite import rewrite as run

    lines = list(request.excludes)
    for path in request.exclude_files:
        lines += read_lines(path)
    if not any(line.strip() and not line.startswith("#") for line in lines):
        raise Invalid("nothing says what to take out", hint="Give --exclude PATTERN, as for a backup.")
    rules = Rules.compile(lines, defaults=False, cachedir_tag=False)
    with context.opened() as vault:
        if request.forget:
            refuse_append_only(vault.repository, dry_run=request.dry_run)
        options = RewriteOptions(rules, chosen(vault.repository, request.choice), request.forget, request.dry_run)
        return run(vault.repository, options, protected=held(context), emit=context.emit, cancel=context.cancel)
