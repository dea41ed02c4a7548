"""Report grave facts to Sentry: without secrets, paths or content, within two seconds, and only what arrived counts."""

from __future__ import annotations

import hashlib
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from holdfast.kernel.errors import Invalid, Unsupported
from holdfast.kernel.values import dataclass
from holdfast.monitor.masking import mask
from holdfast.monitor.record import time_text

if TYPE_CHECKING:
    from sentry_sdk.envelope import Envelope
    from sentry_sdk.transport import Transport

    from holdfast.monitor.record import Record

SECONDS = 2.0
"""The longest that reporting may take, name look-up included."""
MOST = 50
"""Facts that are reported at a time."""
_LEVELS = {"info": "info", "warning": "warning", "error": "error", "critical": "fatal"}
_UNSENT = ("notice.",)
"""Facts that only tell of others."""

_FRAME = re.compile(r'File "[^"\n]*?([^/\\"\n]+)"')
# From a path's first slash to what can end it in a sentence: names may have blanks in them.
_ABSOLUTE = re.compile(r"""(?:(?<=^)|(?<=[\s'"(=<\[]))(?:~|\.{1,2}|[a-z0-9+.-]{2,}:)?/[^:'"\n)>\]]*""", re.MULTILINE)
_RELATIVE = re.compile(r"""[^\s'"(<\[]*[^\s'"(<\[/]/[^\s'":;)>\]]+""")


@dataclass(slots=True)
class Reported:
    """How many facts Sentry took, from the first on, and why it took no more (empty: it took all)."""

    count: int = 0
    trouble: str = ""


class Scrubber:
    """Takes out of texts what nobody else is to know. Equal paths stay equal; ``key`` is in what stands for them."""

    def __init__(self, key: str) -> None:
        self._key = key

    def path(self, text: str) -> str:
        """What stands for a path."""
        keyed = f"{self._key} {text}".encode("utf-8", "replace")
        return f"<path {hashlib.sha256(keyed).hexdigest()[:8]}>"

    def text(self, text: str, known: Sequence[str] = ()) -> str:
        """``text`` without secrets and paths; ``known`` are paths that may stand in it. In doubt more goes than has to.

        Of files of programs in tracebacks the last part of the name stays.
        """
        text = _FRAME.sub(lambda match: f'File "{match[1]}"', mask(text))
        for path in sorted(known, key=len, reverse=True):
            text = text.replace(path, self.path(path))
        text = _ABSOLUTE.sub(lambda match: self.path(match[0].rstrip()), text)
        return _RELATIVE.sub(lambda match: self.path(match[0]), text)

    def word(self, text: str) -> str:
        """A name as it is; a location as what stands for it."""
        return self.path(text) if "/" in text or ":" in text or "\\" in text else text


def event_of(record: Record, scrubber: Scrubber) -> dict[str, Any]:
    """``record`` as an event of Sentry. Sent twice it is one event there: its id follows from the record's."""
    data = record.data
    error = data.get("error")
    code = str(error.get("code", "")) if isinstance(error, Mapping) else str(data.get("code", ""))
    known = [value for key, value in data.items() if isinstance(value, str) and "/" in value and key != "traceback"]
    message = scrubber.text(record.message, known)
    tags = {"kind": record.kind, "role": record.role, "operation": record.operation, "code": code}
    tags |= {"run": record.run, "job": record.job, "plan": scrubber.word(record.plan)}
    tags["vault"] = scrubber.word(record.vault)
    event: dict[str, Any] = {
        "event_id": hashlib.sha256(record.id.encode()).hexdigest()[:32],
        "timestamp": time_text(record.at_ns),
        "level": _LEVELS.get(record.level, "error"),
        "platform": "python",
        "logger": f"holdfast.{record.operation}" if record.operation else "holdfast",
        "server_name": record.host,
        "logentry": {"formatted": message},
        "tags": {key: value[:200] for key, value in tags.items() if value},
        "fingerprint": [record.kind, record.operation, tags["plan"], code or "{{ default }}"],
        # Numbers only: a text may be a name or a line of somebody's output.
        "extra": {key: value for key, value in data.items() if isinstance(value, (bool, int, float))},
    }
    if isinstance(data.get("traceback"), str):
        event["extra"]["traceback"] = scrubber.text(data["traceback"], known)
    return event


def report(
    records: Sequence[Record], dsn: str, *, release: str, environment: str, seconds: float = SECONDS
) -> Reported:
    """Send at most ``MOST`` of ``records``, in order, within ``seconds``.

    What was not taken can be sent again. Raises ``Unsupported`` without the library, ``Invalid`` for a wrong DSN.
    """
    found = Reported()
    client = _client(dsn, release, environment, found, seconds)
    scrubber = Scrubber(dsn)

    def work() -> None:
        for record in records[:MOST]:
            if not record.kind.startswith(_UNSENT):
                client.capture_event(event_of(record, scrubber))
            if found.trouble:
                return
            found.count += 1

    # A name look-up, or a proxy that says nothing, can take minutes, which no time-out of a socket ends.
    thread = threading.Thread(target=work, name="sentry", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return Reported(found.count, f"it took longer than {seconds:g} s")
    return found


def _client(dsn: str, release: str, environment: str, found: Reported, seconds: float) -> Any:
    try:
        import sentry_sdk
        from sentry_sdk.utils import BadDsn
    except ImportError:
        raise Unsupported(
            "the package that speaks with Sentry is missing", hint="pip install 'holdfast[sentry]'"
        ) from None
    try:
        return sentry_sdk.Client(
            dsn=dsn,
            transport=_transport(found, seconds),
            release=release,
            environment=environment or None,
            # Nothing of what it could find out by itself: no variables, arguments, modules or environment.
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            include_source_context=False,
            attach_stacktrace=False,
            max_breadcrumbs=0,
            send_client_reports=False,
            auto_session_tracking=False,
        )
    except BadDsn:
        raise Invalid("the DSN for Sentry is none", hint="It looks like https://KEY@HOST/NUMBER.") from None


def _transport(found: Reported, seconds: float) -> type[Transport]:
    """A transport that sends at once and knows what came of it; the library's own would not tell."""
    from sentry_sdk.transport import Transport

    class Direct(Transport):
        def capture_envelope(self, envelope: Envelope) -> None:
            assert self.parsed_dsn is not None
            auth = self.parsed_dsn.to_auth("holdfast")
            request = urllib.request.Request(
                auth.get_api_url(),
                data=envelope.serialize(),
                headers={"Content-Type": "application/x-sentry-envelope", "X-Sentry-Auth": auth.to_header()},
            )
            try:
                with urllib.request.urlopen(request, timeout=seconds) as answer:
                    answer.read(4096)
            except urllib.error.HTTPError as error:
                with error:
                    # What it does not take now it never takes: too large, or not understood. That one is left out.
                    if error.code not in (400, 413):
                        found.trouble = f"it answers {error.code} {error.reason}"
            except (OSError, ValueError) as error:
                found.trouble = str(getattr(error, "reason", "") or error)

    return Direct
