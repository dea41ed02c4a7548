"""What is left out unless the user says otherwise, each with its reason.

The bar is high: nothing stands here that could be somebody's only copy. Left in on purpose: ``*.pyc`` outside
``__pycache__`` (programs are handed out without their source), ``/tmp``, ``lost+found``, ``desktop.ini``, ``target/``,
``build/``, ``.ipynb_checkpoints/`` and every ``.cache`` that is not in a home directory. Users take any of these rules
back with a negated pattern, for example ``!node_modules/``.
"""

from __future__ import annotations

from holdfast.kernel.values import dataclass


@dataclass(frozen=True, slots=True)
class Default:
    """One rule: a gitignore ``pattern`` and why it is safe.

    With ``absolute`` the pattern starts at the file system's root, whatever directory is backed up, and applies only
    where it lies inside of it; its parts may be globs but not ``**``.
    """

    pattern: bytes
    reason: str
    absolute: bool = False


_BYTECODE = "Python writes it again from the source beside it"
_TOOL_CACHE = "a tool's cache, made again by its next run"
_ENVIRONMENT = "made again from the project's own configuration"
_DESKTOP = "written again by the desktop when it shows the folder"
_TRASH = "deleted by its owner"
_HOME_CACHE = "cache by definition (XDG base directories, Apple's file system guide): programs must live without it"
_KERNEL = "a view that the kernel makes, not files"

DEFAULT_EXCLUDES: tuple[Default, ...] = (
    Default(b"__pycache__/", _BYTECODE),
    Default(b".mypy_cache/", _TOOL_CACHE),
    Default(b".pytest_cache/", _TOOL_CACHE),
    Default(b".ruff_cache/", _TOOL_CACHE),
    Default(b".tox/", _ENVIRONMENT),
    Default(b".nox/", _ENVIRONMENT),
    Default(b"node_modules/", "installed again from package.json and its lock file"),
    Default(b".DS_Store", _DESKTOP),
    Default(b"[Tt]humbs.db", _DESKTOP),
    Default(b".Spotlight-V100/", "a search index that macOS makes again"),
    Default(b".fseventsd/", "macOS's log of changes to this very disk"),
    Default(b".Trash/", _TRASH),
    Default(b".Trash-[0-9]*/", _TRASH),
    Default(b".Trashes/", _TRASH),
    Default(b"**/.local/share/Trash/", _TRASH),
    Default(b"$RECYCLE.BIN/", _TRASH),
    Default(b".holdfast-tmp-*", "left by a restore that was interrupted; the vault has the whole file"),
    Default(b"/home/*/.cache/", _HOME_CACHE, absolute=True),
    Default(b"/var/home/*/.cache/", _HOME_CACHE, absolute=True),
    Default(b"/root/.cache/", _HOME_CACHE, absolute=True),
    Default(b"/Users/*/Library/Caches/", _HOME_CACHE, absolute=True),
    Default(b"/proc/*", _KERNEL, absolute=True),
    Default(b"/sys/*", _KERNEL, absolute=True),
    Default(b"/dev/*", _KERNEL, absolute=True),
    Default(b"/run/*", "in memory; every start of the machine begins with it empty", absolute=True),
    Default(b"/swapfile", "memory that was moved out; means nothing after a restart", absolute=True),
    Default(b"/swap.img", "memory that was moved out; means nothing after a restart", absolute=True),
)

HOME_CACHES: tuple[bytes, ...] = (b".cache/", b"Library/Caches/")
"""Where caches are inside a home directory that does not lie in one of the usual places."""

HOME_CACHE_REASON = _HOME_CACHE

VENV_MARKER = b"pyvenv.cfg"
"""The file that makes a directory a Python virtual environment (PEP 405)."""

VENV_NAMES: frozenset[bytes] = frozenset(
    {
        VENV_MARKER,
        b"bin",
        b"lib",
        b"lib64",
        b"include",
        b"share",
        b"Scripts",
        b"Lib",
        b"Include",
        b".gitignore",
        b".lock",
        b"CACHEDIR.TAG",
        b"__pycache__",
    }
)
"""All that venv, virtualenv and uv put there. A directory that holds anything else is kept whole: people do make an
environment right in the folder of their project."""

CACHEDIR_TAG = b"CACHEDIR.TAG"
"""The file that marks a cache (Cache Directory Tagging Specification 0.6)."""

CACHEDIR_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
"""What a genuine tag file begins with."""
