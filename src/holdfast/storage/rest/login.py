"""Who we are to a REST server: from the environment or from ~/.netrc, never from the location."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from holdfast.kernel.errors import Invalid


def credentials(host: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """User and password for ``host``, or None where there are none.

    ``HOLDFAST_REST_USERNAME`` and ``_PASSWORD``, else the same with ``RESTIC_``, else the entry of ``host`` in
    ``$NETRC`` or ``~/.netrc``. Raises ``Invalid`` for a netrc file that cannot be read.
    """
    for prefix in ("HOLDFAST", "RESTIC"):
        user, password = environ.get(f"{prefix}_REST_USERNAME", ""), environ.get(f"{prefix}_REST_PASSWORD", "")
        if user or password:
            return user, password
    return _from_netrc(host, environ)


def _from_netrc(host: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    import netrc

    try:
        path = Path(environ.get("NETRC") or "~/.netrc").expanduser()
        entry = netrc.netrc(path).authenticators(host) if path.exists() else None
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError, RuntimeError) as error:
        # The error's own text may quote the line, and so a password.
        raise Invalid(
            f"cannot read the netrc file: {type(error).__name__}", hint="Look at ~/.netrc or $NETRC, and at its mode."
        ) from None
    return None if entry is None else (entry[0], entry[2] or "")
