"""A real Prometheus that scrapes one address, with Holdfast's alert rules loaded."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.servers.listening import serving

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"


class Prometheus:
    """Ask it with ``query``."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def wait(self) -> None:
        """Until it answers questions: it listens before that, and says 503."""
        until = time.monotonic() + 60
        while True:
            try:
                self.query("1")
                return
            except urllib.error.HTTPError as error:
                if error.code != 503 or time.monotonic() > until:
                    raise
            time.sleep(0.1)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that the expression gives now. Fails where Prometheus does not understand it."""
        url = f"{self._url}query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            said = json.load(answer)
        assert said["status"] == "success", said
        found: list[dict[str, Any]] = said["data"]["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """The alert rules, each with its ``health`` and ``lastError``."""
        with urllib.request.urlopen(f"{self._url}rules", timeout=30) as answer:
            groups = json.load(answer)["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


Scraping = Callable[[int], Any]


@pytest.fixture
def prometheus(need: Callable[[str], str], tmp_path: Path) -> Scraping:
    """``with prometheus(port) as server``: it scrapes 127.0.0.1:port every half second."""
    program = need("prometheus")

    @contextmanager
    def scraping(port: int) -> Iterator[Prometheus]:
        config = tmp_path / "prometheus.yml"
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"},
                    "rule_files": [str(RULES)],
                    "scrape_configs": [
                        {"job_name": "holdfast", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
                    ],
                }
            )
        )

        def command(own: int) -> list[str]:
            return [
                program,
                f"--config.file={config}",
                f"--web.listen-address=127.0.0.1:{own}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                "--log.level=warn",
            ]

        with serving(command, tmp_path / "prometheus.log") as own:
            server = Prometheus(own)
            server.wait()
            yield server

    return scraping
