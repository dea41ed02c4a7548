"""Which configuration file counts, that nobody else may have written it, and what a name means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.config.locate import Configured
from holdfast.kernel.errors import Denied, Invalid, NotFound


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    (home / ".config/holdfast").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return home


def written(path: Path, text: str = "", mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_order_of_places(home: Path, tmp_path: Path) -> None:
    environ = {"HOME": str(home)}
    user = written(home / ".config/holdfast/holdfast.yaml")
    assert Configured(None, environ).find() == user
    here = written(tmp_path / "work/holdfast.yaml")
    assert Configured(None, environ).find() == here
    named = written(tmp_path / "named.yaml")
    assert Configured(None, {**environ, "HOLDFAST_CONFIG": str(named)}).find() == named
    chosen = written(tmp_path / "chosen.yaml")
    assert Configured(str(chosen), {**environ, "HOLDFAST_CONFIG": str(named)}).find() == chosen
    with pytest.raises(NotFound, match="no configuration file at"):
        Configured(str(tmp_path / "missing.yaml"), environ).settings()


def test_a_file_that_others_may_write_is_not_used_unless_it_is_named(home: Path, tmp_path: Path) -> None:
    here = written(tmp_path / "work/holdfast.yaml", mode=0o666)
    with pytest.raises(Denied, match="others may write to it"):
        Configured(None, {"HOME": str(home)}).settings()
    assert Configured(str(here), {"HOME": str(home)}).settings() is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_used_unless_it_is_named(home: Path, tmp_path: Path) -> None:
    here = written(tmp_path / "work/holdfast.yaml")
    os.chown(here, 12345, 12345)
    with pytest.raises(Denied, match="belongs to another user"):
        Configured(None, {"HOME": str(home)}).settings()
    assert Configured(str(here), {"HOME": str(home)}).settings() is not None


def test_a_location_never_reads_the_file(home: Path, tmp_path: Path) -> None:
    written(tmp_path / "work/holdfast.yaml", "this is: [broken")
    configured = Configured(None, {"HOME": str(home)})
    for location in ("/srv/v", "./v", "../v", "a/b", "sftp:host:/x", "s3:bucket", "~/v"):
        assert configured.vault(location) is None
    with pytest.raises(Invalid, match="no YAML"):
        configured.vault("v")


def test_a_name_wins_over_a_folder_of_that_name(home: Path, tmp_path: Path) -> None:
    written(tmp_path / "work/holdfast.yaml", "vaults: {v: {location: /v}}")
    (tmp_path / "work/v").mkdir()
    configured = Configured(None, {"HOME": str(home)})
    found = configured.vault("v")
    assert found is not None and found.location == "/v"
    assert configured.vault("w") is None
    assert configured.vault("./v") is None
    default = configured.vault(None)
    assert default is not None and default.name == "v"


def test_without_a_file_there_are_no_names(home: Path) -> None:
    configured = Configured(None, {"HOME": str(home)})
    if configured.find() is not None:
        pytest.skip("this machine has a system-wide configuration")
    assert (configured.vault("v"), configured.vault(None), configured.plans()) == (None, None, [])
    with pytest.raises(NotFound, match="no configuration file"):
        configured.required()
