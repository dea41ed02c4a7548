"""What the text of a location says about an object store: which service, which bucket, where in it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from holdfast.kernel.errors import Invalid
from holdfast.kernel.values import dataclass

_FORMS = {
    "s3": "Write s3:HOST/BUCKET/PREFIX, s3:https://HOST:PORT/BUCKET/PREFIX, or s3://BUCKET/PREFIX for AWS.",
    "gs": "Write gs:BUCKET:/PREFIX or gs://BUCKET/PREFIX.",
    "azure": "Write azure:CONTAINER:/PREFIX or azure://CONTAINER/PREFIX.",
}
_WHERE_SECRETS_GO = {
    "s3": "Put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or into ~/.aws/credentials.",
    "gs": "Put the path of the key file into GOOGLE_APPLICATION_CREDENTIALS.",
    "azure": "Put them into AZURE_ACCOUNT_NAME and AZURE_ACCOUNT_KEY.",
}
_URL = re.compile(r"https?://", re.IGNORECASE)
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]*")
_AWS = re.compile(r"(?:.+\.)?amazonaws\.com(?:\.cn)?(?::443)?")
_AWS_REGION = re.compile(r"s3(?:-fips)?(?:\.dualstack)?[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?(?::443)?")
_NAMES_AMAZON = re.compile(r"s3://s3\.amazonaws\.com(?::443)?/", re.IGNORECASE)
_AWS_ANYWHERE = frozenset({"s3.amazonaws.com", "s3.amazonaws.com:443"})


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of an object store.

    ``scheme`` is ``s3``, ``gs`` or ``azure``; ``bucket`` the bucket or container; ``prefix`` the folder in it without
    slashes around it, perhaps empty; ``endpoint`` an address such as ``https://host:9000``, or None where the service
    finds it; ``location`` is the text that a person gave, without any secret.
    """

    scheme: str
    bucket: str
    prefix: str
    endpoint: str | None
    location: str

    @property
    def is_amazon(self) -> bool:
        """Whether this is S3 of Amazon itself, as far as the text tells (the environment may name another)."""
        return self.scheme == "s3" and (self.endpoint is None or _AWS.fullmatch(self.host) is not None)

    @property
    def follows_environment(self) -> bool:
        """Whether the text names no server (``s3://BUCKET``), so that the environment may."""
        return self.endpoint is None and self.location.startswith("s3://") and not _NAMES_AMAZON.match(self.location)

    @property
    def host(self) -> str:
        """Host and port of the endpoint, or nothing."""
        return urlsplit(self.endpoint).netloc.lower() if self.endpoint else ""

    @property
    def region(self) -> str | None:
        """The region that the endpoint's name tells."""
        match = _AWS_REGION.fullmatch(self.host)
        return match[1] if match else None


def parse(scheme: str, rest: str) -> Place:
    """The place that ``scheme:rest`` names, in restic's words or as a URL. Raises ``Invalid``, without the text in it.

    restic's ``s3://HOST/BUCKET`` is understood where HOST is one of Amazon's or has a port; where it could as well be
    a bucket with dots in its name it is refused.
    """
    if not rest.isprintable():
        raise Invalid(f"the {scheme}: location holds characters that cannot be printed", hint=_FORMS[scheme])
    if "?" in rest or "#" in rest:
        raise Invalid(f"a location with {scheme}: takes nothing after ? or #", hint=_FORMS[scheme])
    return _parse_s3(rest) if scheme == "s3" else _parse_container(scheme, rest)


def _parse_s3(rest: str) -> Place:
    if rest.startswith("//"):
        first, _, path = rest[2:].partition("/")
        _refuse_secrets("s3", first)
        if not (":" in first or _AWS.fullmatch(first.lower())):
            if "." in first and path.strip("/"):
                raise Invalid(
                    "the s3: location can be read in two ways: a server's name, or a bucket with dots in its name",
                    hint="For a server write s3:HOST/BUCKET/PREFIX, for a bucket s3:s3.amazonaws.com/BUCKET/PREFIX.",
                )
            return _place("s3", first, path, None, rest)
        rest_of_url = f"https:{rest}"
    else:
        rest_of_url = rest if _URL.match(rest) else f"https://{rest}"
    url_scheme, _, tail = rest_of_url.partition("://")
    host, _, path = tail.partition("/")
    _refuse_secrets("s3", host)
    try:
        parts = urlsplit(f"//{host}")
        sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or not re.fullmatch(r"[A-Za-z0-9._:\[\]-]+", host):
        raise Invalid("the s3: location names no server", hint=_FORMS["s3"])
    bucket, _, prefix = path.lstrip("/").partition("/")
    endpoint = None if host.lower() in _AWS_ANYWHERE else f"{url_scheme.lower()}://{host}"
    return _place("s3", bucket, prefix, endpoint, rest)


def _parse_container(scheme: str, rest: str) -> Place:
    if rest.startswith("//"):
        bucket, _, prefix = rest[2:].partition("/")
    else:
        bucket, colon, prefix = rest.partition(":")
        if not colon and "/" in bucket:
            raise Invalid(f"the {scheme}: location needs a colon after the name", hint=_FORMS[scheme])
    _refuse_secrets(scheme, bucket)
    return _place(scheme, bucket, prefix, None, rest)


def _place(scheme: str, bucket: str, prefix: str, endpoint: str | None, rest: str) -> Place:
    if not _BUCKET.fullmatch(bucket):
        raise Invalid(f"the {scheme}: location names no bucket that could exist", hint=_FORMS[scheme])
    parts = [part for part in prefix.split("/") if part]
    if "." in parts or ".." in parts or "\\" in prefix:
        raise Invalid(f"the {scheme}: location has . or .. or \\ in its path", hint=_FORMS[scheme])
    return Place(scheme, bucket, "/".join(parts), endpoint, f"{scheme}:{rest}")


def _refuse_secrets(scheme: str, text: str) -> None:
    if "@" in text:
        raise Invalid(f"credentials do not belong into a location with {scheme}:", hint=_WHERE_SECRETS_GO[scheme])
