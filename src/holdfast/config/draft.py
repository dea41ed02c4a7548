"""The text of a new ``holdfast.yaml``, with comments, made from what a survey found."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from holdfast.config.survey import Survey, tops

_PLAIN = re.compile(r"[\w./~][\w./~ -]*[\w./~-]|[\w./~]")
_LIKE_SOMETHING_ELSE = re.compile(r"~|[-+.0-9]*|true|false|null", re.IGNORECASE)

_HEAD = """\
# What Holdfast protects, and where. Written by 'holdfast config init'.
# 'holdfast config check' looks for mistakes; 'holdfast config show' shows everything with its defaults.
# "~" is your home folder, "${NAME}" is taken from the environment, "$$" is a dollar sign.
"""

_SERVERS = {
    "PostgreSQL": 'postgres: {url: "postgresql:///"}',
    "MariaDB or MySQL": 'mariadb: {url: "mariadb:///"}',
    "Redis": 'redis: {url: "redis://localhost"}',
}

_VAULT = """
vaults:
  home:
    kind: archive
    location: %s
    password_file: %s   # keep a copy of it somewhere safe
    default: true
  # A second vault, in another building, is what saves you from fire and theft:
  # cloud:
  #   location: "s3:bucket/holdfast"             # or sftp:user@host:/path, rest:https://host/, gs:, azure:
  #   password_command: "pass show holdfast"     # or password_file, password_env

plans:
  home:
"""

_PLAN = """\
    to: [home]
    keep: {last: 3, daily: 7, weekly: 4, monthly: 12}
    # exclude: ["*.tmp", "!important.tmp"]       # as in .gitignore; caches and node_modules are left out anyway
    # optional: [/mnt/camera]                    # saved if it is there
    # schedule: "10 2 * * *"                     # as for cron; 'holdfast schedule install' lets this machine do it
    # copy: [{to: cloud, schedule: "30 3 * * 0"}]
    # check: {schedule: "0 4 * * 0", read_data: 5%}
    # drill: {schedule: "0 5 1 * *"}             # prove once a month that it comes back; see 'holdfast drill'
    # expect: {every: 26h, shrink: 50%}          # be told when there is no snapshot, or a much smaller one
    # hooks:
    #   before: [{run: [systemctl, --user, stop, notes], timeout: 1m, optional: true}]
    #   after: [{run: [systemctl, --user, start, notes]}]
    # note: "what this is"                       # kept with every snapshot

# Without a channel nobody hears when something goes wrong, or stops. 'holdfast notify test' tries it out.
# notify:
#   channels: {phone: "ntfys://a-topic-nobody-guesses", screen: desktop}      # or mailtos://..., a webhook https://...
#   rules: [{on: [problems, recovered, digest], to: [phone]}]
"""


def draft(survey: Survey, location: Path, password_file: Path) -> str:
    """The text. The plan saves the usual folders and the repositories outside of them; the whole home folder where
    there are none of them. What needs a decision of its own stands in comments."""
    home = survey.home
    paths = list(tops([*survey.folders, *survey.repositories])) or [home]
    lines = ["    paths:", *(f"      - {_text(path, home)}" for path in paths)]
    if paths != [home]:
        lines.append(f"    # The whole home folder would be: paths: [{_text(home, home)}]")
    notes: list[str] = []
    inside = [path for path in survey.sqlite if any(path.startswith(top + os.sep) for top in paths)]
    outside = [path for path in survey.sqlite if path not in inside]
    notes += _note("SQLite files in these paths:", inside, home)
    notes += _note("SQLite files elsewhere (add their folders if they matter):", outside, home)
    notes += _note("Database servers that run here:", [f"{name} ({place})" for name, place in survey.servers], home)
    if survey.servers:
        notes.append("    # databases:                                 # see docs/databases.md")
        notes += [f"    #   - {{{_SERVERS[name]}}}" for name, _ in survey.servers if name in _SERVERS]
    if not survey.complete:
        notes.append("    # There may be more: the search was cut short.")
    vault = _VAULT % (_text(str(location), home), _text(str(password_file), home))
    return "".join((_HEAD, vault, "\n".join([*lines, *notes]), "\n", _PLAN))


def _note(title: str, found: list[str], home: str) -> list[str]:
    return [f"    # {title}", *(f"    #   {_short(path, home)}" for path in found)] if found else []


def _short(path: str, home: str) -> str:
    if path == home:
        return "~"
    return f"~{path[len(home) :]}" if home != "/" and path.startswith(home + os.sep) else path


def _text(path: str, home: str) -> str:
    """A path as YAML text that the loader reads as that path."""
    short = _short(path, home)
    short = short.replace("$", "$$")
    if _PLAIN.fullmatch(short) and not _LIKE_SOMETHING_ELSE.fullmatch(short):
        return short
    return json.dumps(short, ensure_ascii=False)
