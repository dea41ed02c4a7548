"""Classes of fields behave as those of the standard library, but for assigning to a frozen one."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import field
from typing import ClassVar

import pytest

from holdfast.kernel.values import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """Two compared fields, a secret and a note."""

    x: int
    y: int = 0
    secret: str = field(default="", repr=False)
    note: list[int] = field(default_factory=list, compare=False)
    kind: ClassVar[str] = "point"

    @property
    def sum(self) -> int:
        return self.x + self.y


@dataclass(slots=True)
class Mutable:
    """One field."""

    value: int


@dataclass(frozen=True, slots=True)
class Empty:
    """Nothing."""


@dataclass(frozen=True)
class Own:
    """Its own words for two of the methods."""

    value: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own)

    def __hash__(self) -> int:
        return 7

    def __repr__(self) -> str:
        return "own"


@dataclass(eq=False)
class Same:
    """Equal to itself only."""

    value: int


def test_equal_fields_are_equal_values() -> None:
    assert Point(1, 2) == Point(1, 2) != Point(1, 3)
    assert Point(1, note=[1]) == Point(1, note=[2])
    assert Point(1) != Mutable(1) and Mutable(1) == Mutable(1) != Mutable(2)
    assert Empty() == Empty()
    assert Same(1) != Same(1)
    assert Own(1) == Own(2)
    assert (Point(1) == 1) is False


def test_frozen_ones_may_be_keys() -> None:
    assert len({Point(1), Point(1), Point(2), Empty(), Empty(), Own(1)}) == 4
    assert hash(Point(1, note=[])) == hash(Point(1, note=[1]))
    with pytest.raises(TypeError, match="unhashable"):
        hash(Mutable(1))


def test_they_show_what_may_be_shown() -> None:
    assert repr(Point(1, secret="s3cret")) == "Point(x=1, y=0, note=[])"
    assert repr(Own(1)) == "own" and repr(Empty()) == "Empty()"


def test_the_librarys_functions_take_them() -> None:
    point = Point(1, 2, "s")
    assert dataclasses.replace(point, x=5) == Point(5, 2, "s")
    assert dataclasses.asdict(point) == {"x": 1, "y": 2, "secret": "s", "note": []}
    assert [each.name for each in dataclasses.fields(point)] == ["x", "y", "secret", "note"]
    assert dataclasses.is_dataclass(point) and point.sum == 3 and point.kind == "point"
    for again in (pickle.loads(pickle.dumps(point, 5)), copy.copy(point), copy.deepcopy(point)):
        assert again == point and again.secret == "s"
    with pytest.raises(TypeError):
        Point()  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        point.other = 1  # type: ignore[attr-defined]
