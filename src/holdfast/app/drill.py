"""Use case: a drill. Restore a snapshot into a scratch place, prove it, measure it, and leave nothing behind."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from holdfast import __version__
from holdfast.app.context import Context, hostname
from holdfast.app.drill_commands import run_commands
from holdfast.app.drill_databases import Wanted, compare_rows, prove_databases
from holdfast.app.drill_report import rows_before, summary_data
from holdfast.app.drill_results import DatabaseProof, DrillResult
from holdfast.app.drill_servers import drop_left, room_for
from holdfast.app.recording import label
from holdfast.app.selection import find_snapshot, readable_snapshots
from holdfast.files.scratch import Scratch, scratch_folder, sweep
from holdfast.kernel.errors import NotFound
from holdfast.kernel.events import Fact
from holdfast.kernel.values import dataclass
from holdfast.sources.watched import temporary_bases
from holdfast.vaults.base import Damage, Outcome, SnapshotFilter, SnapshotInfo
from holdfast.vaults.drill.listing import DUMPS, Listing
from holdfast.vaults.drill.model import DrillOptions, Proof, Sample
from holdfast.vaults.drill.run import damage_data
from holdfast.vaults.drill.run import drill as prove_files

if TYPE_CHECKING:
    from holdfast.app.plain import PlainVault
    from holdfast.config.settings import CommandInTree, NamedPlan
    from holdfast.vaults.archive import ArchiveVault
    from holdfast.vaults.items import Browsable, OnDamage

_TREE = b"tree"


@dataclass(frozen=True, slots=True)
class DrillRequest:
    """What is drilled and how. ``snapshot``: ``latest``, ``random`` or the first digits of an id; only snapshots of
    ``plan`` and this host are meant where there is a plan. ``scratch`` is a folder (empty: in the cache folder).
    ``keep`` leaves the restored tree. Without ``databases`` dumps are files like all others."""

    plan: NamedPlan | None = None
    snapshot: str = "latest"
    sample: Sample | None = None
    scratch: str = ""
    keep: bool = False
    databases: bool = True
    wanted: Wanted = field(default_factory=Wanted)
    commands: tuple[CommandInTree, ...] = ()
    workers: int | None = None

    @property
    def plan_name(self) -> str:
        """The plan's name, or nothing."""
        return "" if self.plan is None else self.plan.name


def request_of(
    plan: NamedPlan | None,
    *,
    snapshot: str | None,
    sample: Sample | None,
    scratch: str | None,
    keep: bool,
    databases: bool,
    workers: int | None,
) -> DrillRequest:
    """The request that these words of the command line mean beside, or in place of, what the plan says."""
    if plan is None:
        return DrillRequest(None, snapshot or "latest", sample, scratch or "", keep, databases, workers=workers)
    said = plan.drill
    databases = databases and said.databases
    wanted = Wanted(said.queries, said.postgres, said.mariadb) if databases else Wanted()
    return DrillRequest(
        plan,
        snapshot or said.snapshot,
        sample or said.sample,
        scratch or said.scratch,
        keep,
        databases,
        wanted,
        said.commands,
        workers,
    )


def drill(context: Context, request: DrillRequest, before: Callable[[], Sequence[Mapping[str, Any]]]) -> DrillResult:
    """Prove the restore of one snapshot of the context's vault. ``before()``: data of earlier drills, newest first.

    What is wrong is in the result (outcome ``failed``, and facts ``damage.found``); a fact ``drill.finished`` tells the
    whole. Nothing is left in the scratch place, whatever happens, but by ``keep``; what a killed drill left there is
    removed first. Raises ``NotFound`` (no vault or snapshot), ``NoSpace`` before anything is written, ``Locked``,
    ``Unavailable``, ``Corrupt`` (nothing of the vault can be read), ``Cancelled``.
    """
    base = os.fsencode(os.path.abspath(request.scratch) if request.scratch else context.paths.cache / "drill")
    _clear_up(context, base, request.wanted)
    began_ns, began = context.clock.now_ns(), context.clock.monotonic()
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder(base))
        vault = stack.enter_context(context.opened_any())
        opened = context.clock.monotonic() - began
        snapshot = _choose(context, vault, request)
        age = max(0.0, (began_ns - snapshot.time_ns) / 1e9)
        root = os.path.join(scratch.path, _TREE)
        os.mkdir(root, 0o700)
        proof = prove_files(
            vault,
            _looking(vault),
            snapshot,
            _options(context, request, root),
            needs=lambda listing: _room_for_servers(listing, request),
            emit=context.emit,
            cancel=context.cancel,
        )
        databases = _databases(context, scratch, root, proof, request, vault.kind)
        previous = before()
        compare_rows(databases, rows_before(previous, snapshot.time_ns))
        commands = run_commands(context, root, snapshot, request.plan_name, request.commands)
        result = DrillResult(
            outcome=Outcome.OK,
            snapshot=snapshot,
            plan=request.plan_name,
            vault=label(context),
            vault_kind=vault.kind,
            host=hostname(),
            program=f"holdfast {__version__}",
            began_ns=began_ns,
            seconds=0.0,
            open_seconds=opened,
            load_seconds=sum(database.seconds for database in databases),
            data_age_seconds=age,
            sample=request.sample,
            proof=proof,
            databases=databases,
            commands=commands,
            damage=list(proof.damage),
            unproven=_unproven(proof, databases, request),
            previous=list(previous),
        )
        _judge(context, result, request)
        if request.keep:
            scratch.keep()
            result.kept = os.fsdecode(root)
    result.seconds = context.clock.monotonic() - began
    level = "error" if result.outcome is Outcome.FAILED else "info"
    context.emit(Fact("drill.finished", sentence(result), level, summary_data(result)))
    return result


def sentence(result: DrillResult) -> str:
    """The result in one sentence."""
    what = f"of plan {result.plan} " if result.plan else ""
    shown = result.snapshot.id.hex()[:8]
    if result.outcome is Outcome.FAILED:
        return f"The drill {what}failed: snapshot {shown} does not come back as it should ({result.damage[0].message})."
    files = f"{result.proof.restored.proven.files:,} files"
    rest = ", not everything could be proven" if result.outcome is Outcome.PARTIAL else ""
    return f"The drill {what}proved snapshot {shown}: {files} restored and compared{rest}."


def _clear_up(context: Context, base: bytes, wanted: Wanted) -> None:
    """Remove what killed drills left: folders, and databases on configured servers."""
    left = [found for place in dict.fromkeys((base, *temporary_bases())) for found in sweep(place)]
    for found in left:
        context.emit(Fact("drill.swept", f"What a killed drill left in {os.fsdecode(found.path)} was removed."))
        for kind, url in (("postgres", wanted.postgres), ("mariadb", wanted.mariadb)):
            noted = found.notes.get("databases", ())
            drop_left(context, url, kind, [str(item[1]) for item in noted if item[0] == kind])


def _choose(context: Context, vault: ArchiveVault | PlainVault, request: DrillRequest) -> SnapshotInfo:
    snapshots = readable_snapshots(vault, context.emit)
    plan = request.plan
    if plan is not None and request.snapshot in ("latest", "random"):
        host = (plan.host or hostname(),)
        if vault.kind == "mirror":  # whichever plan brought it: what is there counts
            own = SnapshotFilter(hosts=host)
            snapshots = [found for found in (_of_plan(snapshot, own, plan) for snapshot in snapshots) if found]
        else:
            own = SnapshotFilter(hosts=host, tags=(frozenset({plan.mark}),))
            snapshots = [snapshot for snapshot in snapshots if own.matches(snapshot)]
        if not snapshots:
            raise NotFound(
                f"the vault {label(context)!r} holds no snapshot of the plan {plan.name!r} made by this host",
                hint=f"'holdfast backup {plan.name}' makes one; --snapshot ID takes any other.",
            )
    if request.snapshot == "random":
        if not snapshots:
            raise NotFound("the vault holds no snapshot yet", hint="'holdfast backup PATH' makes one.")
        return random.Random(context.random(16)).choice(snapshots)
    return find_snapshot(snapshots, request.snapshot, SnapshotFilter())


def _of_plan(snapshot: SnapshotInfo, own: SnapshotFilter, plan: NamedPlan) -> SnapshotInfo | None:
    """A mirror, as old as the plan's oldest path in it is; None where it holds none of them."""
    runs = [run for run in own.fitting(snapshot) if _holds(run, plan)]
    oldest = min(runs, key=lambda run: run.time_ns, default=None)
    return None if oldest is None else replace(snapshot, time=oldest.time, time_ns=oldest.time_ns)


def _holds(snapshot: SnapshotInfo, plan: NamedPlan) -> bool:
    """Whether one of the plan's paths, or something around it, is among the snapshot's."""
    found = tuple(os.fsencode(path).rstrip(b"/") + b"/" for path in snapshot.paths)
    return any((path.rstrip(b"/") + b"/").startswith(found) for path in plan.paths)


def _looking(vault: ArchiveVault | PlainVault) -> Any:
    """What opens the vault for looking into snapshots, for the engine."""
    from holdfast.vaults.archive import ArchiveVault

    @contextmanager
    def archive(on_damage: OnDamage) -> Iterator[Browsable]:
        from holdfast.vaults.archive.browser import ArchiveBrowser

        assert isinstance(vault, ArchiveVault)
        with vault.reading(on_damage=lambda _identifier, _error: None):  # the restore tells of damaged indexes
            yield ArchiveBrowser(vault.repository, on_damage)

    def plain(_on_damage: OnDamage) -> AbstractContextManager[Browsable]:
        assert not isinstance(vault, ArchiveVault)
        return vault.reading()

    return archive if isinstance(vault, ArchiveVault) else plain


def _options(context: Context, request: DrillRequest, root: bytes) -> DrillOptions:
    hosts = {hostname()} | ({request.plan.host} if request.plan is not None and request.plan.host else set())
    return DrillOptions(
        root=root,
        sample=request.sample,
        dumps=request.databases,
        named=request.wanted.names,
        hosts=frozenset(hosts),
        seed=context.random(16),
        workers=request.workers,
    )


def _room_for_servers(listing: Listing, request: DrillRequest) -> int:
    """What loading dumps into servers of our own takes."""
    elsewhere = {"postgres": bool(request.wanted.postgres), "mariadb": bool(request.wanted.mariadb)}
    sizes: dict[str, int] = {}
    for dump in listing.dumps if request.databases else ():
        kind = os.fsdecode(dump.path.removeprefix(DUMPS).partition(b"/")[0])
        if not elsewhere.get(kind, kind == "command"):
            sizes[kind] = sizes.get(kind, 0) + dump.size
    return room_for(sizes)


def _databases(
    context: Context, scratch: Scratch, root: bytes, proof: Proof, request: DrillRequest, kind: str
) -> list[DatabaseProof]:
    if not request.databases:
        return []
    there = [dump for dump in proof.dumps if os.path.lexists(root + dump.path)]
    found = prove_databases(context, scratch, root, there, proof.restored.proven.sqlite, request.wanted)
    for database in found:
        if kind != "archive" and not database.kind:
            database.ok, database.message = None, f"queries are about it, and a {kind} vault takes no dumps"
    return found


def _judge(context: Context, result: DrillResult, request: DrillRequest) -> None:
    """Add the damage that databases and commands showed, and give the outcome."""
    short = result.snapshot.id.hex()[:8]
    shown: list[Damage] = []
    for database in result.databases:
        if database.ok is False:
            where = database.path or os.fsencode(database.name)
            message = f"database {database.name}: {database.message}"
            shown.append(Damage("drill.database", message, "error", (short,), (f"{short}:{os.fsdecode(where)}",), 1))
        elif database.before:
            tables = [f"{table} ({was:,} rows, now {database.rows.get(table, 0):,})" for table, was in
                      list(database.before.items())[:5]]  # fmt: skip
            message = f"Database {database.name} has fewer rows than in the last drill: {', '.join(tables)}."
            data = {"database": database.name, "tables": dict(list(database.before.items())[:50])}
            context.emit(Fact("drill.shrunk", message, "warning", data))
    for command in result.commands:
        if not command.ok:
            message = f"the command {command.name} in the restored tree failed: {command.message}"
            shown.append(Damage("drill.command", message, "error", (short,)))
    for damage in shown:
        context.emit(Fact("damage.found", damage.message, "error", damage_data(damage)))
    result.damage += shown
    proven = not (result.proof.unproven or any(database.ok is None for database in result.databases))
    result.outcome = Outcome.FAILED if result.damage else Outcome.OK if proven else Outcome.PARTIAL


def _unproven(proof: Proof, databases: Sequence[DatabaseProof], request: DrillRequest) -> list[str]:
    """What an auditor has to know that the drill does not prove."""
    found = []
    if request.sample is not None:
        left = proof.passed_over
        found.append(f"{left:,} of {proof.files_total:,} files were not restored: only a sample was.")
    for path, why in proof.unproven[:20]:
        found.append(f"{os.fsdecode(path)}: {why}")
    if len(proof.unproven) > 20:
        found.append(f"{len(proof.unproven) - 20:,} more items could not be restored here.")
    if not request.databases:
        found.append("Databases were not opened: it was asked not to.")
    found += [f"Database {database.name}: {database.message}" for database in databases if database.ok is None]
    apart = proof.restored.proven.changed
    if apart:
        found.append(
            f"{apart:,} {'file is' if apart == 1 else 'files are'} gone or changed at their source since, and compared "
            "with the vault only."
        )
    found += _of_metadata(proof)
    return found


def _of_metadata(proof: Proof) -> Iterator[str]:
    compared = proof.metadata
    if compared is None:
        yield "Permissions, owners and times were set as saved, but not compared."
        return
    if not compared.all:
        yield f"Permissions and times were compared of {compared.items:,} items, picked at random."
    if not compared.owners:
        yield "Owners were not compared: only root can set them."
    yield "Extended attributes and access control lists were set as saved, but not compared."


def at_vault(context: Context, plan: NamedPlan | None, vault: str | None) -> Context:
    """The context for the vault to drill: the one that was named, else the plan's."""
    if vault is not None or plan is None:
        return context
    return replace(context, vault=plan.drill.vault or plan.to[0] or None)
