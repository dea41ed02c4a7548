"""How each service is connected to: its credentials and settings, by the rules of its own tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from holdfast.kernel.errors import Invalid, NotFound
from holdfast.storage.objects import aws
from holdfast.storage.objects.place import Place

Options = Any
"""Keyword arguments of obstore: see ``ClientConfig`` and ``RetryConfig`` there."""

Maker = Callable[[Options], ObjectStore]
"""Makes a client from client options; the clients of one maker share their credentials."""

_YES = frozenset({"1", "true", "yes", "on"})


def connect_s3(place: Place, region: str | None, retry: Options) -> Maker:
    """S3 of Amazon or of anybody else.

    obstore reads the environment by itself (keys, web identity, container and instance roles, server-side encryption);
    what comes from a profile's files, and which address is meant, is decided here. ``region`` is what the service told.
    The address in the location's text wins over the environment's.
    """
    profile = aws.Profile.read(os.environ)
    env = os.environ.get
    endpoint = place.endpoint
    if place.follows_environment:
        endpoint = env("AWS_ENDPOINT_URL_S3") or env("AWS_ENDPOINT_URL") or env("AWS_ENDPOINT") or profile.endpoint
    amazon = place.is_amazon and endpoint == place.endpoint
    region = region or place.region or env("AWS_REGION") or env("AWS_DEFAULT_REGION") or profile.region or "us-east-1"
    if not endpoint:
        endpoint = f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
    virtual = _virtual(env("AWS_VIRTUAL_HOSTED_STYLE_REQUEST"), profile, amazon=amazon and "." not in place.bucket)
    address = _in_front(place.bucket, endpoint) if virtual else endpoint
    config: Options = {
        "region": region,
        # Both, always: obstore would take what is missing here from the environment.
        "endpoint": address,
        "aws_endpoint_url_s3": address,
        "virtual_hosted_style_request": virtual,
        "disable_bulk_delete": True,
    }
    more = _trust(env("AWS_CA_BUNDLE") or profile.ca_bundle or env("RESTIC_CACERT"))
    more["allow_http"] = endpoint.lower().startswith("http:")
    return lambda client: S3Store(
        place.bucket, prefix=place.prefix or None, config=config, client_options=client | more, retry_config=retry,
        credential_provider=profile.credentials,
    )  # fmt: skip


def connect_google(place: Place, _region: str | None, retry: Options) -> Maker:
    """Google Cloud Storage. obstore finds GOOGLE_APPLICATION_CREDENTIALS, gcloud's login and the instance's account;
    restic's GOOGLE_ACCESS_TOKEN and the emulators' STORAGE_EMULATOR_HOST are added here.
    """
    config: Options = {}
    more = _trust(os.environ.get("RESTIC_CACERT"))
    if token := os.environ.get("GOOGLE_ACCESS_TOKEN"):
        config["bearer_token"] = token
    if host := os.environ.get("STORAGE_EMULATOR_HOST"):
        address = host if "://" in host else f"http://{host}"
        config["base_url"] = address.rstrip("/")
        more["allow_http"] = address.lower().startswith("http:")
        if not token:
            config["skip_signature"] = True
    return lambda client: GCSStore(
        place.bucket, prefix=place.prefix or None, config=config, client_options=client | more, retry_config=retry
    )


def connect_azure(place: Place, _region: str | None, retry: Options) -> Maker:
    """Azure Blob Storage. obstore reads AZURE_STORAGE_ACCOUNT_NAME and its kind, workload and managed identities; the
    words of restic (AZURE_ACCOUNT_NAME, ...) and of the az tool (AZURE_STORAGE_ACCOUNT, a connection string) are added.
    """
    env = os.environ.get
    text = _connection_string(env("AZURE_STORAGE_CONNECTION_STRING") or "")
    names = ("AZURE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
    account = next((value for name in names if (value := env(name))), None) or text.get("AccountName")
    if not account:
        raise Invalid(
            f"the account of {place.location} is not known",
            hint="Set AZURE_ACCOUNT_NAME (or AZURE_STORAGE_ACCOUNT_NAME), and AZURE_ACCOUNT_KEY.",
            location=place.location,
        )
    config: Options = {"account_name": account}
    more = _trust(env("RESTIC_CACERT"))
    key = env("AZURE_ACCOUNT_KEY") or env("AZURE_STORAGE_KEY") or text.get("AccountKey")
    signature = env("AZURE_ACCOUNT_SAS") or env("AZURE_STORAGE_SAS_TOKEN") or text.get("SharedAccessSignature")
    endpoint = env("AZURE_STORAGE_ENDPOINT") or env("AZURE_ENDPOINT") or text.get("BlobEndpoint")
    suffix = env("AZURE_ENDPOINT_SUFFIX") or text.get("EndpointSuffix")
    if not endpoint and suffix:
        endpoint = f"https://{account}.blob.{suffix}"
    if key:
        config["account_key"] = key
    elif signature:
        config["sas_key"] = signature.lstrip("?")
    elif (env("AZURE_FORCE_CLI_CREDENTIAL") or "").lower() in _YES:
        config["use_azure_cli"] = True
    if endpoint:
        config["endpoint"] = endpoint.rstrip("/")
        more["allow_http"] = endpoint.lower().startswith("http:")
    return lambda client: AzureStore(
        place.bucket, prefix=place.prefix or None, config=config, client_options=client | more, retry_config=retry
    )


CONNECT: Mapping[str, Callable[[Place, str | None, Options], Maker]] = MappingProxyType(
    {"azure": connect_azure, "gs": connect_google, "s3": connect_s3}
)
"""Scheme -> what prepares clients: place, region that the service told (S3), retry options."""


def _virtual(wish: str | None, profile: aws.Profile, *, amazon: bool) -> bool:
    """Whether the bucket goes in front of the host's name: as wished, else at Amazon only, as restic does."""
    if wish:
        return wish.lower() in _YES
    return amazon if profile.virtual is None else profile.virtual


def _in_front(bucket: str, endpoint: str) -> str:
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}"


def _trust(path: str | None) -> Options:
    """The certificates in a PEM file, trusted besides the system's (obstore itself honours SSL_CERT_FILE)."""
    if not path:
        return {}
    try:
        return {"root_certificate": Path(path).read_bytes()}
    except OSError:
        raise NotFound(
            f"cannot read the certificates in {path}", hint="Look at AWS_CA_BUNDLE, RESTIC_CACERT."
        ) from None


def _connection_string(text: str) -> dict[str, str]:
    """``Name=Value;...`` (Azure: "Configure connection strings"); values may hold ``=``."""
    pairs = (part.partition("=") for part in text.split(";") if "=" in part)
    return {name.strip(): value.strip() for name, _, value in pairs}
