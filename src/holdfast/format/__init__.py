"""The restic repository format, version 2, as pure functions: bytes in, bytes out."""
