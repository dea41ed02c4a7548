"""Vaults on servers that speak restic's REST protocol."""

from holdfast.storage.rest.storage import RestStorage, open_storage

__all__ = ["RestStorage", "open_storage"]
