"""Sealed files in some place: opaque bytes under names, written once, read back in whole or in part."""

from holdfast.storage.base import STAGING_PREFIX, Info, Storage, Traits
from holdfast.storage.local import LocalStorage
from holdfast.storage.locations import OPENERS, REMOTE, begin, open_directly, open_location
from holdfast.storage.manner import Manner
from holdfast.storage.readonly import ReadOnly

__all__ = [
    "OPENERS",
    "REMOTE",
    "STAGING_PREFIX",
    "Info",
    "LocalStorage",
    "Manner",
    "ReadOnly",
    "Storage",
    "Traits",
    "begin",
    "open_directly",
    "open_location",
]
