"""Names, JSON strings and times the way Go writes and reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.format.gostring import json_name, json_string, json_value, quote_name, unquote_name
from holdfast.format.time import format_time, parse_time
from holdfast.kernel.errors import Corrupt

SECOND = 10**9


@given(st.binary(max_size=60))
@example(bytes(range(256)))
@example("a\u2028b\U000e0001\u00a0".encode())
def test_any_name_survives_both_layers(name: bytes) -> None:
    quoted = quote_name(name)
    assert unquote_name(quoted) == name
    assert json.loads(f'"{json_name(name)}"') == quoted
    assert unquote_name(json.loads(f'"{json_name(name)}"')) == name
    quoted.encode("utf-8")


@given(st.text(max_size=40))
def test_any_text_name_survives(text: str) -> None:
    name = text.encode("utf-8")
    assert unquote_name(quote_name(name)) == name


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        (b"plain name-1.txt", "plain name-1.txt"),
        (b"<&>'`", "<&>'`"),
        (b'a"b\\c', 'a\\"b\\\\c'),
        (b"\x07\x08\x0c\n\r\t\x0b\x00\x1f\x7f", "\\a\\b\\f\\n\\r\\t\\v\\x00\\x1f\\x7f"),
        ("Straße😀\ufffd".encode(), "Straße😀\ufffd"),
        ("\u00a0\u00ad\u2028\ufeff".encode(), "\\u00a0\\u00ad\\u2028\\ufeff"),
        ("\U000e0001".encode(), "\\U000e0001"),
        (b"caf\xe9 \xe2\x82 \xed\xa0\x80", "caf\\xe9 \\xe2\\x82 \\xed\\xa0\\x80"),
        (b"", ""),
    ],
)
def test_names_are_quoted_as_strconv_does(name: bytes, quoted: str) -> None:
    assert quote_name(name) == quoted
    assert unquote_name(quoted) == name


def test_other_escapes_of_go_are_read() -> None:
    assert unquote_name("\\101\\377\\x41\\u0041\\U00000041\\u00e4") == b"A\xffAAA\xc3\xa4"
    assert unquote_name("a/b\\x00..") == b"a/b\0.."


@pytest.mark.parametrize(
    "text",
    ["\\", "a\\", "\\q", "\\'", "\\x4", "\\u12", "\\ud800", "\\U00110000", "\\400", "\\1", 'a"b', "a\nb", "\\\\\\"],
)
def test_what_go_refuses_is_refused(text: str) -> None:
    with pytest.raises(Corrupt):
        unquote_name(text)


def test_json_strings_are_escaped_as_go_does() -> None:
    assert json_string('<a> & \u2028\u2029 ä\x01\n"\\') == (
        b'"\\u003ca\\u003e \\u0026 \\u2028\\u2029 \xc3\xa4\\u0001\\n\\"\\\\"'
    )
    assert json_string("bad \udce9\ud800") == b'"bad \\ufffd\\ufffd"'


@given(st.text(max_size=40))
def test_json_strings_are_json(text: str) -> None:
    assert json.loads(json_string(text)) == text
    assert json_value(text) == json_string(text) or "\x7f" in text
    assert json.loads(json_value({text: [text, None, 1.5, True]})) == {text: [text, None, 1.5, True]}


def test_json_values_beyond_the_fast_encoder() -> None:
    assert json_value({"a": 1 << 70, "b": "\udce9<"}) == b'{"a":1180591620717411303424,"b":"\\ufffd\\u003c"}'


# --- times

YEAR_0 = -62_167_219_200
YEAR_10000 = 253_402_300_800


@given(
    st.integers(YEAR_0 * SECOND, YEAR_10000 * SECOND - 1),
    st.integers(-18 * 60, 18 * 60),
)
def test_any_instant_survives(ns: int, minutes: int) -> None:
    local = ns + minutes * 60 * SECOND
    text = format_time(ns, minutes * 60)
    if YEAR_0 * SECOND <= local < YEAR_10000 * SECOND:
        assert parse_time(text) == ns
    assert parse_time(format_time(ns, 0)) == ns


@given(st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)), st.integers(-18 * 60, 18 * 60))
def test_times_agree_with_datetime(moment: datetime, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    instant = moment.replace(microsecond=0, tzinfo=UTC)
    ns = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) * SECOND
    expected = instant.astimezone(zone).isoformat()
    assert format_time(ns, minutes * 60) == (expected if minutes else expected.replace("+00:00", "Z"))
    assert parse_time(expected) == ns


@pytest.mark.parametrize(
    ("ns", "offset", "text"),
    [
        (0, 0, "1970-01-01T00:00:00Z"),
        (1, 0, "1970-01-01T00:00:00.000000001Z"),
        (-1, 0, "1969-12-31T23:59:59.999999999Z"),
        (120_000_000, 3600, "1970-01-01T01:00:00.12+01:00"),
        (10 * SECOND, -12_600, "1969-12-31T20:30:10-03:30"),
        (951_782_400 * SECOND, 0, "2000-02-29T00:00:00Z"),
        (YEAR_0 * SECOND, 0, "0000-01-01T00:00:00Z"),
        ((YEAR_10000 + 58 * 86_400) * SECOND, 0, "9999-02-28T00:00:00Z"),
        ((YEAR_10000 + 59 * 86_400) * SECOND, 0, "9999-03-01T00:00:00Z"),
        ((YEAR_0 - 86_400) * SECOND, 0, "0000-12-31T00:00:00Z"),
        (0, 1172, "1970-01-01T00:19:00+00:19"),
        (0, -1172, "1969-12-31T23:41:00-00:19"),
    ],
)
def test_times_are_written_as_go_does(ns: int, offset: int, text: str) -> None:
    """Years are clamped as restic does; offsets with seconds are cut, so that the instant stays what it is."""
    assert format_time(ns, offset) == text


def test_times_that_only_others_write() -> None:
    assert parse_time("2026-01-02T03:04:05.1234567899Z") == 1767323045_123456789
    assert parse_time("2026-01-02T03:04:05,5+00:00") == 1767323045_500000000
    assert parse_time("0001-01-01T00:00:00Z") == -62_135_596_800 * SECOND


@pytest.mark.parametrize(
    "text",
    [
        "", "Z", "2026-01-02", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z", "2026-02-30T03:04:05Z",
        "2023-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-00-02T03:04:05Z", "2026-01-00T03:04:05Z",
        "2026-01-02T24:04:05Z", "2026-01-02T03:60:05Z", "2026-01-02T03:04:61Z", "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05.xZ", "2026-01-02T03:04:05.1+1:00", "2026-01-02T03:04:05+25:00",
        "2026-01-02T03:04:05+01:60",
        "2026-01-02T03:04:05.\u0661Z", "\u0662026-01-02T03:04:05Z", "2026-01-02T03:04:05.-1Z", "2026-01-02 03:04:05Z",
        "12026-01-02T03:04:05Z", "2026-01-02T03:04:05ZZ", "2026-01-02T03:04:055Z",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Corrupt):
        parse_time(text)
