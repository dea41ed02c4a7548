"""Redis through the installed command: saved, loaded back, and what it says where it cannot be done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.e2e.conftest import Cli
from tests.servers.listening import free_port
from tests.servers.redis import Redis, Start
from tests.servers.restserver import make_certificate

PLACE = "/.holdfast/databases/redis"

# Every type, in the forms that Redis gives small and large values.
FILL = r"""
redis.call('SET', 'text', 'plain')
redis.call('SET', 'number', 12345)
redis.call('SET', 'big number', '-70000')
redis.call('SET', 'packed', string.rep('abc', 500))
redis.call('SET', string.rep('long key ', 20), 'x')
redis.call('SET', '\0\255\r\n"', '\0\1\2')
for i = 1, 20 do redis.call('RPUSH', 'list', i) end
for i = 1, 3000 do redis.call('RPUSH', 'long list', string.rep('v', i % 50) .. i) end
redis.call('RPUSH', 'wide list', string.rep('w', 20000), 'end')
redis.call('SADD', 'numbers', 1, 2, 3)
redis.call('SADD', 'words', 'a', 'b')
for i = 1, 800 do redis.call('SADD', 'many', 'm' .. i) end
redis.call('ZADD', 'scores', 1.5, 'a', '-inf', 'b')
for i = 1, 400 do redis.call('ZADD', 'many scores', i / 3, 'm' .. i) end
redis.call('HSET', 'hash', 'a', 1, 'b', 2)
for i = 1, 800 do redis.call('HSET', 'wide hash', 'f' .. i, i) end
for i = 1, 300 do redis.call('XADD', 'stream', i .. '-1', 'field', i) end
redis.call('XGROUP', 'CREATE', 'stream', 'group', '0')
redis.call('XREADGROUP', 'GROUP', 'group', 'consumer', 'COUNT', '5', 'STREAMS', 'stream', '>')
redis.call('PFADD', 'hyper', 'a', 'b')
redis.call('SET', 'mortal', 'x', 'PXAT', 33000000000000)
redis.call('SELECT', 3)
redis.call('SET', 'in three', 'y')
return 'done'
"""
FUNCTION = "#!lua name=mine\nredis.register_function('three', function() return 3 end)"


def fill(server: Redis) -> Redis:
    assert server("EVAL", FILL, 0) == b"done"
    server("FUNCTION", "LOAD", FUNCTION)
    return server


def state(server: Redis, database: int = 0) -> dict[bytes, tuple[bytes, bytes]]:
    """Every key with its expiry and a digest of its value."""
    script = (
        "local found = {} for _, key in ipairs(redis.call('KEYS', '*')) do"
        " table.insert(found, {key, redis.call('PEXPIRETIME', key), redis.call('TYPE', key).ok}) end"
        " table.sort(found, function(a, b) return a[1] < b[1] end) return cjson.encode(found)"
    )
    digest = server("DEBUG", "DIGEST") if database == 0 else b""
    return {b"": (server("EVAL", script, 0, database=database), digest)}


def debug(redis: Start, *words: str) -> Redis:
    return redis("--enable-debug-command", "yes", *words)


def test_all_types_there_and_back(cli: Cli, redis: Start) -> None:
    server = fill(debug(redis))
    done = cli("backup", "--redis", f"main={server.url()}", "--json")
    assert done.code == 0, done.err
    assert done.summary["databases"] == 1
    assert "dump.rdb" in cli("ls", f"latest:{PLACE}/main").out

    other = debug(redis)
    words = ("restore", "latest", "--database", "main", "--to", other.url())
    would = cli(*words, "--dry-run")
    assert would.code == 0 and would.out.startswith("Would load")
    assert other("DBSIZE") == b"0"
    loaded = cli(*words, "--json")
    assert loaded.code == 0, loaded.err
    assert (loaded.summary["kind"], loaded.summary["kept"]) == ("redis", None)
    assert state(other) == state(server)
    assert state(other, 3) == state(server, 3)
    assert other("FCALL", "three", 0) == b"3"
    assert other("XPENDING", "stream", "group") == server("XPENDING", "stream", "group")


def test_a_filled_server_is_replaced_only_when_asked_and_kept(cli: Cli, redis: Start) -> None:
    server, other = fill(debug(redis)), debug(redis)
    other("SET", "former", "1")
    other("SET", "former too", "1", database=5)
    assert cli("backup", "--redis", f"main={server.url()}").code == 0
    words = ("restore", "latest", "--database", "main", "--to", other.url())
    refused = cli(*words)
    assert refused.code == 2
    assert "is not empty (2 keys)" in refused.err and "--replace" in refused.err
    assert other("DBSIZE", database=5) == b"1"
    done = cli(*words, "--replace", "--json")
    assert done.code == 0, done.err
    assert state(other) == state(server)
    assert other("DBSIZE", database=5) == b"0"
    kept = Path(done.summary["kept"])
    assert kept.stat().st_mode & 0o777 == 0o600
    third = debug(redis, "--dir", str(kept.parent), "--dbfilename", kept.name)
    assert third("KEYS", "*") == b"former" and third("KEYS", "*", database=5) == b"former too"


def test_one_database_of_a_dump(cli: Cli, redis: Start) -> None:
    server, other = fill(debug(redis)), debug(redis)
    other("SET", "mine", "1")
    assert cli("backup", "--redis", server.url()).code == 0
    words = ("restore", "latest", "--database", "local", "--to")
    assert cli(*words, other.url("/3")).code == 0
    assert other("GET", "in three", database=3) == b"y"
    assert other("DBSIZE") == b"1"
    nothing = cli(*words, other.url("/7"))
    assert nothing.code == 2 and "nothing in database 7" in nothing.err
    few = debug(redis, "--databases", "2")
    refused = cli(*words, few.url())
    assert refused.code == 2 and "fewer databases" in refused.err
    assert few("DBSIZE") == b"0"
    whole = cli("backup", "--redis", server.url("/3"))
    assert whole.code == 2 and "all its databases" in whole.err


def test_a_load_that_fails_leaves_the_server_as_it_was(cli: Cli, redis: Start) -> None:
    server = fill(debug(redis))
    assert cli("backup", "--redis", f"main={server.url()}").code == 0
    other = debug(redis)
    other("SET", "former", "1")
    other("ACL", "SETUSER", "default", "-function|load")
    words = ("restore", "latest", "--database", "main", "--to", other.url())
    failed = cli(*words, "--replace")
    assert failed.code != 0 and "function|load" in failed.err
    assert other("KEYS", "*") == b"former"
    assert list((cli.home / ".local/state/holdfast/kept").iterdir()) == []
    other("FLUSHALL")
    assert cli(*words).code != 0
    assert other("DBSIZE") == b"0"


def test_what_a_killed_load_leaves_is_told_and_replaced(cli: Cli, redis: Start) -> None:
    server, other = fill(debug(redis)), debug(redis)
    assert cli("backup", "--redis", f"main={server.url()}").code == 0
    other("SET", "holdfast:restoring", "/kept/file.rdb")
    other("SET", "half", "1")
    words = ("restore", "latest", "--database", "main", "--to", other.url())
    refused = cli(*words)
    assert refused.code == 2 and "cut short" in refused.err and "/kept/file.rdb" in refused.err
    done = cli(*words, "--replace", "--json")
    assert done.code == 0, done.err
    assert done.summary["kept"] == "/kept/file.rdb"
    assert state(other) == state(server)


def test_passwords_users_and_sockets(cli: Cli, redis: Start, tmp_path: Path) -> None:
    server = redis(password="pass word")
    server("SET", "a", "b")
    server("ACL", "SETUSER", "saver", "on", ">secret", "+@all", "~*")
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    refused = cli("backup", "--redis", server.url())
    assert refused.code == 1
    assert "NOAUTH" in refused.err and "REDISCLI_AUTH" in refused.err
    wrong = cli("backup", "--redis", server.url(), REDISCLI_AUTH="no")
    assert wrong.code == 1 and "WRONGPASS" in wrong.err
    seen = cli("backup", "--redis", "redis://:pass@localhost/")
    assert seen.code == 2 and "pass@" not in seen.err and "password_file" in seen.err
    assert cli("backup", "--redis", server.url(), REDISCLI_AUTH="pass word").code == 0
    by_file = f"redis://saver@localhost/?socket={server.place}/s&password_file={secret}"
    assert cli("backup", "--redis", by_file).code == 0
    server("ACL", "SETUSER", "saver", "-sync", "-psync")
    denied = cli("backup", "--redis", by_file)
    assert denied.code == 1 and "NOPERM" in denied.err and "+sync" in denied.err


def test_in_a_plan(cli: Cli, redis: Start, tmp_path: Path) -> None:
    server = fill(debug(redis))
    config = tmp_path / "holdfast.yaml"
    config.write_text(
        f"vaults: {{v: {{location: {tmp_path}/v, password_env: PW}}}}\n"
        f"plans: {{p: {{databases: [{{redis: {{url: '{server.url()}', name: cache}}}}], to: [v]}}}}\n"
    )
    cli.environ |= {"HOLDFAST_CONFIG": str(config), "PW": "x"}
    assert cli("init", "--vault", "v").code == 0
    done = cli("backup", "p")
    assert done.code == 0, done.err
    listed = cli("ls", "latest", "-r", "--vault", "v", "--json")
    assert f"{PLACE}/cache/dump.rdb" in {json.loads(line).get("path") for line in listed.out.splitlines()}


def test_where_nobody_answers(cli: Cli, tmp_path: Path) -> None:
    done = cli("backup", "--redis", f"redis:///?socket={tmp_path}/none")
    assert done.code == 1
    assert "no Redis answers" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize("url", ["redis://x:y/", "http://x/", "redis://x/a", "redis://x/?nonsense=1"])
def test_urls_that_mean_nothing(cli: Cli, url: str) -> None:
    done = cli("backup", "--redis", f"n={url}")
    assert done.code == 2 and "redis" in done.err.lower()


def test_over_tls_with_a_certificate_on_both_sides(cli: Cli, redis: Start, tmp_path: Path) -> None:
    pem, port = tmp_path / "both.pem", free_port()
    make_certificate(pem)
    options = ("--tls-cert-file", pem, "--tls-key-file", pem, "--tls-ca-cert-file", pem, "--tls-auth-clients", "yes")
    server = redis("--enable-debug-command", "yes", "--tls-port", str(port), *options)
    server("DEBUG", "POPULATE", 30_000)
    server("SET", "wide", "x" * 100_000)
    url = f"rediss://127.0.0.1:{port}/?ca={pem}&cert={pem}&key={pem}"
    unknown = cli("backup", "--redis", f"rediss://127.0.0.1:{port}/")
    assert unknown.code == 1 and "certificate" in unknown.err.lower()
    plain = cli("backup", "--redis", f"redis://127.0.0.1:{port}/")
    assert plain.code == 1 and "Traceback" not in plain.err
    assert cli("backup", "--redis", f"main={url}").code == 0
    server("FLUSHALL")
    done = cli("restore", "latest", "--database", "main", "--to", url)
    assert done.code == 0, done.err
    assert server("DBSIZE") == b"30001"
