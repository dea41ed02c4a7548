"""Ignore rules beyond git's: roots, defaults, reasons, markers, pickles."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from holdfast.files.defaults import DEFAULT_EXCLUDES
from holdfast.files.rules import Rules, Scope, is_tagged_cache
from holdfast.kernel.errors import Invalid

SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"


def scope(*lines: bytes | str, root: bytes = b"/data", **options: object) -> Scope:
    return Rules.compile(lines, **{"defaults": False, **options}).root(root)  # type: ignore[arg-type]


def excluded(at: Scope, path: bytes, is_dir: bool = False) -> bool:
    *above, name = path.split(b"/")
    for part in above:
        if at.excludes(part, True):
            return True
        at = at.enter(part, None)
    return at.excludes(name, is_dir)


def test_the_last_matching_line_decides() -> None:
    rules = scope("*.log", "!keep.log", "keep.log/")
    assert rules.excludes(b"a.log", False)
    assert not rules.excludes(b"keep.log", False)
    assert rules.excludes(b"keep.log", True)


def test_a_file_in_an_excluded_directory_cannot_be_taken_back() -> None:
    assert excluded(scope("build/", "!build/keep"), b"build/keep")


def test_a_directory_whose_content_is_excluded_gives_back_what_is_negated() -> None:
    rules = scope("build/*", "!build/keep")
    assert excluded(rules, b"build/other")
    assert not excluded(rules, b"build/keep")


def test_patterns_may_be_str_and_match_names_that_are_not_text() -> None:
    rules = scope("é*", os.fsdecode(b"raw\xff"))
    assert rules.excludes("état".encode(), False)
    assert rules.excludes(b"raw\xff", False)


@pytest.mark.parametrize("line", ["/data/a/*.o", "/data/a/*.o\n"])
def test_a_pattern_that_begins_with_the_root_is_relative_to_it(line: str) -> None:
    assert excluded(scope(line), b"a/x.o")
    assert not excluded(scope(line), b"b/a/x.o")
    assert excluded(scope("a/*", "!/data/a/x.o"), b"a/y.o")
    assert not excluded(scope("a/*", "!/data/a/x.o"), b"a/x.o")


def test_the_root_in_a_pattern_may_be_escaped_or_not() -> None:
    for line in (b"/d[1]/x", b"/d\\[1]/x", b"/d\\[1\\]/x"):
        assert excluded(scope(line, root=b"/d[1]/"), b"x")


def test_another_anchored_pattern_is_relative_to_the_root_too() -> None:
    assert excluded(scope("/var/log"), b"var/log", is_dir=True)
    assert excluded(scope("/var/log", root=b"/"), b"var/log", is_dir=True)


@pytest.mark.parametrize("line", ["a[", "a\\", "a//b", "[[:nothing:]]", "/"])
def test_a_pattern_that_can_never_match_is_refused_with_a_hint(line: str) -> None:
    with pytest.raises(Invalid, match="never match") as caught:
        Rules.compile([line], defaults=False)
    assert caught.value.hint


def test_two_patterns_in_one_are_refused() -> None:
    with pytest.raises(Invalid, match="line break"):
        Rules.compile(["a\nb"], defaults=False)


def test_comments_and_blank_lines_mean_nothing() -> None:
    rules = scope("# all", "", "   ", "\\#a")
    assert not rules.excludes(b"# all", False)
    assert rules.excludes(b"#a", False)


def test_a_malformed_line_of_an_ignore_file_is_passed_over() -> None:
    inner = scope().enter(b"d", b"[\nx\n")
    assert inner.excludes(b"x", False)
    assert not inner.excludes(b"[", False)


def test_nearer_ignore_files_win_and_end_with_their_directory() -> None:
    top = scope("*.o").with_ignore_file(b"!a.o\n")
    inner = top.enter(b"d", b"a.o\n/only.txt\n")
    assert not top.excludes(b"a.o", False)
    assert inner.excludes(b"a.o", False)
    assert inner.enter(b"deep", None).excludes(b"a.o", False)
    assert inner.excludes(b"only.txt", False)
    assert not inner.enter(b"deep", None).excludes(b"only.txt", False)
    assert not top.enter(b"e", None).excludes(b"a.o", False)


def test_why_names_the_pattern_and_where_it_stands() -> None:
    top = scope("*.o", "!keep.o", "  ", "node_modules/", defaults=True)
    inner = top.enter(b"sub", None).enter(b"dir", b"# mine\n*.txt\n")
    assert top.why(b"a.o", False) == "*.o (exclude rule 1)"
    assert top.why(b"keep.o", False) == "!keep.o (exclude rule 2)"
    assert top.why(b"node_modules", True) == "node_modules/ (exclude rule 4)"
    assert top.why(b"__pycache__", True).startswith("__pycache__/ (default: ")
    assert inner.why(b"a.txt", False) == "*.txt (line 2 of sub/dir/.holdfastignore)"
    assert inner.why(b"a.o", False) == "*.o (exclude rule 1)"
    assert inner.why(b"plain", False) == ""
    assert scope().with_ignore_file(b"x").why(b"x", False) == "x (line 1 of .holdfastignore)"


def test_defaults_leave_out_caches_of_homes_but_no_other_cache_folder() -> None:
    assert excluded(scope(defaults=True, root=b"/"), b"home/ann/.cache", is_dir=True)
    assert excluded(scope(defaults=True, root=b"/home"), b"ann/.cache", is_dir=True)
    assert excluded(scope(defaults=True, root=b"/home/ann/"), b".cache", is_dir=True)
    assert excluded(scope(defaults=True, root=b"/srv", home=b"/srv/an*n"), b"an*n/.cache", is_dir=True)
    for root, path in ((b"/home/ann/work", b".cache"), (b"/srv", b"home/ann/.cache"), (b"/home/ann/.cache", b"x")):
        assert not excluded(scope(defaults=True, root=root), path, is_dir=True)
    assert not excluded(scope(defaults=True, root=b"/srv", home=b"/srv/an*n"), b"anton/.cache", is_dir=True)


def test_defaults_can_be_taken_back_and_switched_off() -> None:
    assert scope(defaults=True).excludes(b"node_modules", True)
    assert not scope("!node_modules/", defaults=True).excludes(b"node_modules", True)
    assert not scope().excludes(b"node_modules", True)


@pytest.mark.parametrize(
    "path",
    [b"notes.pyc", b"node_modules", b".Trashcan/x", b"docs/.cache/x", b"proc/x", b"thumbs.db.txt", b"core", b"tmp/x"],
)
def test_defaults_keep_what_could_be_an_only_copy(path: bytes) -> None:
    assert not excluded(scope(defaults=True), path)


def test_every_default_is_a_working_pattern_with_a_reason() -> None:
    Rules.compile([default.pattern for default in DEFAULT_EXCLUDES], defaults=False)
    assert all(default.reason for default in DEFAULT_EXCLUDES)
    assert all(default.pattern.startswith(b"/") for default in DEFAULT_EXCLUDES if default.absolute)


@pytest.fixture
def directory(tmp_path: Path) -> int:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_a_tagged_cache_keeps_only_its_tag(tmp_path: Path, directory: int) -> None:
    names = {b"CACHEDIR.TAG": None, b"big": None}
    (tmp_path / "CACHEDIR.TAG").write_bytes(SIGNATURE + b"\n# made by a test\n")
    assert is_tagged_cache(directory)
    assert scope().keeps_only(names, directory) == b"CACHEDIR.TAG"
    assert scope(cachedir_tag=False).keeps_only(names, directory) is None
    assert scope("!mine/").enter(b"mine", None).keeps_only(names, directory) is None
    assert scope("!mine/").enter(b"other", None).keeps_only(names, directory) == b"CACHEDIR.TAG"


@pytest.mark.parametrize("content", [b"", SIGNATURE[:-1], b"x" + SIGNATURE])
def test_a_tag_without_the_signature_tags_nothing(tmp_path: Path, directory: int, content: bytes) -> None:
    (tmp_path / "CACHEDIR.TAG").write_bytes(content)
    assert not is_tagged_cache(directory)


def test_a_tag_must_be_a_regular_file(tmp_path: Path, directory: int) -> None:
    assert not is_tagged_cache(directory)
    (tmp_path / "real").write_bytes(SIGNATURE)
    (tmp_path / "CACHEDIR.TAG").symlink_to("real")
    assert not is_tagged_cache(directory)
    (tmp_path / "CACHEDIR.TAG").unlink()
    os.mkfifo(tmp_path / "CACHEDIR.TAG")
    assert not is_tagged_cache(directory)


def test_a_virtual_environment_is_reduced_unless_something_else_lies_in_it(directory: int) -> None:
    made = {b"pyvenv.cfg", b"bin", b"lib", b"lib64", b"include"}
    assert scope(defaults=True).keeps_only(made, directory) == b"pyvenv.cfg"
    assert scope(defaults=True).keeps_only(made | {b"thesis.tex"}, directory) is None
    assert scope(defaults=False).keeps_only(made, directory) is None
    assert scope("!.venv/", defaults=True).enter(b".venv", None).keeps_only(made, directory) is None


def test_rules_and_scopes_survive_pickling() -> None:
    rules = pickle.loads(pickle.dumps(Rules.compile(["a/**/b/*.o", "*.[ch]x"], defaults=True, larger_than=5)))
    assert rules.larger_than == 5
    inner = rules.root(b"/data").enter(b"a", b"!z.o\n").enter(b"q", None).enter(b"b", None)
    copy = pickle.loads(pickle.dumps(inner))
    for name in (b"x.o", b"z.o", b"y.cx", b"plain"):
        assert copy.excludes(name, False) == inner.excludes(name, False)
        assert copy.why(name, False) == inner.why(name, False)
    assert inner.excludes(b"x.o", False)
    assert len(pickle.dumps(scope())) < 200


def test_a_hostile_pattern_does_not_stall() -> None:
    rules = scope("*a" * 60 + "b", "**/" * 40 + "x/y")
    assert not rules.excludes(b"a" * 255, False)
    for _ in range(200):
        rules = rules.enter(b"x", None)
    assert rules.excludes(b"y", False)


def test_every_default_stands_in_the_documentation_with_its_reason() -> None:
    document = (Path(__file__).parents[2] / "docs" / "excludes.md").read_text()
    for default in DEFAULT_EXCLUDES:
        assert f"| `{default.pattern.decode()}`" in document and f"| {default.reason} |" in document, default
