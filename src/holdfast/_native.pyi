"""Types of the C extension; see native/*.c."""

from collections.abc import Callable, Sequence
from mmap import mmap
from typing import final

from holdfast.kernel.ids import BlobId

VERSION: int

@final
class Stat:
    """What stat(2) says, under the names of ``os.stat_result``."""

    st_mode: int
    st_uid: int
    st_gid: int
    st_nlink: int
    st_ino: int
    st_dev: int
    st_rdev: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int

def tables(polynomial: int, lanes: int = 64, /) -> bytes: ...
def cuts(
    tables: bytes,
    data: bytes | bytearray | memoryview,
    scanned: int,
    final: bool,
    minimum: int,
    maximum: int,
    mask: int,
    /,
) -> list[int]: ...
def crc64(data: bytes | bytearray | memoryview, crc: int, /) -> int: ...
def romix(blocks: bytes | bytearray | memoryview, n: int, r: int, /) -> bytes: ...
def processor() -> tuple[str, ...]: ...
def sha256(messages: Sequence[bytes | bytearray | memoryview], /) -> list[bytes]: ...
def add_id(log: mmap, small: mmap, large: mmap, taken: mmap, cursor: bytearray, identifier: bytes, /) -> bool: ...
def seal(key: bytes, nonce: bytes, plaintexts: Sequence[bytes | bytearray | memoryview], /) -> bytes | None: ...
def unseal(key: bytes, units: Sequence[bytes | bytearray | memoryview], /) -> list[bytes | None]: ...
def pack(items: Sequence[tuple[bytes, object]], /) -> bytes | None: ...
def survey(
    dir_fd: int, with_names: bool, /
) -> tuple[bytes, list[bytes], list[tuple[bytes, int, int]], bool, int, int] | None: ...
def clear(dir_fd: int, /) -> list[bytes]: ...
def unpack(packed: bytes, /) -> list[tuple[bytes, Stat]]: ...
def settled(
    tree: bytes,
    packed: bytes,
    owner: Callable[[int, int], bytes],
    offset_at: Callable[[int], int],
    /,
) -> list[bytes | None] | None: ...
def files(
    packed: bytes,
    ids: list[BlobId],
    owner: Callable[[int, int], bytes],
    offset_at: Callable[[int], int],
    /,
) -> list[bytes | None]: ...
def read_small(dir_fd: int, name: bytes, size: int, /) -> tuple[bytes, Stat, bool]: ...
def compare(fd: int, at: int, data: bytes, path: bytes | None, size: int, mtime_ns: int, /) -> int: ...
def write_small(
    dir_fd: int,
    temporary: bytes,
    name: bytes,
    data: bytes,
    mode: int,
    uid: int,
    gid: int,
    must_own: bool,
    atime_ns: int,
    mtime_ns: int,
    /,
) -> int: ...
def copy_small(
    source_fd: int,
    target_fd: int,
    must_own: bool,
    files: list[tuple[bytes, bytes, bytes, bytes, int, int, int, int, int, int, bytes]],
    /,
) -> list[tuple[bytes, int] | None]: ...
def copy_listed(
    source_fd: int, target_fd: int, must_own: bool, mask: int, prefix: bytes, packed: bytes, /
) -> tuple[dict[bytes, tuple[bytes, bytes]], int]: ...
def rows(packed: bytes, sides: dict[bytes, tuple[bytes, bytes]], /) -> tuple[bytes, int, int]: ...
def sync(fd: int, /) -> bool: ...
