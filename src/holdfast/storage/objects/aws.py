"""The files in ~/.aws, which the client library does not read: a profile's keys, region, address and style.

Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files", and botocore's order: keys in the
environment win over a profile, a role over keys, and the credentials file over the config file.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Mapping
from configparser import Error as ParsingError
from configparser import RawConfigParser
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

from holdfast.kernel.errors import Denied, Invalid, NotFound, Unsupported
from holdfast.kernel.values import dataclass

Provider = Callable[[], Any]
"""Gives keys as obstore wants them: see ``S3Credential`` there."""

# How long keys from a file or from botocore are used before the file is read again: tools that log in with a second
# factor write new ones there every hour.
_REREAD = timedelta(minutes=5)
_EARLY = timedelta(minutes=1)
_NEEDS_BOTOCORE = ("role_arn", "sso_session", "sso_start_url", "login_session")


@dataclass(frozen=True, slots=True)
class Profile:
    """What the chosen profile says; ``credentials`` is None where the environment or the machine itself has them."""

    region: str | None = None
    endpoint: str | None = None
    ca_bundle: str | None = None
    virtual: bool | None = None
    credentials: Provider | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Profile:
        """The profile that AWS_PROFILE names, or ``default``.

        Raises ``NotFound`` where AWS_PROFILE names none, ``Invalid`` for a file that cannot be parsed, ``Unsupported``
        where the profile needs botocore (roles, single sign-on), ``Denied`` where its keys cannot be had.
        """
        name = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
        settings, keys = _sections(environ, name)
        if not settings and not keys and name != "default":
            raise NotFound(
                f"there is no AWS profile {name}", hint="Look at AWS_PROFILE and at the names in ~/.aws/config."
            )
        style = _nested(settings.get("s3", "")).get("addressing_style")
        return cls(
            region=settings.get("region") or None,
            endpoint=_nested(settings.get("s3", "")).get("endpoint_url") or settings.get("endpoint_url") or None,
            ca_bundle=settings.get("ca_bundle") or None,
            virtual={"virtual": True, "path": False}.get(style or ""),
            credentials=_provider(environ, name, settings, keys),
        )


def _sections(environ: Mapping[str, str], name: str) -> tuple[dict[str, str], dict[str, str]]:
    """The profile's settings, and its keys."""
    home = os.path.expanduser("~/.aws/")
    config = _parsed(environ.get("AWS_CONFIG_FILE") or home + "config")
    keys = _parsed(environ.get("AWS_SHARED_CREDENTIALS_FILE") or home + "credentials")
    own = f"profile {name}"
    settings = config[own] if config.has_section(own) else config[name] if config.has_section(name) else {}
    return dict(settings), dict(keys[name]) if keys.has_section(name) else {}


def _parsed(path: str) -> RawConfigParser:
    parser = RawConfigParser(default_section="", strict=False)
    try:
        parser.read(os.path.expanduser(path), encoding="utf-8")
    except (ParsingError, UnicodeDecodeError):
        raise Invalid(f"cannot understand {path}", hint="Look for a line without = or a broken [section].") from None
    except OSError as error:
        raise Denied(f"cannot read {path}: {error.strerror}", hint="Check its owner and permissions.") from None
    return parser


def _nested(text: str) -> dict[str, str]:
    """The indented lines beneath a setting such as ``s3 =``."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _provider(environ: Mapping[str, str], name: str, settings: dict[str, str], keys: dict[str, str]) -> Provider | None:
    if environ.get("AWS_ACCESS_KEY_ID") or environ.get("AWS_SKIP_SIGNATURE"):
        return None
    chosen = bool(environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE"))
    if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and not chosen:
        return None
    if any(setting in settings or setting in keys for setting in _NEEDS_BOTOCORE):
        return _by_botocore(name)
    if keys.get("aws_access_key_id") or settings.get("aws_access_key_id"):
        return lambda: _from_files(environ, name)
    if command := keys.get("credential_process") or settings.get("credential_process"):
        return _kept(lambda: _from_process(command))
    return None


def _from_files(environ: Mapping[str, str], name: str) -> dict[str, Any]:
    settings, keys = _sections(environ, name)
    found = keys if keys.get("aws_access_key_id") else settings
    try:
        return {
            "access_key_id": found["aws_access_key_id"],
            "secret_access_key": found["aws_secret_access_key"],
            "token": found.get("aws_session_token") or None,
            "expires_at": datetime.now(UTC) + _REREAD,
        }
    except KeyError as error:
        raise Denied(f"the AWS profile {name} has no {error.args[0]}", hint="Run 'aws configure' again.") from None


def _from_process(command: str) -> dict[str, Any]:
    """Keys as a program prints them (same guide: "Process credential provider")."""
    try:
        done = subprocess.run(
            shlex.split(command), stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=120
        )
        said = json.loads(done.stdout)
        expires = said.get("Expiration")
        return {
            "access_key_id": said["AccessKeyId"],
            "secret_access_key": said["SecretAccessKey"],
            "token": said.get("SessionToken"),
            "expires_at": datetime.fromisoformat(expires) if expires else None,
        }
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        raise Denied(
            f"the credential_process of the AWS profile gave no keys ({type(error).__name__})",
            hint="Run the command in ~/.aws/config by hand and look at what it says.",
        ) from None


def _by_botocore(name: str) -> Provider:
    try:
        session = import_module("botocore.session").Session(profile=name)
    except ImportError:
        raise Unsupported(
            f"the AWS profile {name} uses a role or single sign-on, which needs botocore",
            hint="Install it (pip install botocore), or put keys into the environment: "
            f"eval $(aws configure export-credentials --profile {name} --format env)",
        ) from None

    def ask() -> dict[str, Any]:
        try:
            found = session.get_credentials().get_frozen_credentials()
        except Exception as error:
            raise Denied(
                f"the AWS profile {name} gives no keys: {type(error).__name__}",
                hint=f"Log in again (aws sso login --profile {name}), or look at its role.",
            ) from None
        expires = datetime.now(UTC) + _REREAD
        return {
            "access_key_id": found.access_key, "secret_access_key": found.secret_key, "token": found.token,
            "expires_at": expires,
        }  # fmt: skip

    return _kept(ask)


def _kept(ask: Provider) -> Provider:
    """``ask``, once for all clients until its answer expires; and once now, so that a person sees its own error."""
    lock = threading.Lock()
    answer = ask()

    def give() -> Any:
        nonlocal answer
        with lock:
            expires = answer["expires_at"]
            if expires is not None and expires < datetime.now(UTC) + _EARLY:
                answer = ask()
            return answer

    return give
