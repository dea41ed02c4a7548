"""The connection to one object store: opened late, its errors translated, its region found out when it must be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.kernel.errors import HoldfastError, Invalid
from holdfast.storage.objects.answers import Answer, translated
from holdfast.storage.objects.place import Place

if TYPE_CHECKING:
    from holdfast.storage.objects.client import Client

Result = TypeVar("Result")

READ_STALL = timedelta(seconds=60)
"""A download that brings no byte for this long is given up."""
WRITE_LIMIT = timedelta(minutes=20)
"""Longest time for one PUT; with at most 32 MiB in each a line of 27 KiB/s is just fast enough."""
CONNECT_LIMIT = timedelta(seconds=15)
# Servers close idle connections, Amazon's after some 20 seconds; a PUT into a closed one fails and is not repeated.
_IDLE = timedelta(seconds=15)
_DAY = timedelta(days=1)


class Link:
    """Two clients for a place: one that watches for downloads that stall, one that lets uploads take long.

    (obstore's client counts the time without a received byte, and during an upload nothing is received.)
    ``conditional`` says whether the server honours ``If-None-Match: *`` on writing; None until that is known.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.conditional: bool | None = None if place.scheme == "s3" and not place.is_amazon else True
        self._lock = threading.Lock()
        self._clients: tuple[Client, Client] | None = None
        self._region: str | None = None

    def ask(self, doing: str, name: str, call: Callable[[Client], Result], *, writing: bool = False) -> Result:
        """``call`` with a client. Errors become ours ("cannot <doing> <name> in ..."): ``NotFound`` for a missing
        object and, with ``missing="place"`` in its context and a hint, for a missing bucket.
        """
        while True:
            region = self._region
            try:
                return call(self._open()[writing])
            except (HoldfastError, OSError) as error:
                if not isinstance(error, FileNotFoundError) or error.errno is not None:
                    raise
                answer = Answer.of(error)
            except Exception as error:
                answer = Answer.of(error)
            if not self._moved(answer, region):
                # Outside of the handlers: obstore's text may hold signed addresses, so it is not chained.
                raise translated(answer, self.place, doing, name)

    def close(self) -> None:
        """Forget the clients; their connections close by themselves."""
        with self._lock:
            self._clients = None

    def _open(self) -> tuple[Client, Client]:
        clients = self._clients
        if clients is None:
            with self._lock:
                clients = self._clients
                if clients is None:
                    clients = self._clients = self._connect()
        return clients

    def _connect(self) -> tuple[Client, Client]:
        from holdfast.storage.objects.client import Client
        from holdfast.storage.objects.services import CONNECT

        always: dict[str, Any] = {
            "connect_timeout": CONNECT_LIMIT, "pool_idle_timeout": _IDLE, "user_agent": "holdfast",
        }  # fmt: skip
        # Trying again is the task of a decorator, which also tells the user; here it would only hide the trouble.
        retry = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
        try:
            make = CONNECT[self.place.scheme](self.place, self._region, retry)
            return (
                Client(make({**always, "timeout": _DAY, "read_timeout": READ_STALL})),
                Client(make({**always, "timeout": WRITE_LIMIT})),
            )
        except HoldfastError:
            raise
        except Exception as error:
            reason = Answer.of(error).summary
        raise Invalid(
            f"the settings for {self.place.location} do not fit together: {reason}",
            hint="Look at the environment variables and files that hold the credentials.",
            location=self.place.location,
        )

    def _moved(self, answer: Answer, asked: str | None) -> bool:
        """Whether the answer names the region where the bucket is, and the clients have moved there (at most once)."""
        if not answer.region or self.place.scheme != "s3":
            return False
        with self._lock:
            if self._region is None:
                self._region, self._clients = answer.region, None
            return self._region != asked
