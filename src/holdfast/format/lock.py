"""Lock files: who works on a repository, since when, and whether alone."""

from __future__ import annotations

from typing import Any

from holdfast.format.crypto import Buffer
from holdfast.format.gostring import json_value
from holdfast.format.jsonfields import load_object, take_bool, take_int, take_text
from holdfast.format.time import parse_time
from holdfast.kernel.values import dataclass

_WHAT = "a lock"
_OURS = "holdfast"


@dataclass(frozen=True)
class LockInfo:
    """What a lock says about its owner. ``time`` is RFC 3339 text of its last refresh.

    ``machine`` and what follows stand in a field of their own, which restic passes over: they tell processes apart that
    have the same host name and number (see ``repository.lockowner``). Empty in the locks of others.
    """

    time: str
    exclusive: bool
    hostname: str
    username: str
    pid: int
    uid: int = 0
    gid: int = 0
    machine: str = ""
    boot: str = ""
    pid_space: str = ""
    pid_started: int = 0

    @property
    def time_ns(self) -> int:
        """When the lock was made or refreshed, in nanoseconds since 1970."""
        return parse_time(self.time)

    @classmethod
    def parse(cls, raw: Buffer) -> LockInfo:
        """Read a lock's JSON. Raises ``Corrupt`` for what cannot be a lock."""
        fields = load_object(raw, _WHAT)
        time = take_text(fields, "time", _WHAT)
        parse_time(time)
        ours = fields.pop(_OURS, None)
        if type(ours) is not dict:
            ours = {}
        started = ours.get("pid_started")
        return cls(
            time=time,
            exclusive=take_bool(fields, "exclusive", _WHAT),
            hostname=take_text(fields, "hostname", _WHAT),
            username=take_text(fields, "username", _WHAT),
            pid=take_int(fields, "pid", _WHAT),
            uid=take_int(fields, "uid", _WHAT),
            gid=take_int(fields, "gid", _WHAT),
            machine=_text(ours.get("machine")),
            boot=_text(ours.get("boot")),
            pid_space=_text(ours.get("pid_space")),
            pid_started=started if type(started) is int else 0,
        )

    def encode(self) -> bytes:
        """The JSON, fields in restic's order; user and group ids of root are left out, as restic does."""
        fields: dict[str, Any] = {
            "time": self.time,
            "exclusive": self.exclusive,
            "hostname": self.hostname,
            "username": self.username,
            "pid": self.pid,
        }
        fields |= {key: value for key, value in (("uid", self.uid), ("gid", self.gid)) if value}
        ours = {
            "machine": self.machine,
            "boot": self.boot,
            "pid_space": self.pid_space,
            "pid_started": self.pid_started,
        }
        if any(ours.values()):
            fields[_OURS] = {key: value for key, value in ours.items() if value}
        return json_value(fields)


def _text(value: object) -> str:
    """Text, or nothing: a lock that others wrote must not count as damaged for what they put into our field."""
    return value if type(value) is str else ""
