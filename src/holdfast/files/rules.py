"""What to leave out of a backup: gitignore rules, ignore files inside the tree, and directories marked as caches."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable
from typing import Any

from holdfast.files.defaults import (
    CACHEDIR_SIGNATURE,
    CACHEDIR_TAG,
    DEFAULT_EXCLUDES,
    HOME_CACHE_REASON,
    HOME_CACHES,
    VENV_MARKER,
    VENV_NAMES,
    Default,
)
from holdfast.files.matching import View, layer_of
from holdfast.files.patterns import escape, is_blank, parse
from holdfast.kernel.errors import Invalid
from holdfast.kernel.values import dataclass

DEFAULT_IGNORE_FILE = b".holdfastignore"


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that was said about leaving things out, for any number of roots. Picklable.

    Priority, as in git: the last line that matches decides; ``lines`` come after the defaults, the root's own ignore
    file after those, ignore files further down after that. A directory that is excluded is never entered, so nothing
    inside can be taken back.

    ``larger_than``: files of more bytes are to be left out by whoever reads their size (None: no limit).
    ``ignore_file``: the name whose content :meth:`Scope.enter` wants (empty: there is none).
    """

    lines: tuple[bytes, ...]
    defaults: bool
    ignore_file: bytes = DEFAULT_IGNORE_FILE
    cachedir_tag: bool = True
    larger_than: int | None = None
    home: bytes = b""

    @classmethod
    def compile(
        cls,
        lines: Iterable[bytes | str],
        *,
        defaults: bool,
        ignore_file: bytes = DEFAULT_IGNORE_FILE,
        cachedir_tag: bool = True,
        larger_than: int | None = None,
        home: bytes = b"",
    ) -> Rules:
        """Rules from gitignore lines, one pattern each (a line end is allowed; comments too).

        ``defaults`` adds :data:`DEFAULT_EXCLUDES`, and reduces virtual environments. ``home`` is the absolute home
        directory of the user whose caches are left out too, for homes in unusual places.

        Raises ``Invalid`` for a line that git would silently never match: an open bracket, a trailing backslash,
        an unknown character class, an empty path component.
        """
        taken = []
        for line in lines:
            raw = os.fsencode(line).removesuffix(b"\n")  # a carriage return before it goes where lines are parsed
            if b"\n" in raw or b"\0" in raw:
                raise Invalid(
                    f"exclude pattern {raw!r} holds a line break or a NUL", hint="Write one pattern per list item."
                )
            if not is_blank(raw) and parse(raw) is None:
                raise Invalid(
                    f"exclude pattern {os.fsdecode(raw)!r} can never match anything",
                    hint="Close every [, escape a literal [ or \\ with \\, and drop doubled slashes.",
                    pattern=os.fsdecode(raw),
                )
            taken.append(raw)
        return cls(tuple(taken), defaults, ignore_file, cachedir_tag, larger_than, home)

    def root(self, path: bytes) -> Scope:
        """The scope of the directory ``path``, the absolute path that is backed up.

        Anchored patterns are relative to it. One that begins with the path itself, as restic's users write them, is
        taken relative to it as well.
        """
        if not path.startswith(b"/"):
            raise Invalid(f"the root {os.fsdecode(path)!r} is not absolute", hint="Pass an absolute path.")
        root = b"/" + b"/".join(part for part in path.split(b"/") if part)
        lines, reasons = [], []
        for default in self._default_rules():
            pattern = _relative(default.pattern, root) if default.absolute else default.pattern
            if pattern:
                lines.append(pattern)
                reasons.append(default.reason)
        lines += [_below(line, root) for line in self.lines]
        options = _Options(self.ignore_file, self.cachedir_tag, self.defaults, tuple(reasons))
        return Scope(b"", (layer_of(b"\n".join(lines)).start,), (b"",), options, False)

    def _default_rules(self) -> Iterable[Default]:
        if not self.defaults:
            return ()
        home = escape(self.home.rstrip(b"/"))
        own = [Default(b"%b/%b" % (home, name), HOME_CACHE_REASON, absolute=True) for name in HOME_CACHES if home]
        return (*DEFAULT_EXCLUDES, *own)


@dataclass(frozen=True, slots=True)
class _Options:
    """What a scope must know beside patterns. ``reasons``: why, for the first lines of its outermost layer."""

    ignore_file: bytes
    cachedir_tag: bool
    venvs: bool
    reasons: tuple[str, ...]


class Scope:
    """The rules as they apply to the entries of one directory. Immutable; a pickle is the patterns' text and a path.

    Symbolic links to directories are not directories here.
    """

    __slots__ = ("_kept", "_options", "_path", "_views", "_wheres")

    def __init__(
        self, path: bytes, views: tuple[View, ...], wheres: tuple[bytes, ...], options: _Options, kept: bool
    ) -> None:
        self._path = path
        self._views = views
        self._wheres = wheres
        self._options = options
        self._kept = kept

    def __reduce__(self) -> tuple[Any, ...]:
        layers = tuple((view.layer.text, view.state) for view in self._views)
        return _restored, (self._path, layers, self._wheres, self._options, self._kept)

    @property
    def path(self) -> bytes:
        """The path of the directory below the root of its rules; empty for the root itself."""
        return self._path

    def excludes(self, name: bytes, is_dir: bool) -> bool:
        """Whether the entry ``name`` of this directory is to be left out."""
        for view in self._views:
            code = view.dirs(name) if is_dir else view.files(name)
            if code:
                return code & 1 == 1
        return False

    @property
    def takes_everything(self) -> bool:
        """Whether no rule leaves out anything by its name."""
        return not any(view.layer.patterns for view in self._views)

    def takes_all(self, files: Collection[bytes], folders: Collection[bytes]) -> bool:
        """Whether no rule leaves out, or may reduce to a part, any of what this directory holds."""
        if (self._options.cachedir_tag and CACHEDIR_TAG in files) or (self._options.venvs and VENV_MARKER in files):
            return False
        if self.takes_everything:
            return True
        excludes = self.excludes
        return not (any(excludes(name, False) for name in files) or any(excludes(name, True) for name in folders))

    def enter(self, name: bytes, ignore_text: bytes | None = None) -> Scope:
        """The scope of the directory ``name`` in this one. Ask :meth:`excludes` first.

        ``ignore_text``: the content of the ignore file in that directory, None if there is none.
        """
        code = self._code(name, True) if any(view.layer.keeps_dirs for view in self._views) else 0
        inner = Scope(
            self._path + b"/" + name if self._path else name,
            tuple([view.enter(name) for view in self._views]),
            self._wheres,
            self._options,
            code != 0 and code & 1 == 0,
        )
        return inner if ignore_text is None else inner.with_ignore_file(ignore_text)

    def with_ignore_file(self, text: bytes) -> Scope:
        """This scope with the content of an ignore file that lies in its directory. Malformed lines match nothing."""
        layer = layer_of(text)
        if not layer.patterns:
            return self
        return Scope(self._path, (layer.start, *self._views), (self._path, *self._wheres), self._options, self._kept)

    def keeps_only(self, names: Collection[bytes], directory: int) -> bytes | None:
        """The one entry to save of this directory because it marks the rest as made by a program; None: save all.

        ``names`` are all its entries (a set or dict is fastest), ``directory`` an open descriptor of it. A tagged
        cache keeps its tag, as with restic's ``--exclude-caches``; a virtual environment that holds nothing else
        keeps its ``pyvenv.cfg``. A negated pattern that matches the directory itself, ``!.venv/``, keeps it whole.
        """
        if self._kept:
            return None
        if self._options.cachedir_tag and CACHEDIR_TAG in names and is_tagged_cache(directory):
            return CACHEDIR_TAG
        if self._options.venvs and VENV_MARKER in names and VENV_NAMES.issuperset(names):
            return VENV_MARKER
        return None

    def why(self, name: bytes, is_dir: bool) -> str:
        """The pattern that decides about ``name``, and where it stands; empty if none matches.

        A pattern that begins with ``!`` is why something is kept.
        """
        for depth, view in enumerate(self._views):
            code = view.dirs(name) if is_dir else view.files(name)
            if code:
                return f"{os.fsdecode(view.layer.patterns[code >> 1].text)} ({self._origin(depth, code >> 1)})"
        return ""

    def _origin(self, depth: int, line: int) -> str:
        if depth < len(self._views) - 1:
            path = b"/".join(part for part in (self._wheres[depth], self._options.ignore_file) if part)
            return f"line {line} of {os.fsdecode(path)}"
        reasons = self._options.reasons
        return f"default: {reasons[line - 1]}" if line <= len(reasons) else f"exclude rule {line - len(reasons)}"

    def _code(self, name: bytes, is_dir: bool) -> int:
        for view in self._views:
            code = view.dirs(name) if is_dir else view.files(name)
            if code:
                return code
        return 0


def is_tagged_cache(dir_fd: int) -> bool:
    """Whether the directory holds a genuine ``CACHEDIR.TAG``: a regular file with the standard's signature."""
    try:
        fd = os.open(CACHEDIR_TAG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and os.read(fd, len(CACHEDIR_SIGNATURE)) == CACHEDIR_SIGNATURE
    except OSError:
        return False
    finally:
        os.close(fd)


def _restored(
    path: bytes,
    layers: tuple[tuple[bytes, tuple[int, ...]], ...],
    wheres: tuple[bytes, ...],
    options: _Options,
    kept: bool,
) -> Scope:
    return Scope(path, tuple(layer_of(text).view(state) for text, state in layers), wheres, options, kept)


def _below(line: bytes, root: bytes) -> bytes:
    """``line`` without the path ``root`` that it begins with, if it does, be that escaped or not."""
    if root == b"/":
        return line
    spelt = b"".join(rb"\\?" + re.escape(bytes([byte])) for byte in root)
    found = re.match(b"(!?)" + spelt + b"(/.+)", line, re.DOTALL)
    return found[1] + found[2] if found else line


def _relative(pattern: bytes, root: bytes) -> bytes | None:
    """An absolute pattern as seen from ``root``; None if nothing in ``root`` can match it."""
    parts = pattern[1:].split(b"/")
    above = root[1:].split(b"/") if root != b"/" else []
    depth = len(above)
    if depth >= len(parts) - pattern.endswith(b"/"):
        return None
    for glob, name in zip(parts, above, strict=False):
        if not layer_of(glob).dirs(name):
            return None
    return b"/" + b"/".join(parts[depth:])
