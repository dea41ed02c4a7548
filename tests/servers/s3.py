"""S3 for tests: moto, which enforces keys and policies, and MinIO, which is a real server where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.servers.listening import serving

BUCKET = "vaults"
EVERYTHING = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}


@dataclass(frozen=True)
class S3Server:
    """A server with the bucket :data:`BUCKET`, and keys that may do everything with it."""

    url: str
    key: str
    secret: str
    home: Path
    region: str = "us-east-1"

    @property
    def environ(self) -> dict[str, str]:
        """What a user sets to use these keys, and what keeps the machine's own settings away."""
        return self.environ_for(self.key, self.secret)

    @property
    def wrong_environ(self) -> dict[str, str]:
        """The same with a wrong secret."""
        return self.environ_for(self.key, "wrong-" + self.secret)

    @property
    def secrets(self) -> list[str]:
        """What no message may repeat."""
        return [self.secret]

    def environ_for(self, key: str, secret: str) -> dict[str, str]:
        """The same with other keys."""
        return {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_CONFIG_FILE": str(self.home / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.home / "credentials"),
            "NO_PROXY": "127.0.0.1",
        }

    def location(self, name: str) -> str:
        """Where a vault of that name is, as a user of restic or Holdfast writes it."""
        return f"s3:{self.url}/{BUCKET}/{name}"

    def client(self, service: str = "s3") -> Any:
        """A client of Amazon's own library."""
        import boto3

        return boto3.client(
            service, endpoint_url=self.url, region_name=self.region,
            aws_access_key_id=self.key, aws_secret_access_key=self.secret,
        )  # fmt: skip


@dataclass(frozen=True)
class Moto(S3Server):
    """moto, which also knows users and their policies."""

    def user(self, name: str, *statements: Mapping[str, Any]) -> dict[str, str]:
        """A new user who may do what the statements of a policy say; what that user sets."""
        with self.unguarded():
            iam = self.client("iam")
            iam.create_user(UserName=name)
            policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
            iam.put_user_policy(UserName=name, PolicyName="policy", PolicyDocument=policy)
            made = iam.create_access_key(UserName=name)["AccessKey"]
        return self.environ_for(made["AccessKeyId"], made["SecretAccessKey"])

    @contextmanager
    def unguarded(self) -> Iterator[None]:
        """Let every key do everything, as an administrator."""
        self._guard_after(1_000_000)
        try:
            yield
        finally:
            self._guard_after(0)

    def _guard_after(self, count: int) -> None:
        request = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth", str(count).encode(), {"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(request).read()


@contextmanager
def moto_serving(folder: Path) -> Iterator[Moto]:
    """moto until the end of the block, with one user who may do everything."""
    environ = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "0"}

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    with serving(command, folder / "log", environ) as port:
        setting_up = Moto(f"http://127.0.0.1:{port}", "nobody", "nothing", folder)
        login = setting_up.user("owner", EVERYTHING)
        server = Moto(setting_up.url, login["AWS_ACCESS_KEY_ID"], login["AWS_SECRET_ACCESS_KEY"], folder)
        server.client().create_bucket(Bucket=BUCKET)
        yield server


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """moto with authorisation."""
    if find_spec("moto") is None or find_spec("flask") is None:
        if os.environ.get("HOLDFAST_CI") == "1":
            pytest.fail("moto is not installed, and CI must have it", pytrace=False)
        pytest.skip("moto is not installed")
    with moto_serving(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """MinIO, in a region that clients must find out.

    Not even CI must have it: no distribution packages it, and building it takes minutes. moto is the S3 that it must.
    """
    program, folder = shutil.which("minio"), tmp_path_factory.mktemp("minio")
    if program is None:
        pytest.skip("minio is not installed")
    key, secret = "miniotester", "minio-secret"
    environ = {
        **os.environ,
        "HOME": str(folder),
        "MINIO_ROOT_USER": key,
        "MINIO_ROOT_PASSWORD": secret,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "MINIO_SITE_REGION": "eu-test-1",
    }

    def command(port: int) -> list[str]:
        return [program, "server", "--quiet", "--address", f"127.0.0.1:{port}", str(folder / "data")]

    with serving(command, folder / "log", environ) as port:
        server = S3Server(f"http://127.0.0.1:{port}", key, secret, folder, region="eu-test-1")
        server.client().create_bucket(Bucket=BUCKET)
        yield server
