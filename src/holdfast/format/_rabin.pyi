"""Types of the C extension; see _rabin.c."""

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
