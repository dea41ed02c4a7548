"""Help, version, completion, bad usage: what a person meets before any vault is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.cli.root import COMMANDS, program


def test_help_names_every_command(cli) -> None:
    done = cli("--help")
    assert done.code == 0 and done.err == ""
    for command, (_, short) in COMMANDS.items():
        assert command in done.out and short in done.out
    assert cli("-h").out == done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_begins_as_the_list_says(cli, command: str) -> None:
    done = cli(command, "--help")
    assert done.code == 0
    assert " ".join(done.out.split()).startswith(f"Usage: holdfast {command}")
    short = COMMANDS[command][1]
    assert short in " ".join(done.out.split())
    assert "--json" in done.out and "--quiet" in done.out


def test_shared_options_may_stand_before_the_command() -> None:
    ahead = {option for parameter in program.params for option in parameter.opts}
    assert {
        "--vault",
        "--password-file",
        "--password-command",
        "--json",
        "-q",
        "-v",
        "--no-lock",
        "--no-color",
    } <= ahead


def test_help_imports_nothing_heavy(cli) -> None:
    code = (
        "import sys\nfrom holdfast.cli.root import run\ntry:\n    run(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'cryptography', 'zstandard', 'orjson', 'subprocess', 'asyncio', 'rich', 'json'} & set(sys.modules)\n"
        "print(heavy, file=sys.stderr)"
    )
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**cli.environ, "PYTHONPATH": source},
    )
    assert done.stderr == "set()\n"


def test_without_a_command_the_help_is_shown_and_the_exit_code_says_bad_usage(cli) -> None:
    done = cli()
    assert done.code == 2
    assert "Commands:" in done.err


def test_version(cli) -> None:
    from holdfast import __version__

    assert cli("--version").out == f"holdfast {__version__}\n"
    assert cli("version").out.startswith(f"holdfast {__version__} (Python ")
    assert cli("version", "--json").summary["version"] == __version__


def test_the_module_is_the_same_program(cli) -> None:
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "--help"],
        capture_output=True,
        text=True,
        env={**cli.environ, "PYTHONPATH": source},
        check=True,
    )
    assert done.stdout == cli("--help").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(cli, shell: str) -> None:
    done = cli("completion", shell)
    assert done.code == 0
    assert "_HOLDFAST_COMPLETE" in done.out and "holdfast" in done.out


def test_completion_knows_commands(cli) -> None:
    done = cli(_HOLDFAST_COMPLETE="bash_complete", COMP_WORDS="holdfast sna", COMP_CWORD="1")
    assert done.out == "plain,snapshots\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bakup"], "Did you mean 'backup'?"),
        (["frobnicate"], "There is no command 'frobnicate'."),
        (["--frobnicate"], "No such option"),
        (["backup", "--frobnicate", "/"], "No such option"),
        (["backup"], "no path is given"),
        (["backup", "/", "--exclude-larger-than", "huge"], "'huge' is not a size"),
        (["backup", "/", "--workers", "-1"], "-1"),
        (["restore"], "Missing argument"),
        (["restore", "newest", "--target", "x"], "'newest' is not a snapshot"),
        (["restore", "latest"], "nowhere to restore to"),
        (["restore", "latest", "--target", "x", "--in-place"], "exclude each other"),
        (["restore", "latest", "--target", "x", "--overwrite", "sometimes"], "sometimes"),
        (["check", "--read-data=0%"], "'0%' is not a part"),
        (["snapshots", "--group-by", "colour"], "'colour' is none of"),
        (["key", "frobnicate"], "No such command"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_bad_usage_is_exit_code_2_with_a_hint(cli, words: list[str], message: str) -> None:
    done = cli(*words)
    assert done.code == 2, done
    assert message in done.err
    assert done.out == ""
    assert "hint: " in done.err
    assert not os.path.lexists(cli.default_vault)


def test_errors_are_json_too(cli) -> None:
    done = cli("snapshots", "--json")
    assert done.code == 10
    (event,) = done.events
    assert event["event"] == "error" and event["code"] == "not_found" and event["exit_code"] == 10
    assert "backup" in event["hint"]
    assert "there is no vault yet" in done.err


def test_json_before_the_command_counts_for_bad_usage_too(cli) -> None:
    (event,) = cli("--json", "backup", "--frobnicate").events
    assert event["code"] == "usage" and event["exit_code"] == 2


def test_an_unexpected_error_is_told_without_a_traceback_unless_asked(cli) -> None:
    # A clock value that no calendar holds is a handy way to reach code that expects none.
    code = (
        "import holdfast.cli.commands.version as module\n"
        "import holdfast.cli.root as root\n"
        "def broken(*_): raise ZeroDivisionError('an engine mistake')\n"
        "module.command.callback = broken\n"
        "root.run(['version'])\n"
    )
    source = str(Path(__file__).parents[2] / "src")
    environ = {**cli.environ, "PYTHONPATH": source}
    quiet = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False)
    assert quiet.returncode == 1
    assert "Traceback" not in quiet.stderr
    assert "unexpected error: ZeroDivisionError: an engine mistake" in quiet.stderr
    assert "HOLDFAST_DEBUG=1" in quiet.stderr
    loud = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**environ, "HOLDFAST_DEBUG": "1"},
        check=False,
    )
    assert "Traceback" in loud.stderr


def test_a_reader_that_goes_away_is_no_noise(cli) -> None:
    process = subprocess.Popen(
        [*cli.words, "completion", "bash"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**cli.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() in (0, 1)


def test_a_full_standard_output_is_an_error(cli) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*cli.words, "completion", "bash"], stdout=full, stderr=subprocess.PIPE, env=cli.environ, check=False
        )
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr and b"Traceback" not in done.stderr
