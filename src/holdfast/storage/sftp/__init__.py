"""Vaults on servers that are reached over SSH."""

from holdfast.storage.sftp.storage import SftpStorage, open_storage

__all__ = ["SftpStorage", "open_storage"]
