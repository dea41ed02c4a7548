"""Types of the C extension; see _chunker.c and _scrypt.c."""

def tables(polynomial: int, /) -> bytes: ...
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
def romix(blocks: bytes | bytearray | memoryview, n: int, r: int, /) -> bytes: ...
