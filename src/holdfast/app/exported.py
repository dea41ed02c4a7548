"""The note, in the state folder, of which vaults' keys were exported: when, and which key; never the key itself."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from holdfast.files.whole import replace_file
from holdfast.kernel.values import dataclass

FILE = "exported-keys.json"


@dataclass(frozen=True, slots=True)
class Exported:
    """``key_id`` is the vault's own id of the key that was exported; ``at`` an RFC 3339 time; ``to`` where it went."""

    key_id: str
    at: str
    location: str
    to: str


def exported_keys(state: Path) -> dict[str, Exported]:
    """By the ids of vaults. What cannot be read counts as never exported: to export once more does no harm."""
    try:
        found: Any = json.loads((state / FILE).read_bytes())
        return {str(vault): Exported(**note) for vault, note in found["vaults"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def note_export(state: Path, vault_id: str, note: Exported) -> None:
    """Keep ``note``; after a crash the file is the former or the new one. Raises ``OSError``."""
    vaults = {**exported_keys(state), vault_id: note}
    document = {"version": 1, "vaults": {vault: asdict(each) for vault, each in vaults.items()}}
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(state / FILE, json.dumps(document, indent=1).encode(), 0o600)
