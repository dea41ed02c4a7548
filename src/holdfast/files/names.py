"""Names of users and groups, looked up once each."""

from __future__ import annotations

try:
    import grp
    import pwd
except ImportError:  # Windows has neither: every name is unknown there
    pwd = None  # type: ignore[assignment]
    grp = None  # type: ignore[assignment]

# Directory services (LDAP, SSSD) report their own failures as OSError, ids beyond 32 bits as OverflowError and names
# with a NUL in them as ValueError.
_UNKNOWN = (KeyError, OverflowError, OSError, ValueError)


class Names:
    """User and group names by number and back, for one run.

    Answers are cached, unknown ones too: a lookup can be a network request and a run asks once a file. No method
    raises. An account that is made while the run goes on may be missed.
    """

    __slots__ = ("_gids", "_groups", "_uids", "_users")

    def __init__(self) -> None:
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}
        self._uids: dict[str, int | None] = {}
        self._gids: dict[str, int | None] = {}

    def user(self, uid: int) -> str:
        """The login name of ``uid``; empty if nobody has that number."""
        name = self._users.get(uid)
        if name is None:
            name = self._users[uid] = _user_name(uid)
        return name

    def group(self, gid: int) -> str:
        """The name of group ``gid``; empty if there is none."""
        name = self._groups.get(gid)
        if name is None:
            name = self._groups[gid] = _group_name(gid)
        return name

    def uid(self, user: str) -> int | None:
        """The number of ``user`` on this machine; None if there is no such user."""
        if user not in self._uids:
            self._uids[user] = _user_id(user)
        return self._uids[user]

    def gid(self, group: str) -> int | None:
        """The number of ``group`` on this machine; None if there is no such group."""
        if group not in self._gids:
            self._gids[group] = _group_id(group)
        return self._gids[group]


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name if pwd else ""
    except _UNKNOWN:
        return ""


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name if grp else ""
    except _UNKNOWN:
        return ""


def _user_id(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid if pwd and user else None
    except _UNKNOWN:
        return None


def _group_id(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid if grp and group else None
    except _UNKNOWN:
        return None
