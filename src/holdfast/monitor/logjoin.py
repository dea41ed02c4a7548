"""What libraries say through ``logging`` and ``warnings`` joins the log, without ``logging`` being imported for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from holdfast.monitor.logs import Log


def join_libraries(log: Log) -> Callable[[], None]:
    """Let ``log`` have what libraries say: ``logging`` from its level INFO, and ``warnings``. Gives what undoes it.

    ``logging`` takes 4 ms to import, which most commands never do: where nobody has yet, this waits until somebody
    does. A program that has set up ``logging`` itself keeps its handlers.
    """
    undo: list[Callable[[], None]] = [_join_warnings(log)]

    def join() -> None:
        from holdfast.monitor.loghandler import join_logging

        undo.append(join_logging(log))

    if "logging" in sys.modules:
        join()
    else:
        waiting = _Awaiting("logging", join)
        sys.meta_path.insert(0, waiting)
        undo.append(waiting.stop)

    def leave() -> None:
        for step in reversed(undo):
            step()

    return leave


def _join_warnings(log: Log) -> Callable[[], None]:
    import warnings

    before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            before(message, category, filename, lineno, file, line)
            return
        place = f"{os.path.basename(filename)}:{lineno}"
        log.say("warning", "py.warnings", f"{category.__name__}: {message} ({place})")

    warnings.showwarning = show

    def leave() -> None:
        if warnings.showwarning is show:
            warnings.showwarning = before

    return leave


class _Awaiting:
    """Calls ``then`` once the module ``name`` has been imported by somebody."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._then = then

    def stop(self) -> None:
        """Wait no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        self.stop()
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load, then = spec.loader.exec_module, self._then

            def load_and_join(module: ModuleType) -> None:
                load(module)
                then()

            spec.loader.exec_module = load_and_join  # type: ignore[method-assign]
        return spec
