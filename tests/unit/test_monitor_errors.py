"""The error monitor inside a program: what it keeps of errors, and that it leaves them, and it, as they are."""

from __future__ import annotations

import asyncio
import functools
import json
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.monitor import get_monitor, monitored

Facts = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Facts:
    """Gives what is in the outbox, oldest first."""
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HOLDFAST_CONFIG", str(tmp_path / "none.yaml"))

    def read() -> list[dict[str, Any]]:
        files = sorted((tmp_path / "state" / "outbox").glob("*.jsonl"))
        found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return sorted(found, key=lambda fact: str(fact["at"]))

    return read


def test_what_is_recorded_says_who_what_and_with_which_data(facts: Facts, capsys: pytest.CaptureFixture[str]) -> None:
    monitor = get_monitor("nightly-import")
    monitor.error("cannot read row 7", file="a.csv", row=7)
    monitor.validation_error("no such customer", {"id": 5, "token": "abc"})
    monitor.silent_failure("export", "1000 rows", 0)
    monitor.critical("the disk is gone")
    kinds = [(fact["kind"], fact["level"], fact["message"]) for fact in facts()]
    assert kinds == [
        ("error.recorded", "error", "cannot read row 7"),
        ("validation.failed", "error", "no such customer"),
        ("silent.failure", "error", "export succeeded silently wrong: expected 1000 rows, got 0"),
        ("critical.recorded", "critical", "the disk is gone"),
    ]
    first, second, third, _ = facts()
    assert first["role"] == "nightly-import"
    assert first["data"] == {"name": "nightly-import", "file": "a.csv", "row": 7}
    assert second["data"]["context"] == {"id": 5, "token": "***"}
    assert (third["data"]["expected"], third["data"]["actual"]) == ("1000 rows", 0)
    told = capsys.readouterr().err
    assert "holdfast: error recorded: nightly-import: cannot read row 7\n" in told
    assert "holdfast: CRITICAL: nightly-import: the disk is gone\n  (recorded)\n" in told


def test_fatal_is_the_one_that_ends_the_program(facts: Facts) -> None:
    with pytest.raises(SystemExit) as ended:
        get_monitor("script").fatal("no configuration", exit_code=7)
    assert ended.value.code == 7
    assert [fact["kind"] for fact in facts()] == ["fatal.recorded"]


@pytest.mark.parametrize("code", [0, None, "text", 256, -1])
def test_fatal_never_ends_the_program_as_if_all_were_well(facts: Facts, code: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        get_monitor("script").fatal("x", exit_code=code)
    assert ended.value.code == 1


def test_expectations(facts: Facts) -> None:
    monitor = get_monitor("quality")
    assert monitor.expect([1, 2], lambda rows: len(rows) == 2, "two rows") is True
    assert monitor.expect([1, 2], lambda rows: len(rows) == 3, "three rows") is False
    assert monitor.expect(0, lambda total: 1 / total > 0, "a total") is False
    assert monitor.expect({"a": 1}, False, "never") is False
    told = [(fact["message"], fact["data"]["actual"], fact["data"].get("type")) for fact in facts()]
    assert told == [
        ("three rows", "list of 2", None),
        ("a total", 0, "ZeroDivisionError"),
        ("never", "dict of 1", None),
    ]


def test_a_monitor_inside_an_except_keeps_the_exception(facts: Facts) -> None:
    try:
        int("seven")
    except ValueError:
        get_monitor("script").error("row skipped")
    (fact,) = facts()
    assert fact["data"]["type"] == "ValueError"
    assert 'int("seven")' in fact["data"]["traceback"]


class Odd(Exception):
    """An exception that has more than a message."""

    def __init__(self, *, number: int) -> None:
        super().__init__("odd")
        self.number = number


@pytest.mark.parametrize("error", [Odd(number=3), KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_what_leaves_a_scope_is_recorded_and_goes_on_unchanged(facts: Facts, error: BaseException) -> None:
    before = dict(vars(error)), error.args
    with pytest.raises(type(error)) as caught, monitored("scope", step=3):
        raise error
    assert caught.value is error
    assert (dict(vars(error)), error.args) == before
    assert error.__cause__ is None and error.__context__ is None
    (fact,) = facts()
    assert (fact["kind"], fact["role"]) == ("error.raised", "scope")
    assert fact["data"]["step"] == 3 and fact["data"]["type"].endswith(type(error).__name__)
    assert "raise error" in fact["data"]["traceback"]


@pytest.mark.parametrize(
    ("error", "level"),
    [(ValueError(), "error"), (KeyboardInterrupt(), "warning"), (SystemExit(2), "error"), (SystemExit(0), "info")],
)
def test_how_grave_an_exception_is(facts: Facts, error: BaseException, level: str) -> None:
    with pytest.raises(type(error)), monitored("scope"):
        raise error
    assert [fact["level"] for fact in facts()] == [level]


def test_a_scope_that_ends_well_leaves_nothing(facts: Facts) -> None:
    with monitored("scope") as monitor:
        assert monitor.name == "scope"
    assert facts() == []


def test_only_the_innermost_scope_records_and_it_names_the_others(facts: Facts) -> None:
    with pytest.raises(KeyError), monitored("outer"), monitored("middle"), monitored("inner"):
        raise KeyError("x")
    (fact,) = facts()
    assert (fact["role"], fact["data"]["within"]) == ("inner", ["outer", "middle"])


def test_one_exception_that_was_dealt_with_hides_no_other(facts: Facts) -> None:
    def fail() -> None:
        raise ValueError("again")

    with pytest.raises(ValueError), monitored("outer"):
        for _ in range(3):
            try:
                with monitored("inner"):
                    fail()
            except ValueError:
                pass
        fail()
    assert [fact["role"] for fact in facts()] == ["inner", "inner", "inner", "outer"]


def test_variables_are_never_kept(facts: Facts) -> None:
    def login(password: str) -> None:
        raise RuntimeError("refused")

    with pytest.raises(RuntimeError), monitored("scope"):
        login("".join(["hun", "ter", "2"]))
    assert "hunter2" not in json.dumps(facts())


def test_causes_notes_and_groups_are_kept(facts: Facts) -> None:
    with pytest.raises(ExceptionGroup), monitored("scope"):
        try:
            {}["missing"]
        except KeyError as error:
            error.add_note("a note")
            raise ExceptionGroup("several", [OSError(5, "broken"), TypeError("odd")]) from error
    trace = facts()[0]["data"]["traceback"]
    for words in ("KeyError: 'missing'", "a note", "direct cause", "several", "[Errno 5] broken", "TypeError: odd"):
        assert words in trace


def test_a_deep_recursion_is_recorded_and_bounded(facts: Facts) -> None:
    @monitored("endless")
    def endless(number: int) -> int:
        return endless(number + 1)

    with pytest.raises(RecursionError):
        endless(0)
    found = facts()
    assert 1 <= len(found) <= 20  # at the end of the stack a few scopes cannot even compare
    assert len(json.dumps(found[-1])) < 20_000

    def plain(number: int) -> int:
        return plain(number + 1)

    with pytest.raises(RecursionError), monitored("plain"):
        plain(0)
    trace = facts()[-1]["data"]["traceback"]
    assert " more ..." in trace and len(trace) < 20_000


def test_a_monitor_called_at_the_end_of_the_stack_records(facts: Facts) -> None:
    monitor = get_monitor("deep")

    def down(number: int) -> None:
        try:
            down(number + 1)
        except RecursionError:
            monitor.error("too deep")
            raise

    with pytest.raises(RecursionError):
        down(0)
    assert {fact["message"] for fact in facts()} == {"too deep"}


class Hostile(Exception):
    """Nothing about it can be asked without an error."""

    def __str__(self) -> str:
        raise SystemExit("from __str__")

    __repr__ = __str__


class HostileMapping(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no items")


def test_values_that_cannot_be_read_do_no_harm(facts: Facts) -> None:
    with pytest.raises(Hostile), monitored("scope", what=Hostile()):
        raise Hostile
    monitor = get_monitor("scope")
    monitor.error(Hostile(), mapping=HostileMapping(a=1), number=10**5000, bytes=b"\xff", circle=threading.Lock())  # type: ignore[arg-type]
    assert monitor.expect(Hostile(), lambda _: Hostile(), "x") is True
    first, second = facts()
    assert "without a text" in first["message"] and "without a text" in second["message"]
    assert "cannot be read" in second["data"]["mapping"]


def test_large_data_is_cut(facts: Facts) -> None:
    nested: list[Any] = []
    nested.append(nested)
    get_monitor("big").error("x" * 100_000, rows=list(range(100_000)), text="y" * 1_000_000, nested=nested)
    (fact,) = facts()
    assert len(json.dumps(fact)) < 20_000
    assert "99,950 more" in fact["data"]["rows"][-1]


def test_decorated_functions_keep_their_face_and_their_results(facts: Facts) -> None:
    @monitored("double")
    def double(number: int) -> int:
        """Twice."""
        return 2 * number

    assert (double(4), double.__name__, double.__doc__) == (8, "double", "Twice.")

    @monitored
    def bare() -> None:
        raise OSError(5, "x")

    with pytest.raises(OSError):
        bare()
    with pytest.raises(TypeError):
        monitored("partial")(functools.partial(int, "x", base=[]))()
    assert [fact["role"] for fact in facts()] == [bare.__qualname__, "partial"]
    assert pickle.loads(pickle.dumps(_module_level))(1) == 2


@monitored("module")
def _module_level(number: int) -> int:
    return number + 1


def test_generators_are_watched_while_they_run(facts: Facts) -> None:
    @monitored("rows")
    def rows(number: int) -> Iterator[int]:
        sent = yield number
        yield sent * 2
        raise ValueError("no more")

    generator = rows(1)
    assert [next(generator), generator.send(5)] == [1, 10]  # type: ignore[attr-defined]
    with pytest.raises(ValueError):
        next(generator)
    leaving = rows(2)
    next(leaving)
    leaving.close()  # type: ignore[attr-defined]
    assert [fact["data"]["error"] for fact in facts()] == ["no more"]


def test_coroutines_and_asynchronous_generators_are_watched(facts: Facts) -> None:
    @monitored("fetch")
    async def fetch(fail: bool) -> int:
        await asyncio.sleep(0)
        if fail:
            raise ConnectionError("reset")
        return 7

    @monitored("stream")
    async def stream() -> AsyncIterator[int]:
        for number in range(3):
            yield number
        raise ValueError("torn")

    @monitored("slow")
    async def slow() -> None:
        await asyncio.sleep(3600)

    async def main() -> list[int]:
        assert await fetch(False) == 7
        results = await asyncio.gather(fetch(True), fetch(False), fetch(True), return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["ConnectionError", "int", "ConnectionError"]
        task = asyncio.create_task(slow())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        found = []
        with pytest.raises(ValueError):
            async for number in stream():
                found.append(number)
        return found

    assert asyncio.run(main()) == [0, 1, 2]
    assert [(fact["role"], fact["level"]) for fact in facts()] == [
        ("fetch", "error"),
        ("fetch", "error"),
        ("slow", "info"),
        ("stream", "error"),
    ]


def test_threads_share_a_monitor_and_a_scope(facts: Facts) -> None:
    scope = monitored("shared")

    def work(number: int) -> None:
        for step in range(20):
            with pytest.raises(ValueError), scope as monitor:
                monitor.error("step", number=number, step=step)
                raise ValueError(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = facts()
    assert len({fact["id"] for fact in found}) == len(found) == 8 * 20 * 2


def test_secrets_are_masked_in_everything(facts: Facts, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("SERVICE_PASSWORD", "correct horse 1")
    with pytest.raises(RuntimeError), monitored("scope", url="postgresql://ada:hunter2@db/app"):
        raise RuntimeError("login with correct horse 1 failed")
    get_monitor("scope").critical("it said correct horse 1, password=hunter2")
    everything = json.dumps(facts()) + capsys.readouterr().err
    assert "horse" not in everything and "hunter2" not in everything
