"""``holdfast config`` and vaults by name, as people use them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest


@pytest.fixture
def config(cli) -> Path:
    """Where the user's configuration is."""
    path = cli.home / ".config/holdfast/holdfast.yaml"
    path.parent.mkdir(parents=True)
    return path


def test_from_an_empty_home_to_a_backup(cli) -> None:
    (cli.home / "notes.txt").write_text("note")
    made = cli("config", "init")
    path = cli.home / ".config/holdfast/holdfast.yaml"
    assert (made.code, made.err) == (0, "") and f"Written: {path}" in made.out and "holdfast init home" in made.out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not list(path.parent.glob(".*"))
    checked = cli("config", "check")
    assert (checked.code, checked.out, checked.err) == (0, f"{path}: no mistakes; 1 vault, 1 plan\n", "")
    missing = cli("backup", "home")
    assert missing.code == 10 and "the vault 'home' is not there" in missing.err and "holdfast init home" in missing.err
    assert not cli.default_vault.exists()
    assert cli("init", "home").code == 0
    assert stat.S_IMODE(cli.default_key.stat().st_mode) == 0o600
    saved = cli("backup", "home")
    assert saved.code == 0 and "saved: " in saved.out, saved.err
    assert "notes.txt" in cli("ls", "-R", "latest").out


def test_init_never_overwrites(cli, config: Path) -> None:
    config.write_text("# mine\n")
    done = cli("config", "init")
    assert done.code == 2 and "already" in done.err and config.read_text() == "# mine\n"
    planned = cli("config", "init", "--dry-run")
    assert planned.code == 0 and planned.out.startswith("# What Holdfast protects")
    assert cli("config", "init", "--config", "elsewhere/x.yaml").code == 0
    assert cli("config", "check", "--config", cli.home / "elsewhere/x.yaml").code == 0


def test_mistakes_are_told_with_their_places(cli, config: Path) -> None:
    config.write_text("vaults:\n  home: {location: /v, pasword_file: x}\nplans:\n  docs: {paths: [/a], to: [hom]}\n")
    done = cli("config", "check")
    assert done.code == 2
    assert f"{config}:2:24: vaults.home.pasword_file: there is no such key here" in done.err
    assert "Did you mean 'password_file'?" in done.err
    assert f"{config}:4:28: plans.docs.to[0]: there is no vault named 'hom'" in done.err
    told = cli("config", "check", "--json").events[-1]
    assert (told["event"], told["code"], told["exit_code"]) == ("error", "invalid", 2)
    assert [mistake["line"] for mistake in told["context"]["mistakes"]] == [2, 4]
    # What needs the configuration tells the same; what does not, works.
    assert cli("snapshots").code == 2
    assert cli("--help").code == 0 and cli("config", "schema").code == 0
    assert cli("snapshots", "--vault", "./v", HOLDFAST_PASSWORD="x").code == 10


def test_show_and_schema(cli, config: Path) -> None:
    config.write_text(
        'vaults: {v: {location: "rest:https://u:geheim@host/", password_command: "echo geheim"}}\n'
        "plans: {p: {paths: [~/x], schedule: '@daily', hooks: {after: [curl geheim]}}}\n"
        'notify: {channels: {phone: "ntfys://geheim"}}\n'
    )
    shown = cli("config", "show")
    assert shown.code == 0 and "geheim" not in shown.out and "rest:https://***@host/" in shown.out
    structured = cli("config", "show", "--json")
    assert "geheim" not in structured.out
    assert structured.summary["configuration"]["plans"]["p"]["default_excludes"] is True
    checked = cli("config", "check")
    assert checked.code == 0 and "no mistakes; 1 vault, 1 plan" in checked.out and checked.err == ""
    schema = json.loads(cli("config", "schema").out)
    assert schema["properties"]["vaults"] and cli("config", "schema", "--json").summary["schema"] == schema


def test_no_configuration(cli) -> None:
    for words in (["config", "check"], ["config", "show"], ["backup", "--all"], ["backup", "--plan", "x"]):
        done = cli(*words)
        assert done.code == 10 and "holdfast config init" in done.err


def test_vaults_by_name(cli, config: Path, documents: Path, tmp_path: Path) -> None:
    key = tmp_path / "keys/one.key"
    config.write_text(
        f"vaults:\n  one: {{location: {tmp_path}/one, password_file: {key}, default: true}}\n"
        f"  two: {{location: {tmp_path}/two, password_env: SECOND}}\n"
        f"  plain: {{location: {tmp_path}/plain, kind: mirror}}\n"
    )
    made = cli("init", "one", "--json")
    assert made.code == 0 and made.summary["key_file"] == str(key) and stat.S_IMODE(key.stat().st_mode) == 0o600
    assert cli("init", "two", "--cut-like", "one", SECOND="two's").code == 0
    assert cli("backup", documents).code == 0, "the default vault is the configured one"
    assert not cli.default_vault.exists()
    assert cli("backup", documents, "--to", "two", SECOND="two's").code == 0
    assert cli("snapshots", "--vault", "one", "--json").summary["snapshots"] == 1
    assert cli("snapshots", "--json", HOLDFAST_VAULT="two", SECOND="two's").summary["snapshots"] == 1
    # The password that belongs to the vault wins over the one for any vault; one that was given now wins over both.
    assert cli("snapshots", "--vault", "one", HOLDFAST_PASSWORD="wrong").code == 0
    assert cli("snapshots", "--vault", "one", "--password-command", "echo wrong").code == 12
    unset = cli("snapshots", "--vault", "two")
    assert unset.code == 2 and "SECOND" in unset.err
    copied = cli("copy", "--from", "two", "--to", "one", "--json", SECOND="two's")
    assert copied.code == 0 and len(copied.summary["copied"]) == 1
    near = cli("snapshots", "--vault", "ome")
    assert near.code == 10 and "names no vault 'ome'" in near.err and "Did you mean 'one'?" in near.err
    other = cli("snapshots", "--vault", "plain")
    assert other.code == 10 and "the vault 'plain' is not there" in other.err
    # ./name is always a path.
    assert cli("snapshots", "--vault", "./one", cwd=tmp_path, HOLDFAST_PASSWORD_FILE=str(key)).code == 0


def test_several_vaults_and_none_is_the_default(cli, config: Path, documents: Path) -> None:
    config.write_text("vaults: {a: {location: /a}, b: {location: /b}}\n")
    done = cli("backup", documents)
    assert done.code == 2 and "which vault?" in done.err and "a, b" in done.err and "default: true" in done.err


def test_a_configuration_of_others_is_not_used(cli, documents: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    trap = work / "holdfast.yaml"
    trap.write_text(f"vaults: {{v: {{location: /v, password_command: touch {tmp_path}/ran}}}}\n")
    trap.chmod(0o666)
    done = cli("snapshots", cwd=work)
    assert done.code == 12 and "others may write to it" in done.err and "chmod go-w" in done.err
    assert not (tmp_path / "ran").exists()


def test_what_needs_no_configuration_does_not_load_its_libraries(cli, tmp_path: Path, documents: Path) -> None:
    vault = tmp_path / "vault"
    for words in (
        ["--help"],
        ["config", "--help"],
        ["init", vault],
        ["backup", documents, "--to", vault],
        ["snapshots", "--vault", vault],
    ):
        done = cli(*words, HOLDFAST_PASSWORD="x", PYTHONPROFILEIMPORTTIME="1")
        assert done.code == 0, done.err
        assert "pydantic" not in done.err and "yaml" not in done.err, words
