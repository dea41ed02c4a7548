"""Vaults on real servers through the installed command: REST, append-only REST, SFTP; and ``storage test``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.servers.listening import free_port
from tests.servers.restserver import PASSWORD, USER, RestServer
from tests.servers.scripted import Reply, scripted
from tests.servers.sshd import SshServer

SECRET = "correct horse"


@pytest.fixture(params=["rest", "sftp"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment in which a vault of this test's own on a server is the vault."""
    if request.param == "rest":
        server: RestServer | SshServer = request.getfixturevalue("rest_server")
    else:
        server = request.getfixturevalue("sshd")
    place = server.location(tmp_path.name)
    return {**server.environ, "HOLDFAST_VAULT": place, "HOLDFAST_PASSWORD": SECRET}


def brought_back(cli, target: Path, documents: Path, **environ: str) -> bool:
    done = cli("restore", "latest", "--target", target, **environ)
    assert done.code == 0, done.err
    return (target / documents.relative_to("/") / "letters/ada.txt").read_text() == "Dear Ada\n"


def test_a_whole_life_on_a_server(cli, documents: Path, tmp_path: Path, remote: dict[str, str]) -> None:
    place = remote["HOLDFAST_VAULT"]
    assert cli("init", place, **remote).code == 0
    for _ in range(2):
        done = cli("backup", documents, "--json", **remote)
        assert done.code == 0, done.err
    assert len(cli("snapshots", "--json", **remote).events) == 3
    assert brought_back(cli, tmp_path / "back", documents, **remote)
    done = cli("check", "--read-data", **remote)
    assert done.code == 0, done.out + done.err
    assert cli("init", place, **remote).code == 2
    assert PASSWORD not in done.out + done.err


def test_what_is_not_there_or_not_reached(cli, sshd: SshServer, rest_server: RestServer) -> None:
    known = {**sshd.environ, **rest_server.environ, "HOLDFAST_PASSWORD": SECRET}
    for place in (sshd.location("nowhere"), rest_server.location("nowhere")):
        done = cli("snapshots", "--vault", place, **known)
        assert done.code == 10 and "hint:" in done.err
    for place in (f"rest:http://127.0.0.1:{free_port()}/", f"sftp://127.0.0.1:{free_port()}//srv"):
        done = cli("snapshots", "--vault", place, "--retry-for", "1s", **known)
        assert done.code == 75, done.err
        assert "cannot reach" in done.err and "hint:" in done.err


def test_who_is_not_let_in(cli, sshd: SshServer, rest_server: RestServer) -> None:
    wrong = {"HOLDFAST_REST_USERNAME": USER, "HOLDFAST_REST_PASSWORD": "s3cret-guess", "HOLDFAST_PASSWORD": SECRET}
    done = cli("snapshots", "--vault", rest_server.location("x"), "--json", **wrong)
    assert done.code == 12
    assert done.events[-1]["code"] == "denied" and "HOLDFAST_REST_USERNAME" in done.events[-1]["hint"]
    assert "s3cret-guess" not in done.out + done.err
    done = cli("snapshots", "--vault", f"sftp://127.0.0.1:{sshd.port}//srv", HOLDFAST_PASSWORD=SECRET)
    assert done.code == 12
    assert "not known" in done.err and "known_hosts" in done.err


@pytest.mark.parametrize("place", ["rest:https://me:s3cret@host/x", "sftp:me:s3cret@host:/x"])
def test_passwords_in_a_location_are_refused_and_not_shown(cli, place: str) -> None:
    for words in (["snapshots", "--vault", place], ["storage", "test", place], ["init", place]):
        done = cli(*words, HOLDFAST_PASSWORD=SECRET)
        assert done.code == 2
        assert "s3cret" not in done.out + done.err
        assert "HOLDFAST_" in done.err


def test_a_client_that_may_only_append(
    cli, documents: Path, tmp_path: Path, rest_server: RestServer, append_only_server: RestServer
) -> None:
    client = {**append_only_server.environ, "HOLDFAST_PASSWORD": SECRET}
    place = append_only_server.location(tmp_path.name)
    assert cli("init", place, **client).code == 0
    client["HOLDFAST_VAULT"] = place
    (documents / "old.txt").write_text("only in the first snapshot\n")
    assert cli("backup", documents, **client).code == 0
    (documents / "old.txt").unlink()
    assert cli("backup", documents, **client).code == 0
    before = {path for path in (rest_server.folder / tmp_path.name).rglob("*") if path.is_file()}
    assert not [path for path in before if path.parent.name == "locks"]
    assert brought_back(cli, tmp_path / "back", documents, **client)
    assert cli("check", "--read-data", **client).code == 0

    first = cli("snapshots", "--json", **client).events[0]["id"]
    done = cli("forget", first, **client)
    assert done.code == 12, done.out + done.err
    assert "append-only" in done.err
    changed = cli("key", "passwd", "--new-key-file", tmp_path / "new.key", **client)
    assert changed.code == 12 and "the old one" in changed.err and "still does" in changed.err
    again = cli("snapshots", "--password-file", tmp_path / "new.key", **client)
    assert again.code == 0, "the new key opens the vault, as the message says"
    # Its owner, through the server that allows everything, may forget; what that frees the client cannot remove.
    owner = {**client, "HOLDFAST_VAULT": rest_server.location(tmp_path.name)}
    assert before <= {path for path in (rest_server.folder / tmp_path.name).rglob("*") if path.is_file()}
    assert cli("forget", first, **owner).code == 0
    done = cli("prune", "--max-unused", "0", **client)
    assert done.code == 12, done.out + done.err
    assert "append-only" in done.err
    assert cli("check", "--read-data", **owner).code == 0
    assert brought_back(cli, tmp_path / "again", documents, **client)


def steps(done) -> dict[str, bool | None]:
    return {event["name"]: event["ok"] for event in done.events if event["event"] == "step"}


def test_storage_test_of_a_place_without_and_with_a_vault(cli, tmp_path: Path, remote: dict[str, str]) -> None:
    done = cli("storage", "test", "--json", "--size", "1MiB", **remote)
    assert done.code == 0, done.err
    assert done.summary["has_vault"] is False and done.summary["left"] == []
    assert done.summary["upload_bytes_per_second"] > 0 and done.summary["download_bytes_per_second"] > 0
    assert 0 < done.summary["latency_seconds"] < 5
    found = steps(done)
    assert {name for name, ok in found.items() if ok} >= {"reach", "write", "read", "ranges", "keep", "list", "delete"}
    assert cli("init", remote["HOLDFAST_VAULT"], **remote).code == 0
    done = cli("storage", "test", "--size", "100K", **remote)
    assert done.code == 0, done.err
    assert "holds a vault" in done.out and "This place can hold a vault." in done.out
    assert cli("check", "--read-data", **remote).code == 0


def test_storage_test_leaves_nothing_behind(cli, tmp_path: Path, documents: Path, snapshot_of) -> None:
    vault = {"HOLDFAST_PASSWORD": SECRET, "HOLDFAST_VAULT": str(tmp_path / "vault")}
    assert cli("init", tmp_path / "vault", **vault).code == 0
    assert cli("backup", documents, **vault).code == 0
    before = snapshot_of(tmp_path / "vault")
    for words in ([], ["--dry-run"]):
        done = cli("storage", "test", tmp_path / "vault", *words)
        assert done.code == 0, done.err
        assert snapshot_of(tmp_path / "vault") == before
    assert "NO" not in done.out
    assert "matches its name" in done.out
    assert "Nothing was written" in done.err


def test_storage_test_leaves_no_folders_behind(cli, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        assert cli("storage", "test", tmp_path / name, "--size", "1M").code == 0
        assert (tmp_path / name).exists() == (name == "there")
        done = cli("init", tmp_path / name, "--kind", "mirror")  # which wants an empty folder
        assert done.code == 0, done


def test_storage_test_dry_run_makes_nothing(cli, tmp_path: Path) -> None:
    done = cli("storage", "test", tmp_path / "new", "--dry-run", "--json")
    assert done.code == 0 and steps(done) == {"reach": True}
    assert not (tmp_path / "new").exists()


def test_storage_test_of_an_append_only_server(cli, tmp_path: Path, append_only_server: RestServer) -> None:
    place, client = append_only_server.location(tmp_path.name), append_only_server.environ
    files = append_only_server.folder / tmp_path.name
    done = cli("storage", "test", place, "--size", "64K", **client)
    assert done.code == 0, done.err
    assert "removing files is denied" in done.out and "Backups and restores work" in done.out
    assert "Make the vault once" in done.out
    assert not [path for path in files.rglob("*") if path.is_file()]
    assert cli("init", place, HOLDFAST_PASSWORD=SECRET, **client).code == 0
    before = sorted(files.rglob("*"))
    done = cli("storage", "test", place, "--json", **client)
    assert done.code == 0 and steps(done)["write"] is None
    assert sorted(files.rglob("*")) == before


def test_storage_test_of_places_that_cannot_be_used(cli, rest_server: RestServer, tmp_path: Path) -> None:
    done = cli("storage", "test", rest_server.location("x"), HOLDFAST_REST_USERNAME="me", HOLDFAST_REST_PASSWORD="no")
    assert done.code == 12 and "hint:" in done.err
    done = cli("storage", "test", f"rest:http://127.0.0.1:{free_port()}/", "--retry-for", "0s")
    assert done.code == 75 and "cannot reach" in done.err
    (tmp_path / "file").touch()
    assert cli("storage", "test", tmp_path / "file").code == 2
    for size in ("10", "2GiB", "big"):
        assert cli("storage", "test", tmp_path, "--size", size).code == 2


def test_storage_test_finds_a_place_that_forgets(cli) -> None:
    kept: dict[str, bytes] = {}

    def answer(request):
        if request.method == "POST":
            kept[request.path] = request.body
            return Reply()
        if request.method == "DELETE":
            return Reply()  # and does nothing
        if request.path.endswith("/"):
            return Reply(200, b"[]")
        content = kept.get(request.path)
        return Reply(404) if content is None else Reply(200, bytes(len(content)))

    with scripted(answer) as server:
        done = cli("storage", "test", f"rest:{server.url}", "--size", "2K", "--json")
        assert done.code == 1
        found = steps(done)
        assert [name for name, ok in found.items() if ok is False] == ["read", "ranges", "keep", "list", "delete"]
        assert done.summary["outcome"] == "failed"
        done = cli("storage", "test", f"rest:{server.url}", "--size", "2K")
        assert "OTHER BYTES CAME BACK" in done.out and "Do not keep a vault here" in done.out
        assert "does not keep what a vault needs" in done.out


def test_an_extra_that_is_missing_is_named(cli, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "there = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name in ('httpx', 'asyncssh') else there(name, *more)\n"
    )
    hidden = os.pathsep.join([str(tmp_path), cli.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    for place, extra in (("rest:http://127.0.0.1/", "holdfast[rest]"), ("sftp:host:/x", "holdfast[sftp]")):
        done = cli("storage", "test", place, "--json", PYTHONPATH=hidden)
        assert done.code == 1
        assert json.loads(done.out.splitlines()[-1])["code"] == "unsupported"
        assert extra in done.err
