"""A double of Google Cloud Storage for tests: the parts of its XML and JSON interfaces that obstore and restic use.

Facts: Google's "XML API" and "JSON API" references. Of the public doubles none does both: fake-gcs-server 1.56 answers
400 to a PUT of the XML interface, which is what obstore sends.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
from tests.servers.tunnel import make_certificate, tunnel

BUCKET = "vaults"
TOKEN = "ya29.a-token-for-tests"
PAGE = 100
_JSON = "/storage/v1/b/"
_UPLOAD = "/upload/storage/v1/b/"


@dataclass(frozen=True)
class GoogleStorage:
    """A server with the bucket :data:`BUCKET`; it answers only requests with :data:`TOKEN`."""

    way: dict[str, str]

    @property
    def environ(self) -> dict[str, str]:
        """What a user sets, in restic's words, and how the server is found."""
        return {"GOOGLE_ACCESS_TOKEN": TOKEN, "GOOGLE_PROJECT_ID": "tests", **self.way}

    @property
    def wrong_environ(self) -> dict[str, str]:
        """The same with a token that is not valid."""
        return self.environ | {"GOOGLE_ACCESS_TOKEN": "expired-token"}

    @property
    def secrets(self) -> list[str]:
        """What no message may repeat."""
        return [TOKEN, "expired-token"]

    def location(self, name: str) -> str:
        """Where a vault of that name is."""
        return f"gs:{BUCKET}:/{name}"


class _Refused(Exception):
    """An answer that is an error: status, Google's code, words."""


class _Objects:
    """What the bucket holds: name -> content and generation."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.content: dict[str, tuple[bytes, int]] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.sessions: dict[str, tuple[str, str | None]] = {}
        self._numbers = iter(range(1, 1 << 60))

    def number(self) -> int:
        with self.lock:
            return next(self._numbers)

    def put(self, name: str, data: bytes, generation: str | None) -> int:
        """Store, if the object has that generation (``0``: does not exist)."""
        with self.lock:
            if generation is not None and int(generation) != self.content.get(name, (b"", 0))[1]:
                raise _Refused(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")
            number = next(self._numbers)
            self.content[name] = data, number
            return number

    def get(self, name: str) -> tuple[bytes, int]:
        try:
            return self.content[name]
        except KeyError:
            raise _Refused(404, "NoSuchKey", "The specified key does not exist.") from None

    def delete(self, name: str) -> None:
        with self.lock:
            if self.content.pop(name, None) is None:
                raise _Refused(404, "NoSuchKey", "The specified key does not exist.")

    def page(self, prefix: str, delimiter: str, after: str) -> tuple[list[str], list[str], str]:
        """Names, common prefixes, and what the next page begins after."""
        names = sorted(name for name in list(self.content) if name.startswith(prefix) and name > after)[:PAGE]
        plain, folders = [], set()
        for name in names:
            head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            if found:
                folders.add(prefix + head + delimiter)
            else:
                plain.append(name)
        return plain, sorted(folders), names[-1] if len(names) == PAGE else ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    objects: _Objects

    def respond(self) -> None:
        body = self._body()
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise _Refused(401, "AuthenticationRequired", "Authentication required.")
            if parts.path.startswith((_JSON, _UPLOAD)):
                self._json(parts.path, asked, body)
            else:
                self._xml(parts.path, asked, body)
        except _Refused as refused:
            status, code, words = refused.args
            if parts.path.startswith((_JSON, _UPLOAD)):
                error = {"code": status, "message": words, "errors": [{"reason": code, "message": words}]}
                self._send(status, {"Content-Type": "application/json"}, json.dumps({"error": error}).encode())
            else:
                self._send(status, {}, f"<Error><Code>{code}</Code><Message>{words}</Message></Error>".encode())

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = respond

    # -- the XML interface, for obstore, and for restic's downloads ----------------------------------------------------

    def _xml(self, path: str, asked: dict[str, str], body: bytes) -> None:
        bucket, _, name = path[1:].partition("/")
        name = unquote(name)
        self._check(bucket)
        if not name:
            self._xml_list(asked)
        elif "uploadId" in asked or "uploads" in asked:
            self._xml_parts(name, asked, body)
        elif self.command == "PUT":
            number = self.objects.put(name, body, self.headers.get("x-goog-if-generation-match"))
            self._send(200, {"ETag": _tag(body), "x-goog-generation": str(number)})
        elif self.command == "DELETE":
            self.objects.delete(name)
            self._send(204, {})
        else:
            self._content(name)

    def _content(self, name: str) -> None:
        data, number = self.objects.get(name)
        headers = {
            "ETag": _tag(data), "x-goog-generation": str(number), "Last-Modified": "Sun, 22 Nov 2026 01:00:00 GMT",
            "x-goog-hash": "md5=" + base64.b64encode(md5(data).digest()).decode(),
        }  # fmt: skip
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match:
            self._send(200, headers, data)
            return
        start = int(match[1])
        if start >= len(data):
            raise _Refused(416, "InvalidRange", "The requested range cannot be satisfied.")
        end = min(int(match[2] or len(data)) + 1, len(data))
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        self._send(206, headers, data[start:end])

    def _xml_list(self, asked: dict[str, str]) -> None:
        names, folders, after = self.objects.page(
            asked.get("prefix", ""), asked.get("delimiter", ""), asked.get("continuation-token", "")
        )
        items = [
            f"<Contents><Key>{escape(name)}</Key><LastModified>2026-11-22T01:00:00.000Z</LastModified>"
            f"<Size>{len(self.objects.content[name][0])}</Size><ETag>x</ETag></Contents>"
            for name in names
            if name in self.objects.content
        ]
        items += [f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in folders]
        more = f"<NextContinuationToken>{escape(after)}</NextContinuationToken>" if after else ""
        self._send(200, {}, f"<ListBucketResult>{''.join(items)}{more}</ListBucketResult>".encode())

    def _xml_parts(self, name: str, asked: dict[str, str], body: bytes) -> None:
        if "uploads" in asked:
            upload = f"upload-{self.objects.number()}"
            self.objects.uploads[upload] = {}
            answer = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            self._send(200, {}, answer.encode())
        elif self.command == "PUT":
            self.objects.uploads[asked["uploadId"]][int(asked["partNumber"])] = body
            self._send(200, {"ETag": _tag(body)})
        elif self.command == "DELETE":
            del self.objects.uploads[asked["uploadId"]]
            self._send(204, {})
        else:
            parts = self.objects.uploads.pop(asked["uploadId"])
            data = b"".join(parts[number] for number in sorted(parts))
            number = self.objects.put(name, data, None)
            answer = f"<CompleteMultipartUploadResult><ETag>{_tag(data)}</ETag></CompleteMultipartUploadResult>"
            self._send(200, {"x-goog-generation": str(number)}, answer.encode())

    # -- the JSON interface, for restic --------------------------------------------------------------------------------

    def _json(self, path: str, asked: dict[str, str], body: bytes) -> None:
        bucket, _, rest = path.removeprefix(_UPLOAD).removeprefix(_JSON).partition("/")
        self._check(bucket)
        name = unquote(rest.removeprefix("o/"))
        if path.startswith(_UPLOAD):
            self._json_upload(asked, body)
        elif not rest:
            self._say({"kind": "storage#bucket", "name": BUCKET, "id": BUCKET})
        elif rest == "o":
            names, folders, after = self.objects.page(
                asked.get("prefix", ""), asked.get("delimiter", ""), asked.get("pageToken", "")
            )
            items = [self._attributes(name) for name in names if name in self.objects.content]
            self._say({"kind": "storage#objects", "items": items, "prefixes": folders, "nextPageToken": after})
        elif self.command == "DELETE":
            self.objects.delete(name)
            self._send(204, {})
        elif asked.get("alt") == "media":
            self._content(name)
        else:
            self._say(self._attributes(name))

    def _json_upload(self, asked: dict[str, str], body: bytes) -> None:
        if session := asked.get("upload_id"):
            name, generation = self.objects.sessions.pop(session)
        elif asked["uploadType"] == "resumable":
            session = f"session-{self.objects.number()}"
            name = asked.get("name") or json.loads(body)["name"]
            self.objects.sessions[session] = name, asked.get("ifGenerationMatch")
            self._send(200, {"Location": f"http://{self.headers['Host']}{_UPLOAD}{BUCKET}/o?upload_id={session}"})
            return
        else:
            boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])
            assert boundary
            about, body = body.split(b"--" + boundary[1].encode())[1:3]
            name = json.loads(about.partition(b"\r\n\r\n")[2])["name"]
            body, generation = body.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n"), asked.get("ifGenerationMatch")
        self.objects.put(name, body, generation)
        self._say(self._attributes(name))

    def _attributes(self, name: str) -> dict[str, Any]:
        data, number = self.objects.get(name)
        return {
            "kind": "storage#object", "bucket": BUCKET, "name": name, "size": str(len(data)), "generation": str(number),
            "md5Hash": base64.b64encode(md5(data).digest()).decode(), "updated": datetime.now(UTC).isoformat(),
        }  # fmt: skip

    # -- both ----------------------------------------------------------------------------------------------------------

    def _check(self, bucket: str) -> None:
        if bucket != BUCKET:
            raise _Refused(404, "NoSuchBucket", "The specified bucket does not exist.")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _say(self, value: dict[str, Any]) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _send(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _tag(data: bytes) -> str:
    return f'"{md5(data).hexdigest()}"'


@pytest.fixture(scope="session")
def gcs() -> Iterator[GoogleStorage]:
    """The double, found in the way of emulators; it forgets everything at the end."""
    with _serving() as port:
        yield GoogleStorage({"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}", "NO_PROXY": "127.0.0.1"})


@pytest.fixture(scope="session")
def gcs_by_name(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleStorage]:
    """The double under the real one's name, over TLS: restic 0.14 and 0.18 pay no heed to STORAGE_EMULATOR_HOST."""
    authority, certificate, key = make_certificate(tmp_path_factory.mktemp("gcs"), "storage.googleapis.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with _serving(context) as port, tunnel(port) as proxy:
        yield GoogleStorage({"HTTPS_PROXY": proxy, "SSL_CERT_FILE": str(authority)})


class _Server(ThreadingHTTPServer):
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, address: Any) -> None:
        # In the connection's own thread: a handshake in the accepting one would stop all others.
        super().finish_request(
            self.context.wrap_socket(request, server_side=True) if self.context else request, address
        )

    def handle_error(self, request: Any, address: Any) -> None:
        """A client that hangs up is no news."""


@contextmanager
def _serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    handler = type("Handler", (_Handler,), {"objects": _Objects()})
    with _Server(("127.0.0.1", 0), handler) as server:
        server.context = context
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
