"""The installed command with a vault in a bucket: a client that may only add, and what goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import Cli
from tests.restickit import Restic
from tests.servers.listening import free_port
from tests.servers.s3 import BUCKET, S3Server

PASSWORD = {"HOLDFAST_PASSWORD": "correct horse battery staple"}
PAGE = Path(__file__).parents[2] / "docs" / "append-only.md"


def objects_of(server: S3Server, prefix: str) -> dict[str, str]:
    """Name and ETag of everything beneath ``prefix`` that is no lock."""
    listed = server.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return {found["Key"]: found["ETag"] for found in listed["Contents"] if "/locks/" not in found["Key"]}


@pytest.fixture
def vault(moto: Any, tmp_path: Path) -> str:
    """A place in the bucket that the documented policy is about."""
    return str(moto.location(f"{tmp_path.name}/home"))


@pytest.fixture
def adding(moto: Any, tmp_path: Path) -> dict[str, str]:
    """What a client sets that has the documented policy, and the vault's password."""
    text = re.search(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert text
    policy = json.loads(text[1].replace("BUCKET/home", f"{BUCKET}/{tmp_path.name}/home").replace("BUCKET", BUCKET))
    login: dict[str, str] = moto.user(f"adding-{tmp_path.name}", *policy["Statement"])
    return login | PASSWORD


def test_a_client_that_may_only_add_backs_up_and_restores_but_takes_nothing_away(
    cli: Cli, documents: Path, tmp_path: Path, moto: Any, vault: str, adding: dict[str, str],
    need: Callable[[str], str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert cli("init", vault, **adding).code == 0
    for text in ("first", "second"):
        (documents / "draft.txt").write_text(text)
        done = cli("backup", documents, "--to", vault, **adding)
        assert (done.code, done.err) == (0, "")
    back = tmp_path / "back"
    assert cli("restore", "latest", "--vault", vault, "--target", back, **adding).code == 0
    assert (back / str(documents).lstrip("/") / "draft.txt").read_text() == "second"
    assert cli("check", "--vault", vault, **adding).code == 0

    before = objects_of(moto, f"{tmp_path.name}/home")
    for words in (("forget", "latest"), ("forget", "--keep-last", "1"), ("tag", "latest", "--add", "mine")):
        done = cli(*words, "--vault", vault, **adding)
        assert done.code == 12, (words, done)
        assert "403" in done.err
        assert "may only add" in done.err
        assert adding["AWS_SECRET_ACCESS_KEY"] not in done.err
    now = objects_of(moto, f"{tmp_path.name}/home")
    assert before.items() <= now.items()
    keys = moto.client().list_objects_v2(Bucket=BUCKET, Prefix=f"{tmp_path.name}/home/locks/")
    assert keys["KeyCount"] == 0, "a lock was left behind"

    for name, value in (moto.environ | {"NO_PROXY": "127.0.0.1"}).items():
        monkeypatch.setenv(name, value)
    Restic(need("restic"), vault).run("check", "--read-data")  # type: ignore[arg-type]


def test_what_goes_wrong_is_said_with_what_to_do(cli: Cli, documents: Path, moto: Any, vault: str) -> None:
    wrong = cli("backup", documents, "--to", vault, **moto.wrong_environ, **PASSWORD)
    assert (wrong.code, wrong.out) == (12, "")
    assert "SignatureDoesNotMatch" in wrong.err
    assert "AWS_SECRET_ACCESS_KEY" in wrong.err
    assert moto.secret not in wrong.err
    missing = cli("init", vault.replace(BUCKET, "nobodys"), **moto.environ, **PASSWORD)
    assert missing.code == 10
    assert "there is no bucket nobodys" in missing.err
    assert "aws s3 mb s3://nobodys" in missing.err
    named = cli("init", vault.replace("://", "://KEY:hunter2@"), **moto.environ, **PASSWORD)
    assert named.code == 2
    assert "hunter2" not in named.err
    gone = f"s3:http://127.0.0.1:{free_port()}/{BUCKET}/home"
    away = cli("snapshots", "--vault", gone, "--retry-for", "0", **moto.environ, **PASSWORD)
    assert away.code == 75
    assert "Nothing answers" in away.err
