"""Reading holdfast.yaml: what it means, and that everything that is wrong with it is told, each at its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from holdfast.config.load import Loaded, check_text, load
from holdfast.config.schema import schema
from holdfast.config.settings import Settings
from holdfast.config.shown import shown
from holdfast.kernel.errors import Invalid, NotFound
from holdfast.vaults.retention import Policy, Span

HERE = Path("/etc/somewhere/holdfast.yaml")

EXAMPLE = """
vaults:
  home:    {kind: archive, location: /srv/backups/home, password_file: ~/.config/holdfast/home.key, default: true}
  cloud:   {kind: archive, location: "s3://bucket/prefix", password_command: "pass show holdfast"}
  plain:   {kind: mirror, location: /mnt/disk/mirror, protect: true}
plans:
  documents:
    paths: [~/Documents, ~/projects]
    exclude: ["node_modules/", "*.tmp", "!templates/**"]
    optional: [/mnt/camera]
    to: [home, plain]
    schedule: "10 2 * * *"
    keep: {last: 3, daily: 7, weekly: 4, monthly: 12}
    copy: [{to: cloud, schedule: "30 3 * * 0"}]
    check: {schedule: "0 4 * * 0", read_data: 5%}
    drill: {schedule: "0 5 1 * *", queries: {app: ["select count(*) > 0 from users"]}}
    expect: {every: 26h, shrink: 50%}
notify:
  channels: {phone: "ntfys://topic", mail: "mailtos://me:pw@example.org"}
  rules: [{on: [failed, overdue, damage, recovered], to: [phone]}, {on: [digest], to: [mail]}]
"""


def read(text: str, **environ: str) -> Loaded:
    return check_text(text, HERE, environ)


def mistakes(text: str, **environ: str) -> list[dict[str, Any]]:
    with pytest.raises(Invalid) as caught:
        read(text, **environ)
    found: list[dict[str, Any]] = caught.value.context["mistakes"]
    assert caught.value.context["file"] == str(HERE)
    return found


def mistake(text: str, **environ: str) -> tuple[int, int, str, str, str]:
    found = mistakes(text, **environ)
    assert len(found) == 1, found
    (one,) = found
    return one["line"], one["column"], one["key"], one["message"], one["hint"]


PLAN = "vaults: {v: {location: /v}}\nplans:\n  p:\n    paths: [/a]\n"


def test_the_example_of_the_documentation() -> None:
    settings = Settings(read(EXAMPLE))
    assert (settings.vault_names, settings.plan_names) == (["home", "cloud", "plain"], ["documents"])
    home, cloud, plain = (settings.vault(name) for name in settings.vault_names)
    assert home is not None and cloud is not None and plain is not None
    assert home.location == "/srv/backups/home"
    assert home.password.file == os.path.expanduser("~/.config/holdfast/home.key")
    assert cloud.location == "s3://bucket/prefix" and cloud.password.command == "pass show holdfast"
    assert (plain.kind, plain.protect, bool(plain.password)) == ("mirror", True, False)
    plan = settings.plan("documents")
    assert plan.paths[0] == os.fsencode(os.path.expanduser("~/Documents"))
    assert plan.exclude == ("node_modules/", "*.tmp", "!templates/**")
    assert plan.keep == Policy(last=3, daily=7, weekly=4, monthly=12)
    assert (plan.to, plan.mark, [copy.to for copy in plan.copies]) == (("home", "plain"), "plan:documents", ["cloud"])


def test_an_empty_file_and_empty_parts_are_no_mistake() -> None:
    for text in ("", "# only a comment\n", "vaults:\nplans:\nnotify:\n", "{}"):
        settings = Settings(read(text))
        assert (settings.vault_names, settings.default_vault()) == ([], None)


def test_relative_paths_count_from_the_file() -> None:
    settings = Settings(read("vaults: {v: {location: ../v, password_file: key}}\nplans: {p: {paths: [docs, ~/x]}}"))
    vault = settings.vault("v")
    assert vault is not None
    assert (vault.location, vault.password.file) == ("/etc/v", "/etc/somewhere/key")
    assert settings.plan("p").paths[0] == b"/etc/somewhere/docs"


def test_which_vault_is_meant_where_none_is_named() -> None:
    only = Settings(read("vaults: {v: {location: /v}}")).default_vault()
    assert only is not None and only.name == "v"
    chosen = Settings(read("vaults: {v: {location: /v}, w: {location: /w, default: true}}")).default_vault()
    assert chosen is not None and chosen.name == "w"
    with pytest.raises(Invalid, match="which vault"):
        Settings(read("vaults: {v: {location: /v}, w: {location: /w}}")).default_vault()


def test_everything_that_is_wrong_is_told_at_once_with_its_place() -> None:
    found = mistakes("vaults:\n  home:\n    locaton: /x\n  b: {location: /b, kind: mirrow}\nplanes: {}\n")
    assert [(each["line"], each["column"], each["key"]) for each in found] == [
        (3, 5, "vaults.home"),
        (3, 5, "vaults.home.locaton"),
        (4, 27, "vaults.b.kind"),
        (5, 1, "planes"),
    ]
    assert [each["hint"] for each in found if "such key" in each["message"]] == [
        "Did you mean 'location'?",
        "Did you mean 'plans'?",
    ]


@pytest.mark.parametrize(
    ("text", "place", "key", "message", "hint"),
    [
        ("vaults: {v: {location: /v, password: hunter2}}",
         (1, 28), "vaults.v.password", "no such key", "password_file"),
        ("vaults: {v: {location: 5}}", (1, 24), "vaults.v.location", "a text is wanted", "quotes"),
        ("vaults: {v: {location: ''}}", (1, 24), "vaults.v.location", "empty", ""),
        ("vaults: {a b: {location: /v}}", (1, 10), "vaults.a b", "a name is made of", ""),
        ("vaults: [x]", (1, 9), "vaults", "a mapping", ""),
        ("- x", (1, 1), "", "a mapping with the keys", ""),
        (PLAN + "    to: [w]", (5, 10), "plans.p.to[0]", "no vault named 'w'", "Known here: v"),
        (PLAN + "    to: v", (5, 9), "plans.p.to", "a list is wanted", "[one, two]"),
        (PLAN + "    to: [v, v]", (5, 13), "plans.p.to[1]", "twice", ""),
        (PLAN + "    keep: {dayly: 3}", (5, 12), "plans.p.keep.dayly", "no such key", "'daily'"),
        (PLAN + "    keep: {daily: x}", (5, 19), "plans.p.keep.daily", "'x': a whole number", ""),
        (PLAN + "    keep: {daily: 0}", (5, 11), "plans.p.keep", "keeps nothing", "daily: 7"),
        (PLAN + "    keep: {within: 3 days}", (5, 20), "plans.p.keep.within", "a span of time", ""),
        (PLAN + "    schedule: '60 2 * * *'", (5, 15), "plans.p.schedule", "'60' is no minute (0 to 59)", ""),
        (PLAN + "    schedule: daily", (5, 15), "plans.p.schedule", "as for cron", ""),
        (PLAN + "    expect: {every: 26}", (5, 21), "plans.p.expect.every", "a text is wanted", "quotes"),
        (PLAN + "    expect: {shrink: 101%}", (5, 22), "plans.p.expect.shrink", "a share is wanted", ""),
        (PLAN + "    exclude: ['*.o', '[']", (5, 22), "plans.p.exclude[1]", "can never match", ""),
        (PLAN + "    check: {read_data: 7/5}", (5, 24), "plans.p.check.read_data", "3/10", ""),
        (PLAN + "    copy: [{to: v}]\n    to: [v]", (5, 17), "plans.p.copy[0].to", "itself", ""),
        (PLAN + "    tags: ['plan:x']", (5, 12), "plans.p.tags[0]", "Holdfast itself", ""),
        (PLAN + "    hooks: {before: [{run: []}]}", (5, 28), "plans.p.hooks.before[0].run", "a command is wanted", ""),
        (PLAN + "    hooks: {after: [{run: x, timeout: soon}]}", (5, 39), "plans.p.hooks.after[0].timeout", "30s", ""),
        (PLAN + "    hooks: {befor: [x]}", (5, 13), "plans.p.hooks.befor", "no such key", "'before'"),
        (PLAN + "    databases: [{sqlite: maybe}]", (5, 26), "plans.p.databases[0].sqlite", "", ""),
        (PLAN + "    databases: [{}]", (5, 17), "plans.p.databases[0]", "one of sqlite, postgres", ""),
        (PLAN + "    databases: [{postgres: {url: 'postgresql://me:secret@h/d'}}]",
         (5, 34), "plans.p.databases[0].postgres.url", "a password does not belong", ""),
        ("plans: {p: {}}", (1, 12), "plans.p", "protects nothing", "paths"),
        ("plans: {p: {to: [v], paths: [/a]}}",
         (1, 18), "plans.p.to[0]", "no vault named 'v'", "No vault is configured"),
        ("vaults: {v: {location: /v}, w: {location: /w}}\nplans: {p: {paths: [/a]}}",
         (2, 12), "plans.p", "which", "to:"),
        ("vaults: {v: {location: /v, kind: mirror, password_env: X}}",
         (1, 56), "vaults.v.password_env", "no password", ""),
        ("vaults: {v: {location: /v, protect: true}}", (1, 37), "vaults.v.protect", "mirror", ""),
        ("vaults: {v: {location: /v, password_env: $X}}", (1, 42), "vaults.v.password_env", "without $", ""),
        ("vaults: {v: {location: /v, password_env: X, password_file: y}}",
         (1, 42), "vaults.v.password_env", "as well", ""),
        (
            "vaults: {v: {location: /v, default: true}, w: {location: /w, default: yes}}",
            (1, 71),
            "vaults.w.default",
            "'v' is the default vault already",
            "",
        ),
        ("notify: {rules: [{on: [failed], to: [phone]}]}", (1, 38), "notify.rules[0].to[0]", "no channel named", ""),
        ("notify: {channels: {phone: topic}}", (1, 28), "notify.channels.phone", "a URL is wanted", ""),
        ("vaults:\n  v: {location: /v}\n  v: {location: /w}\n", (3, 3), "vaults.v", "twice (first in line 2)", "Join"),
        ("vaults:\n\tv: {}\n", (2, 1), "", "this is no YAML", "Indent with spaces"),
        ("plans: {p: {paths: [*.tmp]}}", (1, 22), "", "this is no YAML", "quotes"),
        ("plans: {p: {paths: [/a], exclude: [!x y]}}", (1, 36), "plans.p.exclude[0]", "a tag (!word)", "quotes"),
        ("vaults: {}\n---\nplans: {}", (2, 1), "", "this is no YAML", ""),
        ("vaults: {? [a] : {}}", (1, 12), "vaults", "a key has to be a word", ""),
    ],
)  # fmt: skip
def test_a_mistake(text: str, place: tuple[int, int], key: str, message: str, hint: str) -> None:
    line, column, where, told, advice = mistake(text)
    assert ((line, column), where) == (place, key), told
    assert message in told and hint in advice, (told, advice)


def test_variables_of_the_environment() -> None:
    settings = Settings(read("vaults: {v: {location: '${PLACE}/v $$5', connections: '${N}'}}", PLACE="/srv", N="3"))
    vault = settings.vault("v")
    assert vault is not None and (vault.location, vault.connections) == ("/srv/v $5", 3)
    line, column, key, message, hint = mistake("vaults:\n  v:\n    location: ${NO_SUCH}\n")
    assert (line, column, key) == (3, 15, "vaults.v.location")
    assert message == "the environment variable NO_SUCH is not set" and "$${NO_SUCH}" in hint
    assert "no variable" in mistake("vaults: {v: {location: '${a b}'}}")[3]
    assert "no variable" in mistake("vaults: {v: {location: '/x${A'}}", A="b")[3]


def test_no_message_repeats_what_may_be_secret() -> None:
    secret = "hunter2"
    for text in (
        "vaults: {v: {location: /v, password: hunter2}}",
        "vaults: {v: {location: {a: hunter2}}}",
        "vaults: {v: {location: /v, kind: '${S}'}}",
        "notify: {channels: {phone: hunter2}}",
        "vaults: {v: {location: /v, password: *hunter2}}",
        "vaults: {v: {location: /v, password: !hunter2 }}",
        "vaults: {v: {location: 'rest:https://u:a${hunter2-@host/'}}",
        "plans: {p: {paths: [/a], hooks: {before: [{run: hunter2, timeout: '${S}'}]}}}",
    ):
        with pytest.raises(Invalid) as caught:
            read(text, S=secret)
        assert secret not in caught.value.message and secret not in repr(caught.value.context)


def test_words_are_words() -> None:
    """What YAML 1.1 makes of yes, on, 08:30 and dates would surprise."""
    loaded = read("plans: {no: {paths: [on, 08:30, 2026-01-01], tags: [yes]}}\nnotify: {rules: []}")
    plan = loaded.configuration.plans["no"]
    assert (plan.paths, plan.tags) == (("on", "08:30", "2026-01-01"), ("yes",))


def test_merging_with_an_alias() -> None:
    text = "plans:\n  a: &usual {paths: [/a], keep: {daily: 3}}\n  b: {<<: *usual, paths: [/b]}\n"
    settings = Settings(read(text))
    assert (settings.plan("b").paths, settings.plan("b").keep) == ((b"/b",), Policy(daily=3))


def test_a_bomb_of_aliases_is_refused() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    assert any("too many values" in each["message"] for each in mistakes(text))
    assert any("too many values" in each["message"] for each in mistakes("a: &a [*a]"))


def test_keep_in_all_its_forms() -> None:
    loaded = read(PLAN + "    keep: {hourly: unlimited, within: 1y2m3d4h, within_weekly: 2w, tags: [[a, b], [c]]}")
    assert Settings(loaded).plan("p").keep == Policy(
        hourly=-1, within=Span(1, 2, 3, 4), within_weekly=Span(0, 0, 14), tags=(("a", "b"), ("c",))
    )


def test_hooks_in_all_their_forms() -> None:
    loaded = read(PLAN + "    hooks: {before: [echo hi, [ls, -l], {run: [x], timeout: 1m30s, optional: true}]}")
    hooks = Settings(loaded).plan("p").before
    assert [(hook.run, hook.timeout, hook.optional) for hook in hooks] == [
        ("echo hi", 600, False),
        (("ls", "-l"), 600, False),
        (("x",), 90, True),
    ]


def test_what_is_shown_has_no_secret() -> None:
    loaded = read(
        """
vaults:
  a: {location: "rest:https://user:geheim1@host/p/a@th", password_command: "echo geheim2"}
  b: {location: "sftp:user:geheim3@host:/x", password_command: "TOKEN=geheim4 pass"}
  c: {location: "s3:bucket/x?secret_key=geheim5&region=eu", password_env: NAME}
  d: {location: "${WHERE}", password_file: /k}
plans:
  p: {paths: [/a], to: [d], keep: {daily: unlimited}, hooks: {before: [curl geheim6, [notify, geheim7]]}}
notify: {channels: {phone: "ntfys://geheim8"}}
""",
        WHERE="/geheim9",
    )
    text = repr(shown(loaded))
    assert "geheim" not in text
    value = shown(loaded)
    assert value["vaults"]["a"] == {
        "kind": "archive",
        "location": "rest:https://***@th",
        "password_command": "echo ***",
        "default": False,
        "protect": False,
    }
    assert value["vaults"]["d"]["location"] == "${WHERE}"
    assert value["plans"]["p"]["hooks"]["before"][0]["run"] == "curl ***"
    assert value["plans"]["p"]["keep"]["daily"] == "unlimited"
    assert value["notify"]["channels"]["phone"]["url"] == "ntfys://***"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no configuration file"):
        load(tmp_path / "none.yaml", {})
    with pytest.raises(Invalid, match="is a folder"):
        load(tmp_path, {})
    (tmp_path / "latin.yaml").write_bytes(b"vaults:\n  v: {location: /\xfc}\n")
    with pytest.raises(Invalid, match=r"latin\.yaml:2:18: this is not UTF-8"):
        load(tmp_path / "latin.yaml", {})
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfvaults: {v: {location: /v}}\r\n")
    assert Settings(load(tmp_path / "bom.yaml", {})).vault_names == ["v"]


def test_the_schema_describes_every_key() -> None:
    made = schema()
    assert made["$schema"].startswith("https://json-schema.org/")
    assert set(made["properties"]) >= {"vaults", "plans", "notify", "schedules"}
    for section in made["$defs"].values():
        assert section["additionalProperties"] is False
        assert all("description" in field or "$ref" in field for field in section["properties"].values()), section
    assert "copy" in made["$defs"]["PlanSettings"]["properties"]


@settings_of_hypothesis(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_written_ends_in_a_configuration_or_in_mistakes(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(EXAMPLE)))
    end = data.draw(st.integers(start, min(len(EXAMPLE), start + 60)))
    middle = data.draw(
        st.one_of(st.text(max_size=12), st.sampled_from(["[", "{", ": ", "\n", "null", "1", "~", "*a", "&a "]))
    )
    try:
        loaded = read(EXAMPLE[:start] + middle + EXAMPLE[end:])
    except Invalid as error:
        assert error.context["mistakes"]
        return
    settings = Settings(loaded)
    for name in settings.plan_names:
        settings.plan(name)
    shown(loaded)
