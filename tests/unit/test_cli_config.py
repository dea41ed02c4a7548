"""Where things are kept, where passwords come from, and what a generated key is."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from holdfast.config import keyfile, secrets
from holdfast.config.paths import Paths
from holdfast.config.secrets import Ask, PasswordChoice
from holdfast.kernel.errors import Denied, Invalid, NotFound
from holdfast.kernel.secret import Secret


def find(
    environ: Mapping[str, str],
    choice: PasswordChoice | None = None,
    *,
    key_file: Path | None = None,
    ask: Ask | None = None,
    warnings: list[str] | None = None,
) -> Secret:
    return secrets.find(
        choice or PasswordChoice(),
        environ,
        key_file=key_file,
        ask=ask,
        what="the vault",
        new=False,
        warn=([] if warnings is None else warnings).append,
    )


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_folders_follow_the_desktop_standard() -> None:
    paths = Paths.of({"HOME": "/home/ada"}, "linux")
    assert paths.default_vault == Path("/home/ada/.local/share/holdfast/vault")
    assert paths.default_key == Path("/home/ada/.config/holdfast/vault.key")
    assert (paths.cache, paths.state) == (Path("/home/ada/.cache/holdfast"), Path("/home/ada/.local/state/holdfast"))
    moved = Paths.of({"HOME": "/home/ada", "XDG_DATA_HOME": "/big", "XDG_CACHE_HOME": "relative"}, "linux")
    assert moved.default_vault == Path("/big/holdfast/vault")
    assert moved.cache == Path("/home/ada/.cache/holdfast"), "the standard says that a relative path is ignored"


def test_folders_on_macos_and_our_own_variables() -> None:
    paths = Paths.of({"HOME": "/Users/ada"}, "darwin")
    assert paths.default_vault == Path("/Users/ada/Library/Application Support/holdfast/vault")
    assert paths.cache == Path("/Users/ada/Library/Caches/holdfast")
    assert Paths.of({"HOME": "/Users/ada", "HOLDFAST_DATA_DIR": "/own"}, "darwin").default_vault == Path("/own/vault")


def test_a_generated_key_is_recognised_and_a_mistyped_one_is_not() -> None:
    key = keyfile.generate(os.urandom)
    assert key.startswith(b"hfk1-") and len(key) == 61 and key.isascii()
    assert keyfile.is_generated(key)
    for position in (5, 30, 60):
        other = b"a" if key[position : position + 1] != b"a" else b"b"
        assert not keyfile.is_generated(key[:position] + other + key[position + 1 :])
    for text in (b"", b"hfk1-", key[:-1], key + b"a", key.upper(), b"hunter2", b"hfk1-" + b"\xff" * 56):
        assert not keyfile.is_generated(text)


def test_a_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "vault.key"
    secret = keyfile.write_new(path, os.urandom)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_bytes() == secret.reveal() + b"\n"
    with pytest.raises(Invalid, match="already"):
        keyfile.write_new(path, os.urandom)
    assert path.read_bytes() == secret.reveal() + b"\n"
    assert os.listdir(path.parent) == ["vault.key"]


def test_a_key_file_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Invalid):
        keyfile.write_new(tmp_path / "key", os.urandom)
    assert not (tmp_path / "elsewhere").exists()


def test_the_order_of_sources(tmp_path: Path) -> None:
    file = written(tmp_path / "file", b"from file\n")
    key = written(tmp_path / "key", b"from key\n")
    environ = {
        "HOLDFAST_PASSWORD": "from variable",
        "HOLDFAST_PASSWORD_FILE": str(file),
        "RESTIC_PASSWORD": "from restic",
    }
    assert find(environ, PasswordChoice(file=str(file)), key_file=key).reveal() == b"from file"
    assert find(environ, PasswordChoice(command="echo from command"), key_file=key).reveal() == b"from command"
    assert find(environ, key_file=key).reveal() == b"from variable"
    del environ["HOLDFAST_PASSWORD"]
    assert find(environ, key_file=key).reveal() == b"from file"
    del environ["HOLDFAST_PASSWORD_FILE"]
    assert find(environ, key_file=key).reveal() == b"from key"
    assert find(environ).reveal() == b"from restic"
    assert find({}, ask=lambda what, twice: f"typed for {what}").reveal() == b"typed for the vault"


def test_restics_variables_are_not_for_the_default_vault(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no password for the vault"):
        find({"RESTIC_PASSWORD": "x"}, key_file=tmp_path / "missing")


def test_a_generated_key_needs_no_stretching_and_a_password_does(tmp_path: Path) -> None:
    keyfile.write_new(tmp_path / "key", os.urandom)
    assert find({}, PasswordChoice(file=str(tmp_path / "key"))).random
    assert not find({"HOLDFAST_PASSWORD": "correct horse battery staple"}).random


def test_files_are_trimmed_as_restic_does(tmp_path: Path) -> None:
    file = written(tmp_path / "file", b"\xef\xbb\xbf  pass word \r\n\n")
    assert find({}, PasswordChoice(file=str(file))).reveal() == b"pass word"


def test_a_password_file_that_others_may_read_is_told(tmp_path: Path) -> None:
    warnings: list[str] = []
    find({}, PasswordChoice(file=str(written(tmp_path / "open", b"x", 0o644))), warnings=warnings)
    assert len(warnings) == 1 and "chmod 600" in warnings[0]
    find({}, PasswordChoice(file=str(written(tmp_path / "shut", b"x", 0o600))), warnings=warnings)
    assert len(warnings) == 1


def test_what_cannot_be_a_password(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no password file"):
        find({}, PasswordChoice(file=str(tmp_path / "missing")))
    with pytest.raises(Invalid, match="is a folder"):
        find({}, PasswordChoice(file=str(tmp_path)))
    with pytest.raises(Invalid, match="empty"):
        find({}, PasswordChoice(file=str(written(tmp_path / "empty", b" \n"))))
    with pytest.raises(Invalid, match="larger than 1 MiB"):
        find({}, PasswordChoice(file=str(written(tmp_path / "big", b"x" * (1 << 20) + b"y"))))
    with pytest.raises(Invalid, match="both"):
        find({}, PasswordChoice(file="a", command="b"))


def test_password_commands_run_without_a_shell(tmp_path: Path) -> None:
    assert find({}, PasswordChoice(command="printf ' a $HOME; b '")).reveal() == b"a $HOME; b"
    for command, words in (
        ("false", "ended with 1"),
        ("/no/such/program", "cannot run"),
        ("'unclosed", "cannot be read"),
        ("true", "empty"),
        ("sh -c 'kill -9 $$'", "signal 9"),
    ):
        with pytest.raises(Invalid, match=words):
            find({}, PasswordChoice(command=command))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_password_file(tmp_path: Path) -> None:
    with pytest.raises(Denied, match="cannot read"):
        find({}, PasswordChoice(file=str(written(tmp_path / "file", b"x", 0o000))))
