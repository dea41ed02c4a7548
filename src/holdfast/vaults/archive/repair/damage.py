"""Which packs are damaged: all of them read and proved, as a check with ``--read-data`` does it."""

from __future__ import annotations

import random
from dataclasses import field

from holdfast.kernel.cancel import Cancel
from holdfast.kernel.errors import Cancelled
from holdfast.kernel.events import Emit
from holdfast.kernel.ids import PackId
from holdfast.kernel.pool import Pool, default_size
from holdfast.kernel.values import dataclass
from holdfast.repository import Repository
from holdfast.repository.locks import Lock
from holdfast.vaults.archive.check.files import still_there
from holdfast.vaults.archive.check.findings import Findings, PackTrouble
from holdfast.vaults.archive.check.index import Catalogue, compare_with_storage
from holdfast.vaults.archive.check.packs import PackReader, PackReport
from holdfast.vaults.archive.check.plan import Progress, plan
from holdfast.vaults.archive.check.run import ALONE_BYTES
from holdfast.vaults.archive.repair.survey import IndexFiles
from holdfast.vaults.base import Subset


@dataclass(slots=True)
class Damaged:
    """Packs that the index names and that are not as they should be: not there at all, or (with reasons) damaged."""

    gone: set[PackId] = field(default_factory=set)
    packs: dict[PackId, str] = field(default_factory=dict)


def find_damage(
    repository: Repository,
    files: IndexFiles,
    *,
    emit: Emit,
    cancel: Cancel,
    lock: Lock | None,
    workers: int | None = None,
) -> Damaged:
    """Read every pack that the index names, and prove name, header and blobs. What fails is read again first.

    Forks workers, and then keeps ``lock`` renewed. Raises ``Cancelled``, and ``Unavailable`` or ``Denied`` where the
    whole place is out of reach.
    """
    catalogue, findings = Catalogue(), Findings()
    for pack, entries in files.packs.items():
        catalogue.add(pack, entries)
    compare_with_storage(repository, catalogue, findings)
    tasks = plan(catalogue, Subset(), random.Random(0))
    progress = Progress(catalogue, tasks, "packs")
    traits = repository.storage.traits
    size = workers if workers is not None else default_size(traits.connections) if progress.total >= ALONE_BYTES else 0
    if not traits.fork_safe:
        size = 0
    with Pool(lambda: PackReader(repository, catalogue, cancel).answers, size) as pool:
        if lock is not None:
            lock.start_renewing()
        for task in tasks:
            pool.submit(task)
        try:
            for report in pool.results():
                cancel.check()
                if report is not None:
                    progress.take(report)
                    _take(repository, report, catalogue, findings)
                emit(progress.tick(findings.errors))
        except Cancelled:
            cancel.check()  # raised by a worker it lacks the reason, which only this process knows
            raise
    return _sorted_out(findings.packs)


def _take(repository: Repository, report: PackReport, catalogue: Catalogue, findings: Findings) -> None:
    if report.failure is not None:
        still_there(repository.storage, report.failure)
    if report.reasons:
        trouble = findings.pack(catalogue.index.packs[report.task.pack])
        if not trouble.reasons:
            trouble.kind = report.kind
        trouble.reasons.update(dict.fromkeys(report.reasons))


def _sorted_out(troubles: dict[PackId, PackTrouble]) -> Damaged:
    damaged = Damaged()
    for pack, trouble in troubles.items():
        if trouble.kind == "pack.missing":
            damaged.gone.add(pack)
        elif trouble.reasons:
            damaged.packs[pack] = "; ".join(trouble.reasons)
    return damaged
