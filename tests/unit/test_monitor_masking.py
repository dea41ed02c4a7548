"""Secrets are taken out of texts and data, and nothing else is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.monitor.masking import environment_secrets, is_secret_name, mask, mask_data

SECRET = "wJalrXUtnFEMIx7"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://user:{SECRET}@host/database",
        f"postgresql://user:a/{SECRET}@b@host/database",
        f"redis://:{SECRET}@host:6379/0",
        f"https://{SECRET}{SECRET}@o1.ingest.sentry.io/7",
        f"PASSWORD={SECRET}",
        f"the password: {SECRET}, again",
        f"RESTIC_PASSWORD={SECRET} restic backup",
        f'{{"db_password": "{SECRET}", "user": "ada"}}',
        f"{{'api_key': 'two words {SECRET}'}}",
        f'a string in JSON: {{\\"token\\": \\"{SECRET}\\"}}',
        f"mysql --password {SECRET} app",
        f"tool --db-token={SECRET}",
        f"tool --secret '{SECRET} and more'",
        f"curl -u ada:{SECRET} https://host/",
        f"Authorization: Bearer {SECRET}",
        f"curl -H 'Authorization: Basic {SECRET}==' https://host/",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"Set-Cookie: session={SECRET}; path=/",
        f"X-Auth-Token: {SECRET}",
        f"sent with Bearer {SECRET}9x",
        f"aws_secret_access_key = {SECRET}/bPxRfiCYEXAMPLEKEY",
        f"https://bucket/?a=1&X-Amz-Signature={SECRET}&b=2",
        f"https://account/?sv=1&sig={SECRET}%3D",
        f"DefaultEndpointsProtocol=https;AccountKey={SECRET}==;AccountName=a",
        f"https://hooks.slack.com/services/T0/B0/{SECRET}",
        f"https://discord.com/api/webhooks/123/{SECRET}",
        f"https://api.telegram.org/bot123:{SECRET}/sendMessage",
        f"https://hc-ping.com/{SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\nx-y\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET} and the text is cut here",
        f'export GITHUB_TOKEN="{SECRET}',
    ],
)
def test_what_a_text_shows_of_a_secret_is_hidden(text: str) -> None:
    assert SECRET not in mask(text)
    assert "***" in mask(text)


@pytest.mark.parametrize(
    "key",
    [
        "hfk1-" + "abcdefg" * 8,
        "AKIA" + "Q" * 16,
        "ghp_" + "a1B2" * 9,
        "glpat-" + "a1B2" * 5,
        "xoxb-1234567890-abcdef",
        "sk_live_" + "a1" * 10,
        "tk_" + "a1b2c3d4" * 3 + "abcde",
        "sk-ant-" + "a1B2" * 8,
        "123456789:AA" + "x" * 33,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln",
    ],
)
def test_keys_that_say_themselves_what_they_are_are_hidden_anywhere(key: str) -> None:
    assert mask(f"it said {key} to us") == "it said *** to us"


@pytest.mark.parametrize(
    "text",
    [
        "backup of 3,000 files finished in 0.3 s",
        "http://127.0.0.1:8080/@name",
        "s3:https://minio.example:9000/bucket",
        "password_file=/etc/holdfast.key and --password-file /x, --password-command 'pass show x'",
        "password authentication failed for user ada",
        "Access denied for user 'x'@'localhost' (using password: YES)",
        "tokens: 512, token_count=512, pass: 5, fail: 3, bypass=1",
        "Basic responsibilities of every operator",
        "keyboard: de, monkey=1",
        "/home/ada/secret/notes.txt: permission denied",
        "ssh://ada@host/path",
        "PWD=/home/ada OLDPWD=/srv",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert mask(text) == text


def test_what_stands_around_a_secret_stays() -> None:
    assert mask("a postgresql://ada:pw@host/db b") == "a postgresql://ada:***@host/db b"
    assert mask('{"password": "x y", "user": "ada"}') == '{"password": "***", "user": "ada"}'
    assert mask("password=x&user=ada") == "password=***&user=ada"


def test_known_secrets_are_hidden_wherever_they_stand() -> None:
    environ = {"DB_PASSWORD": "correct horse", "API_TOKEN": "short", "PG_PASSWORD": "postgres", "PWD": "/home/ada"}
    known = environment_secrets({**environ, "HOME": "/home/ada"})
    assert mask("it printed correct horse twice: correct horse", known=known) == "it printed *** twice: ***"
    assert mask("/home/ada is short, says postgres", known=known) == "/home/ada is short, says postgres"


@given(st.text(max_size=300))
def test_masking_never_fails_and_twice_is_once(text: str) -> None:
    assert mask(mask(text)) == mask(text)


@given(
    st.lists(st.sampled_from(["password", "=", ":", " ", "'", '"', "://", "@", "a", "\n", "--", "-u ", "***", "key"]))
)
def test_masking_twice_is_once_for_texts_full_of_signs(words: list[str]) -> None:
    text = "".join(words)
    assert mask(mask(text)) == mask(text)


def test_data_is_masked_by_key_and_by_content_and_stays_json_ready() -> None:
    masked = mask_data(
        {
            "password": "x",
            "nested": [{"token": 1234, "url": "https://u:p@h/"}, b"raw password=x", ("a", {1})],
            "password_file": "/etc/key",
            "count": 3,
            "ok": True,
            "none": None,
            "secret": None,
            5: ValueError("token=abc"),
        }
    )
    assert masked == {
        "password": "***",
        "nested": [{"token": "***", "url": "https://u:***@h/"}, "raw password=***", ["a", [1]]],
        "password_file": "/etc/key",
        "count": 3,
        "ok": True,
        "none": None,
        "secret": None,
        "5": "token=***",
    }
    json.dumps(masked)


def test_data_that_holds_itself_ends() -> None:
    circle: list[object] = []
    circle.append(circle)
    json.dumps(mask_data(circle))


def test_names_of_places_are_no_secrets() -> None:
    assert all(map(is_secret_name, ["password", "DB_PASSWORD", "apiKey", "access_token", "X-Api-Key", "db_pass"]))
    assert not any(map(is_secret_name, ["password_file", "path", "tokens", "key", "keyboard", "passed", "author"]))
