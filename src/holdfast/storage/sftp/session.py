"""A connection to an SFTP server: whom we trust, who we are, and a few channels over which calls are spread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from holdfast.kernel.errors import Denied, HoldfastError, Invalid, Unavailable, Unsupported
from holdfast.kernel.values import dataclass
from holdfast.storage.sftp.place import Place

Result = TypeVar("Result")

CHANNELS = 4
"""The server works on one call after the other in each channel, and a sync to disk holds up what comes after it.

sshd allows 10 (its MaxSessions)."""

CONNECT_SECONDS = 20
LOGIN_SECONDS = 60
PROBES = 3
"""How often a server must refuse the keys that are known of it, and offer others: once may be a bad connection."""
ALIVE_SECONDS, ALIVE_COUNT = 15, 4
"""A server that says nothing for a minute, not even that it is there, is gone."""

FAST_CIPHERS = "^aes256-gcm@openssh.com,aes128-gcm@openssh.com"
"""Before the others: 50 ms of processor time for 16 MiB; asyncssh's and OpenSSH's first choice, ChaCha20, takes 80."""

LOST = (
    asyncssh.ConnectionLost,
    asyncssh.DisconnectError,
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.SFTPBadMessage,
    ConnectionError,
)
"""Errors after which the connection is of no use any more."""


@dataclass(eq=False)
class _Channel:
    connection: asyncssh.SSHClientConnection
    client: asyncssh.SFTPClient
    busy: int = 0


class Session:
    """Lives in one event loop. It connects when it is needed, and again after the connection was lost."""

    def __init__(self, place: Place, environ: Mapping[str, str]) -> None:
        self._place = place
        self._environ = environ
        self._connection: asyncssh.SSHClientConnection | None = None
        self._channels: list[_Channel] = []
        self._most = CHANNELS
        self._lock = asyncio.Lock()

    async def run(self, work: Callable[[asyncssh.SFTPClient], Awaitable[Result]]) -> Result:
        """``await work(client)`` with the channel that has least to do.

        Raises what ``work`` raises, and ``Unavailable``, ``Denied``, ``Invalid`` where there is no connection.
        """
        channel = await self._channel()
        channel.busy += 1
        try:
            return await work(channel.client)
        except LOST:
            self._drop(channel.connection)
            raise
        finally:
            channel.busy -= 1

    async def close(self) -> None:
        """Hang up."""
        if (connection := self._connection) is not None:
            self._drop(connection)
            await connection.wait_closed()

    def _drop(self, connection: asyncssh.SSHClientConnection) -> None:
        """Make no more use of ``connection``: calls that fail late must not take its successor along."""
        connection.close()
        if self._connection is connection:
            self._connection, self._channels = None, []

    async def _channel(self) -> _Channel:
        async with self._lock:
            while True:
                if self._connection is None:
                    self._connection, self._most = await self._connect(), CHANNELS
                if len(self._channels) < self._most and all(channel.busy for channel in self._channels):
                    await self._open_channel(self._connection)
                if self._channels:  # else the connection was lost at this very moment
                    return min(self._channels, key=lambda channel: channel.busy)

    async def _open_channel(self, connection: asyncssh.SSHClientConnection) -> None:
        """One more channel, if the server allows one more."""
        try:
            channel = _Channel(connection, await connection.start_sftp_client(path_encoding=None))
        except (*LOST, TimeoutError) as error:
            self._drop(connection)
            raise self._unreachable(error) from error
        except (asyncssh.Error, OSError) as error:
            if connection.is_closed():  # it was lost a moment before
                self._drop(connection)
                raise self._unreachable(error) from error
            if not self._channels:
                self._drop(connection)
                raise Denied(
                    f"{self._place.location}: the server lets us in, but offers no SFTP: {error}",
                    hint="The server must allow its sftp subsystem for this user.",
                    location=self._place.location,
                ) from error
            self._most = len(self._channels)
            return
        if self._connection is connection:
            self._channels.append(channel)

    async def _connect(self) -> asyncssh.SSHClientConnection:
        given: dict[str, Any] = {"config": _configuration(self._environ), "host": self._place.host}
        if self._place.port is not None:
            given["port"] = self._place.port
        if self._place.user is not None:
            given["username"] = self._place.user
        if password := self._environ.get("HOLDFAST_SFTP_PASSWORD"):
            given["password"] = password
        try:
            options = await asyncssh.SSHClientConnectionOptions.construct(None, **given)
        except (asyncssh.ConfigParseError, asyncssh.KeyImportError, ValueError, OSError) as error:
            raise Invalid(
                f"cannot use the SSH configuration or keys: {error}",
                hint="Look at ~/.ssh/config; HOLDFAST_SSH_CONFIG names another file, or none.",
            ) from error
        if not options.config.get("Ciphers"):
            given["encryption_algs"] = FAST_CIPHERS
        trust = _Trust(options.known_hosts)
        try:
            return await asyncssh.connect(
                **given,
                known_hosts=trust,
                agent_forwarding=False,
                compression_algs=None,  # what is encrypted does not compress
                connect_timeout=CONNECT_SECONDS,
                login_timeout=LOGIN_SECONDS,
                keepalive_interval=ALIVE_SECONDS,
                keepalive_count_max=ALIVE_COUNT,
            )
        except (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionError) as error:
            if await self._has_other_keys(trust):
                raise _untrusted(self._place, trust) from error
            raise self._refused(error, trust) from error
        except (asyncssh.Error, OSError, ValueError) as error:
            raise self._refused(error, trust) from error

    async def _has_other_keys(self, trust: _Trust) -> bool:
        """Whether the server has a host key, but none of the kinds that we know of it: it hangs up on us then."""
        if not trust.is_known:
            return False
        given: dict[str, Any] = {"config": _configuration(self._environ), "host": self._place.host}
        if self._place.port is not None:
            given["port"] = self._place.port
        for _ in range(PROBES):
            try:
                if await asyncssh.get_server_host_key(**given, server_host_key_algs=trust.algorithms or "default"):
                    return False
            except (asyncssh.Error, OSError):
                pass  # nothing of what we know, or the connection was lost once more
            try:
                if await asyncssh.get_server_host_key(**given) is None:
                    return False
            except (asyncssh.Error, OSError):
                return False
        return True

    def _refused(self, error: Exception, trust: _Trust) -> HoldfastError:
        where, context = self._place.location, {"location": self._place.location}
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return _untrusted(self._place, trust)
        if isinstance(error, asyncssh.PermissionDenied):
            return Denied(
                f"{where}: the server does not let us in: {error}",
                hint="Offer a key that the server knows (ssh-agent, ~/.ssh/id_*, or IdentityFile in ~/.ssh/config), "
                "or set HOLDFAST_SFTP_PASSWORD. 'ssh' to that host must work without a question.",
                **context,
            )
        if isinstance(error, asyncssh.KeyExchangeFailed):
            return Unsupported(f"{where}: no common way of encryption with the server: {error}", **context)
        return self._unreachable(error)

    def _unreachable(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"cannot reach {self._place.location}: {str(error) or type(error).__name__}",
            hint="Check the host, the port and the network, and that the server runs.",
            location=self._place.location,
        )


class _Trust:
    """The host keys that the user trusts, from the files in ``named`` (the default ones if it is empty).

    An entry that is missing is never taken for "trust everybody", whatever the configuration says. ``host`` and
    ``port`` are those that were looked up; ``is_known``: whether there was anything about them; ``algorithms``: of
    which kinds.
    """

    def __init__(self, named: object) -> None:
        files = [str(name) for name in named] if isinstance(named, (list, tuple)) else []
        self._files = files or ["~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"]
        self.host, self.port = "", 22
        self.is_known = False
        self.algorithms: list[str] = []

    def __call__(self, host: str, addr: str, port: int | None) -> tuple[Any, ...]:
        self.host, self.port = host, port or 22
        text = ""
        for name in self._files:
            try:
                text += Path(name).expanduser().read_text("utf-8", "replace") + "\n"
            except OSError:
                continue
        found: tuple[Any, ...] = asyncssh.match_known_hosts(text.encode(), host, addr, port)
        self.is_known = any(found)
        self.algorithms = [name.decode() for key in found[0] for name in key.sig_algorithms]
        return found


def _untrusted(place: Place, trust: _Trust) -> Denied:
    port = f" -p {trust.port}" if trust.port != 22 else ""
    context = {"location": place.location, "host": trust.host, "port": trust.port}
    if trust.is_known:
        return Denied(
            f"THE KEY OF {trust.host} HAS CHANGED: this is not the server that was at {place.location} before, or "
            "somebody is listening in",
            hint="Ask whoever runs the server. Only if the new key is right, remove the old one: "
            f"ssh-keygen -R '{_entry(trust)}'.",
            **context,
        )
    return Denied(
        f"{place.location}: the host {trust.host} is not known: nobody has confirmed its key yet",
        hint=f"Connect once with 'ssh{port} {trust.host}' and compare the fingerprint that it shows; that puts it into "
        "~/.ssh/known_hosts.",
        **context,
    )


def _entry(trust: _Trust) -> str:
    return trust.host if trust.port == 22 else f"[{trust.host}]:{trust.port}"


def _configuration(environ: Mapping[str, str]) -> list[str] | None:
    """The user's SSH configuration, so that names, ports, keys and jump hosts of theirs work here too.

    Not the system's: what distributions write there is meant for their OpenSSH, and not everybody may change it.
    """
    chosen = environ.get("HOLDFAST_SSH_CONFIG")
    if chosen == "none":
        return None
    path = os.path.expanduser(chosen or "~/.ssh/config")
    return [path] if chosen or os.path.isfile(path) else None
