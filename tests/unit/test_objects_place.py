"""What the locations of object stores mean, and which are refused, without repeating what may be secret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.kernel.errors import Invalid, Unsupported
from holdfast.storage.objects import open_storage, parse


@pytest.mark.parametrize(
    ("text", "endpoint", "bucket", "prefix"),
    [
        ("s3:s3.amazonaws.com/bucket/a/b", None, "bucket", "a/b"),
        ("s3:https://s3.amazonaws.com/bucket", None, "bucket", ""),
        ("s3:s3.eu-central-1.amazonaws.com/bucket/a", "https://s3.eu-central-1.amazonaws.com", "bucket", "a"),
        ("s3:s3.example.org/bucket/a/", "https://s3.example.org", "bucket", "a"),
        ("s3:example.org:9000/bucket//a//b", "https://example.org:9000", "bucket", "a/b"),
        ("s3:http://127.0.0.1:9000/my.bucket/a", "http://127.0.0.1:9000", "my.bucket", "a"),
        ("s3:HTTPS://Example.org/bucket", "https://Example.org", "bucket", ""),
        ("s3:http://[::1]:9000/bucket", "http://[::1]:9000", "bucket", ""),
        ("s3://bucket/a/b", None, "bucket", "a/b"),
        ("s3://bucket", None, "bucket", ""),
        ("s3://my.bucket", None, "my.bucket", ""),
        ("s3://s3.amazonaws.com/bucket/a", None, "bucket", "a"),
        ("s3://localhost:9000/bucket/a", "https://localhost:9000", "bucket", "a"),
        ("gs:bucket:/a/b", None, "bucket", "a/b"),
        ("gs:bucket:/", None, "bucket", ""),
        ("gs://my_bucket/a", None, "my_bucket", "a"),
        ("azure:container:/a", None, "container", "a"),
        ("azure:container:a", None, "container", "a"),
        ("azure://container/a/b", None, "container", "a/b"),
        ("azure:$root:/a", None, "$root", "a"),
    ],
)
def test_locations(text: str, endpoint: str | None, bucket: str, prefix: str) -> None:
    place = parse(*text.split(":", 1))
    assert (place.endpoint, place.bucket, place.prefix) == (endpoint, bucket, prefix)
    assert place.location == text


@pytest.mark.parametrize(
    "text",
    [
        "s3:", "s3://", "s3:/bucket/a", "s3:host", "s3:host/", "s3:host:port/bucket", "s3:https:///bucket",
        "s3:host/bucket/../other", "s3:ho st/bucket", "s3:host/bucket?versions", "s3:host/-bucket", "s3:host/a\\b",
        "gs:", "gs:bucket/a", "gs://", "gs:bucket:/a/../b", "azure::/a", "azure:container/a", "azure:a\0:/",
        "s3:host/bucket/\udcff",
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(*text.split(":", 1))
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "s3:https://AKIAKEY:hunter2@example.org/bucket",
        "s3:AKIAKEY:hunter2@example.org/bucket",
        "s3://AKIAKEY:hunter2@bucket/a",
        "gs://hunter2@bucket/a",
        "azure:account@hunter2:/a",
    ],
)
def test_credentials_in_a_location_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(Invalid, match="credentials do not belong") as caught:
        parse(*text.split(":", 1))
    assert "hunter2" not in str(caught.value) + caught.value.hint + str(caught.value.context)


def test_a_name_that_may_be_a_server_or_a_bucket_is_refused() -> None:
    with pytest.raises(Invalid, match="two ways"):
        parse("s3", "//minio.example.org/bucket/a")


@pytest.mark.parametrize(
    ("text", "amazon", "region"),
    [
        ("s3:s3.amazonaws.com/b", True, None),
        ("s3:s3.eu-central-1.amazonaws.com/b", True, "eu-central-1"),
        ("s3:s3-us-west-2.amazonaws.com/b", True, "us-west-2"),
        ("s3:s3.dualstack.us-gov-west-1.amazonaws.com/b", True, "us-gov-west-1"),
        ("s3:s3.cn-north-1.amazonaws.com.cn/b", True, "cn-north-1"),
        ("s3://b/a", True, None),
        ("s3:s3.eu-central-1.example.org/b", False, None),
        ("s3:amazonaws.com.example.org/b", False, None),
        ("gs://b/a", False, None),
    ],
)
def test_amazon_is_known_by_its_name_and_the_name_tells_the_region(text: str, amazon: bool, region: str | None) -> None:
    place = parse(*text.split(":", 1))
    assert (place.is_amazon, place.region) == (amazon, region)


def test_the_library_is_loaded_at_the_first_call_and_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys; from holdfast.storage import objects; objects.open_storage('s3', '//bucket'); "
        "print('obstore' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    monkeypatch.setitem(sys.modules, "obstore", None)
    for text, extra in (("s3://bucket", "s3"), ("gs:bucket:/", "gs"), ("azure:container:/", "azure")):
        with pytest.raises(Unsupported) as caught:
            open_storage(*text.split(":", 1))
        assert f"pip install 'holdfast[{extra}]'" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "environ", "endpoint", "region", "virtual"),
    [
        ("s3:s3.amazonaws.com/b/x", {}, "https://b.s3.us-east-1.amazonaws.com", "us-east-1", True),
        (
            "s3:s3.amazonaws.com/b", {"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://other"},
            "https://b.s3.eu-west-1.amazonaws.com", "eu-west-1", True,
        ),
        (
            "s3://b", {"AWS_DEFAULT_REGION": "cn-north-1"},
            "https://b.s3.cn-north-1.amazonaws.com.cn", "cn-north-1", True,
        ),
        ("s3://b.c", {}, "https://s3.us-east-1.amazonaws.com", "us-east-1", False),
        ("s3://b", {"AWS_ENDPOINT_URL": "http://other:9000"}, "http://other:9000", "us-east-1", False),
        (
            "s3:s3.eu-central-1.amazonaws.com/b", {"AWS_REGION": "eu-west-1"},
            "https://b.s3.eu-central-1.amazonaws.com", "eu-central-1", True,
        ),
        (
            "s3:https://host:9000/b", {"AWS_ENDPOINT_URL_S3": "http://other", "AWS_REGION": "r1"},
            "https://host:9000", "r1", False,
        ),
        (
            "s3:https://host/b", {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"},
            "https://b.host", "us-east-1", True,
        ),
    ],
)  # fmt: skip
def test_which_server_and_region_are_asked(
    text: str, environ: dict[str, str], endpoint: str, region: str, virtual: bool,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    pytest.importorskip("obstore")
    from holdfast.storage.objects.services import connect_s3

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    files = {name: str(tmp_path / name) for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    for name, value in (environ | files).items():
        monkeypatch.setenv(name, value)
    made: Any = connect_s3(parse(*text.split(":", 1)), None, {})({})
    config = made.config
    assert {value for name, value in config.items() if "endpoint" in name} == {endpoint}
    assert (config["region"], str(config["virtual_hosted_style_request"]).lower()) == (region, str(virtual).lower())
