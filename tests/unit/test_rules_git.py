"""Our ignore rules against git's own verdict, on random patterns and trees of awkward names."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.files.rules import Rules, Scope

NAMES = [
    *(b"a", b"b", b"ab", b"foo", b"foobar", b"bar", b"a.o", b"b.tar.gz", b".a", b"a.", b"~", b"A", b"Z9"),
    *(b"x y", b"x ", b"a b ", b"#a", b"!b", b"[a]", b"a*", b"\\a", b"a\\", b"-", b"]", b"^", b"\t", b"a\rb"),
    *(b"\xff\xfe", b"\xc3\xa9"),
]
PIECES = [
    *(b"*", b"**", b"***", b"?", b"/", b"/", b"/", b"/**/", b"**/", b"/**", b"*/", b"\\", b"\\*", b"\\/", b"!", b"#"),
    *(
        b"[a-z]",
        b"[!a]",
        b"[^a]",
        b"[]a]",
        b"[",
        b"]",
        b"[a-",
        b"[\\]]",
        b"[--a]",
        b"[/]",
        b"[!]-]",
        b"[[:]",
        b"[[::]]",
    ),
    *(b"[[:alpha:]]", b"[[:space:]]", b"[[:punct:]]", b"[[:foo:]]", b"[a-[:digit:]]", b"[\x80-\xff]", b"\xc3"),
    *(b"a", b"b", b"o", b"foo", b"bar", b".", b".o", b" ", b"\\ ", b"\t", b"\r"),
]


@dataclass
class Tree:
    """A git work tree: per directory its subdirectories and its files."""

    root: bytes
    content: dict[bytes, tuple[list[bytes], list[bytes]]] = field(default_factory=dict)

    def grow(self, chance: random.Random, path: bytes = b"", depth: int = 0) -> None:
        names = chance.sample(NAMES, 12 if depth < 2 else 6)
        dirs = names[: (5, 3, 3, 0)[depth]]
        self.content[path] = (dirs, names[len(dirs) :])
        for name in names[len(dirs) :]:
            os.close(os.open(os.path.join(self.root, path, name), os.O_CREAT | os.O_WRONLY))
        for name in dirs:
            os.mkdir(os.path.join(self.root, path, name))
            self.grow(chance, _joined(path, name), depth + 1)

    def below(self, path: bytes) -> Iterator[bytes]:
        dirs, files = self.content[path]
        yield from (_joined(path, name) for name in files)
        for name in dirs:
            yield from self.below(_joined(path, name))

    def git_ignores(self, excludes: list[bytes], ignore_files: dict[bytes, bytes]) -> set[bytes]:
        Path(os.fsdecode(self.root), ".git/info/exclude").write_bytes(b"\n".join(excludes) + b"\n")
        for path, text in ignore_files.items():
            Path(os.fsdecode(os.path.join(self.root, path, b".gitignore"))).write_bytes(text)
        command = ["git", "-C", os.fsdecode(self.root), "ls-files", "-o", "-i", "--exclude-standard", "-z"]
        answer = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        for path in ignore_files:
            os.unlink(os.path.join(self.root, path, b".gitignore"))
        return {path for path in answer.split(b"\0") if path and not path.endswith(b".gitignore")}

    def we_ignore(self, excludes: list[bytes], ignore_files: dict[bytes, bytes]) -> set[bytes]:
        scope = Rules(tuple(line.removesuffix(b"\r") for line in excludes), defaults=False).root(b"/nowhere")
        if b"" in ignore_files:
            scope = scope.with_ignore_file(ignore_files[b""])
        return set(self._ignored(b"", scope, ignore_files))

    def _ignored(self, path: bytes, scope: Scope, ignore_files: dict[bytes, bytes]) -> Iterator[bytes]:
        dirs, files = self.content[path]
        yield from (_joined(path, name) for name in files if scope.excludes(name, False))
        for name in dirs:
            inner = _joined(path, name)
            if scope.excludes(name, True):
                yield from self.below(inner)
            else:
                yield from self._ignored(inner, scope.enter(name, ignore_files.get(inner)), ignore_files)


def _joined(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]) -> Tree:
    need("git")
    root = tmp_path_factory.mktemp("ignored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        subprocess.run(["git", "init", "-q", str(root)], check=True)
        subprocess.run(["git", "-C", str(root), "config", "core.ignorecase", "false"], check=True)
    tree = Tree(os.fsencode(root))
    tree.grow(random.Random(7))
    return tree


@pytest.fixture(autouse=True)
def _no_personal_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def random_pattern(chance: random.Random, paths: list[bytes]) -> bytes:
    if chance.random() < 0.35:
        pattern = b"".join(chance.choice(PIECES) for _ in range(chance.randint(1, 6)))
    else:
        parts = chance.choice(paths).split(b"/")
        parts = parts[chance.randrange(len(parts)) :] if chance.random() < 0.7 else parts
        pattern = b"/".join(_blurred(part, chance) for part in parts)
    pattern = b"/" + pattern if chance.random() < 0.25 else pattern
    pattern += chance.choice([b"", b"", b"", b"/", b" ", b"\r"])
    return b"!" + pattern if chance.random() < 0.25 else pattern


def _blurred(part: bytes, chance: random.Random) -> bytes:
    draw = chance.random()
    if draw < 0.3:
        return b"*" if draw < 0.15 else b"**"
    if draw > 0.7:
        return part
    start = chance.randint(0, len(part))
    return part[:start] + chance.choice(PIECES) + part[chance.randint(start, len(part)) :]


@pytest.mark.parametrize("seed", range(4))
def test_random_rules_and_nested_ignore_files_give_the_verdict_of_git(tree: Tree, seed: int) -> None:
    chance = random.Random(seed)
    paths = [path for path in tree.content if path] + list(tree.below(b""))
    directories = list(tree.content)
    for _ in range(150):
        excludes = [random_pattern(chance, paths) for _ in range(chance.choice([0, 1, 1, 2, 5, 20]))]
        ignore_files = {
            chance.choice(directories): b"\n".join(random_pattern(chance, paths) for _ in range(chance.randint(1, 4)))
            for _ in range(chance.choice([0, 0, 1, 3]))
        }
        expected = tree.git_ignores(excludes, ignore_files)
        assert tree.we_ignore(excludes, ignore_files) == expected, (excludes, ignore_files)


patterns = st.lists(st.sampled_from(PIECES + NAMES), min_size=1, max_size=5).map(b"".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(excludes=st.lists(patterns, max_size=4), nested=st.lists(patterns, max_size=3), where=st.integers(0, 200))
def test_shrunk_rules_give_the_verdict_of_git(
    tree: Tree, excludes: list[bytes], nested: list[bytes], where: int
) -> None:
    directories = list(tree.content)
    ignore_files = {directories[where % len(directories)]: b"\n".join(nested)} if nested else {}
    assert tree.we_ignore(excludes, ignore_files) == tree.git_ignores(excludes, ignore_files)


def test_every_byte_in_every_class_as_git_has_it(tmp_path: Path, need: Callable[[str], str]) -> None:
    need("git")
    tree = Tree(os.fsencode(tmp_path))
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    names = [b"n" + bytes([byte]) for byte in range(1, 256) if byte != 0x2F]
    tree.content[b""] = ([], names)
    for name in names:
        os.close(os.open(os.path.join(tree.root, name), os.O_CREAT | os.O_WRONLY))
    for word in b"alnum alpha blank cntrl digit graph lower print punct space upper xdigit".split():
        for pattern in (b"n[[:%b:]]" % word, b"n[^[:%b:]]" % word):
            assert tree.we_ignore([pattern], {}) == tree.git_ignores([pattern], {}), pattern
