"""What every test may ask for: an outside tool, which CI must have and other machines may lack."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest
from hypothesis import settings

# How long an example takes says something of the machine, and nothing of the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

pytest_plugins = [
    "tests.servers.restserver",
    "tests.servers.sshd",
    "tests.servers.s3",
    "tests.servers.azurite",
    "tests.servers.gcs",
    "tests.servers.postgres",
    "tests.servers.mariadb",
    "tests.servers.prometheus",
    "tests.servers.redis",
]


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    """``need("restic")`` gives the tool's path; without it the test skips, or fails where ``HOLDFAST_CI=1`` is set."""

    def find(tool: str) -> str:
        path = shutil.which(tool)
        if path is None:
            reason = f"{tool} is not installed"
            if os.environ.get("HOLDFAST_CI") == "1":
                pytest.fail(f"{reason}, and CI must have it", pytrace=False)
            pytest.skip(reason)
        return path

    return find
