"""An open archive repository in the restic format: keys, locks, index, packs, snapshots."""

from holdfast.repository.keys import KeyInfo
from holdfast.repository.repository import Repository, read_config
from holdfast.repository.writer import Writer, writing

__all__ = ["KeyInfo", "Repository", "Writer", "read_config", "writing"]
