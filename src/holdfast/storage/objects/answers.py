"""What an object store's refusals mean to the person who reads them."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from holdfast.kernel.errors import Denied, HoldfastError, Invalid, NoSpace, NotFound, Unavailable
from holdfast.kernel.values import dataclass
from holdfast.storage.objects.place import Place

_STATUS = re.compile(r"status code: (\d{3})|\(code: (\d{3})\)")  # the second form is for parts of a batch
_BEYOND_THE_END = "Wanted range starting at"
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_JSON_REASON = re.compile(r'"reason":\s*"([A-Za-z0-9]{1,60})"')
_MESSAGE = re.compile(r"<Message>([^<\n]{1,300})|\"message\":\s*\"([^\"\n]{1,300})\"")
_REGION = re.compile(r"<Region>([a-z0-9-]{1,40})</Region>|<Endpoint>[^<]*\bs3[.-]([a-z0-9-]+)\.amazonaws\.com")
_SECRET = re.compile(r"(?i)\b((?:x-amz-)?(?:sig|signature|token|credential|secret|security-token))=[^\s&<\"]+")
_METADATA = re.compile(r"169\.254\.\d+\.\d+|metadata\.google\.internal|fd00:ec2::|/latest/(?:api/token|meta-data)")
_NO_ROUTE = (
    ("dns error", "The server's name is unknown: check it, and the network."),
    ("Connection refused", "Nothing answers at this address: check the port, and whether the server runs."),
    ("timed out", "It took too long: check the network."),
    ("TimedOut", "It took too long: check the network."),
)

_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w+)")
_ODD_NAME = re.compile(r'Encountered object with invalid path:.*?Path ("[^"\n]*")')
_PROVIDER = re.compile(r"credential provider: \w+: ([^\n]{1,300})")  # what ours raised, in obstore's words
_TRUST = {
    "UnknownIssuer": "Name the file of the authority's certificates in SSL_CERT_FILE (for S3 also AWS_CA_BUNDLE).",
    "Expired": "The certificate has expired, or this machine's clock is wrong.",
    "NotValidYet": "The certificate is not valid yet, or this machine's clock is wrong.",
}

_CLOCK = "This machine's clock differs from the server's by minutes: set it (timedatectl), then try again."
_RENEW = "The credentials have expired: get new ones (for example 'aws sso login'), then run this again."
_ALLOW = "Check what these credentials are allowed to do here."
_APPEND = " A client that may only add to the vault is refused this on purpose."
_SLOWER = "The service asks to slow down: use fewer connections, or try again later."
_REGIONAL = "The bucket is in another region: set AWS_REGION, or name the region in the location's host."
_FULL = "The place is full or over its quota: have it raised, or free some space there."
_HELD = "The storage holds this object back (object lock, retention, a legal hold) until its time is over."
_COLD = "The object lies in cold storage: have the service restore it first (S3 Glacier: restore-object)."

_CREDENTIALS = {
    "s3": "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and ~/.aws/credentials.",
    "gs": "Check GOOGLE_APPLICATION_CREDENTIALS, or run 'gcloud auth application-default login'.",
    "azure": "Check AZURE_ACCOUNT_NAME and AZURE_ACCOUNT_KEY (or AZURE_ACCOUNT_SAS).",
}
_MAKE = {
    "s3": "Make the bucket first (aws s3 mb s3://{0}), or check its name and the server's.",
    "gs": "Make the bucket first (gcloud storage buckets create gs://{0}), or check its name.",
    "azure": "Make the container first (az storage container create -n {0}), or check its name and the account's.",
}

_MEANING: dict[str, tuple[type[HoldfastError], str]] = {
    "RequestTimeTooSkewed": (Denied, _CLOCK),
    "ExpiredToken": (Denied, _RENEW),
    "ExpiredTokenException": (Denied, _RENEW),
    "TokenRefreshRequired": (Denied, _RENEW),
    "RequestExpired": (Denied, _RENEW),
    "InvalidToken": (Denied, _RENEW),
    "AccessDenied": (Denied, _ALLOW),
    "AllAccessDisabled": (Denied, _ALLOW),
    "AuthorizationPermissionMismatch": (Denied, _ALLOW),
    "InsufficientAccountPermissions": (Denied, _ALLOW),
    "forbidden": (Denied, _ALLOW),
    "ObjectLocked": (Denied, _HELD),
    "BlobImmutableDueToPolicy": (Denied, _HELD),
    "retentionPolicyNotMet": (Denied, _HELD),
    "InvalidObjectState": (Denied, _COLD),
    "BlobArchived": (Denied, _COLD),
    "AuthorizationHeaderMalformed": (Invalid, _REGIONAL),
    "PermanentRedirect": (Invalid, _REGIONAL),
    "IllegalLocationConstraintException": (Invalid, _REGIONAL),
    "RequestTimeout": (Unavailable, ""),
    "SlowDown": (Unavailable, _SLOWER),
    "SlowDownRead": (Unavailable, _SLOWER),
    "SlowDownWrite": (Unavailable, _SLOWER),
    "ServerBusy": (Unavailable, _SLOWER),
    "rateLimitExceeded": (Unavailable, _SLOWER),
    "QuotaExceeded": (NoSpace, _FULL),
    "XMinioStorageFull": (NoSpace, _FULL),
    "XMinioAdminBucketQuotaExceeded": (NoSpace, _FULL),
}
"""Codes of AWS ("Error responses", S3 API reference), Azure ("Blob service error codes"), Google and MinIO."""

_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"})
_BAD_CREDENTIALS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed", "InvalidAuthenticationInfo",
     "NoAuthenticationInformation", "AuthenticationRequired", "authError", "InvalidSecurity"}
)  # fmt: skip
_KINDS: dict[int, type[HoldfastError]] = {
    400: Invalid, 401: Denied, 403: Denied, 404: NotFound, 405: Invalid, 409: Unavailable, 410: NotFound,
    411: Invalid, 412: Unavailable, 416: Invalid, 501: Invalid, 507: NoSpace,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What an exception of obstore tells: HTTP ``status`` (0 without an answer), the service's ``code``, its words for
    people in ``message`` (without secrets), the ``region`` that it points to, and the ``raw`` text, never to be shown.
    """

    status: int
    code: str
    message: str
    region: str
    raw: str

    @classmethod
    def of(cls, error: Exception) -> Answer:
        """Read obstore's text: the answer's body is in it, and with it the service's own code (0.12: no attributes)."""
        raw = str(error)
        said = raw.partition("\n\nDebug source:")[0]
        code = _CODE.search(said) or _JSON_REASON.search(said)
        message = _MESSAGE.search(said)
        region = _REGION.search(said)
        return cls(
            status=_status(error, said),
            code=code[1] if code else "",
            message=masked(unescape(message[1] or message[2])).strip().rstrip(".") if message else "",
            region=(region[1] or region[2]) if region else "",
            raw=raw,
        )

    @property
    def summary(self) -> str:
        """obstore's own words, for trouble that no server caused."""
        return masked(" ".join(self.raw.partition("\n\nDebug source:")[0].split()))[:300]

    @property
    def no_bucket(self) -> bool:
        """Whether the bucket or container itself is missing."""
        return self.code in _NO_BUCKET

    @property
    def no_credentials(self) -> bool:
        """Whether it was the cloud's own machines that were asked for credentials, in vain: there were no others."""
        return _METADATA.search(self.raw) is not None

    @property
    def cannot_be_conditional(self) -> bool:
        """Whether the server says that it does not know ``If-None-Match`` on writing."""
        return self.status == 501 or self.code == "NotImplemented"


def _status(error: Exception, said: str) -> int:
    if match := _STATUS.search(said):
        return int(match[1] or match[2])
    if _BEYOND_THE_END in said:  # an answer with nothing in it (Azurite), which obstore does not take
        return 416
    return 404 if isinstance(error, FileNotFoundError) else 0


def masked(text: str) -> str:
    """``text`` without the values of signatures and tokens."""
    return _SECRET.sub(r"\1=***", text)


def translated(answer: Answer, place: Place, doing: str, name: str) -> HoldfastError:
    """The error to raise: "cannot <doing> <name> in <location>: <reason>", with a hint for the person.

    ``context`` holds ``name`` and ``location``, and where the server answered its ``status`` and ``service_code``.
    """
    kind, hint = _meaning(answer, place)
    if kind is Denied and doing == "delete" and hint.endswith(_ALLOW):
        hint += _APPEND
    reason = _reason(answer)
    what = f"cannot {doing} {name} in {place.location}" if name else f"cannot {doing} {place.location}"
    context: dict[str, Any] = {"location": place.location, "name": name}
    context |= (
        {"status": answer.status, "service_code": answer.code} if answer.status and not answer.no_credentials else {}
    )
    if answer.no_bucket:
        return NotFound(
            f"{what}: there is no {'container' if place.scheme == 'azure' else 'bucket'} {place.bucket}",
            hint=hint, missing="place", **context,
        )  # fmt: skip
    if answer.cannot_be_conditional:
        context["cannot_be_conditional"] = True
    return kind(f"{what}: {reason}", hint=hint, **context)


def _meaning(answer: Answer, place: Place) -> tuple[type[HoldfastError], str]:
    if answer.no_bucket:
        return NotFound, _MAKE[place.scheme].format(place.bucket)
    if answer.no_credentials:
        return Denied, f"No credentials were found. {_CREDENTIALS[place.scheme]}"
    if _PROVIDER.search(answer.raw):
        return Denied, f"Log in again. {_CREDENTIALS[place.scheme]}"
    if flaw := _CERTIFICATE.search(answer.raw):
        return Denied, _TRUST.get(flaw[1], "Check the server's name, and what answers under it.")
    if _ODD_NAME.search(answer.raw):
        return Invalid, "It is none of the vault's: remove it, or choose another prefix."
    if not answer.status:
        return Unavailable, next((hint for text, hint in _NO_ROUTE if text in answer.raw), "Check the network.")
    if place.scheme == "azure" and "date header" in answer.raw:
        return Denied, _CLOCK
    if answer.code in _BAD_CREDENTIALS or answer.status == 401:
        return Denied, _CREDENTIALS[place.scheme]
    if known := _MEANING.get(answer.code):
        kind, hint = known
        if hint is _REGIONAL and answer.region:
            hint = f"The bucket is in another region: set AWS_REGION={answer.region}."
        return kind, hint
    kind = _KINDS.get(answer.status, Unavailable if answer.status >= 408 else Invalid)
    if kind is Denied:
        return kind, f"{_CREDENTIALS[place.scheme]} {_ALLOW}"
    if kind is NotFound:
        return kind, "It may have been deleted meanwhile: check the vault."
    if kind is NoSpace:
        return kind, _FULL
    if kind is Unavailable:
        return kind, _SLOWER if answer.status in (429, 503) else "The service has trouble; try again later."
    return kind, "Check the location; the service does not take this request."


def _reason(answer: Answer) -> str:
    if answer.no_credentials:
        return "there are no credentials"
    if trouble := _PROVIDER.search(answer.raw):
        return masked(trouble[1])
    if flaw := _CERTIFICATE.search(answer.raw):
        return f"the server's certificate is not trusted ({flaw[1]})"
    if odd := _ODD_NAME.search(answer.raw):
        return f"there is an object with a name that cannot be listed: {odd[1]}"
    if not answer.status:
        return "the server cannot be reached, or the connection broke"
    code = f" {answer.code}" if answer.code else ""
    return f"the server answered {answer.status}{code}{f' ({answer.message})' if answer.message else ''}"
