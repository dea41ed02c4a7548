"""Object stores: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage; all through obstore."""

from __future__ import annotations

from importlib.util import find_spec

from holdfast.kernel.errors import Unsupported
from holdfast.storage.base import Storage
from holdfast.storage.objects.place import Place, parse

__all__ = ["Place", "open_storage", "parse"]


def open_storage(scheme: str, rest: str) -> Storage:
    """The place that ``scheme:rest`` names (``s3``, ``gs`` or ``azure``); nothing is imported or contacted yet.

    Credentials come from the environment and the files of the place's own tools, at the first call of a method. Raises
    ``Invalid`` for text that cannot be understood and ``Unsupported`` where obstore is not installed.
    """
    place = parse(scheme, rest)
    if find_spec("obstore") is None:
        raise Unsupported(
            f"{scheme}: needs a library that is not installed",
            hint=f"Install it: pip install 'holdfast[{scheme}]'",
        )
    from holdfast.storage.objects.store import ObjectStorage

    return ObjectStorage(place)
