"""Use case: metrics for Prometheus, counted from the journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast import __version__
from holdfast.app.context import Context, hostname
from holdfast.app.journal import open_journal
from holdfast.config.outputsettings import MetricsChoice, expected_seconds, metrics_choice
from holdfast.config.words import is_name
from holdfast.kernel.errors import HoldfastError
from holdfast.monitor.metrics.exposed import Expected, View, registry
from holdfast.monitor.metrics.fold import OTHER, Places
from holdfast.monitor.metrics.store import State, advance, state
from holdfast.storage.locations import text_is_remote

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from holdfast.config.settings import Settings

DEFAULT = "default"
"""What the default vault is called that no configuration names."""


def metrics_text(context: Context) -> bytes:
    """All metrics as Prometheus reads them. Raises what opening the journal raises."""
    from prometheus_client.exposition import generate_latest

    found = _state(context)
    started = context.clock.monotonic()
    return generate_latest(registry(lambda: _view(context, found, context.clock.monotonic() - started)))


def write_metrics(context: Context, path: Path) -> int:
    """Write them into the file ``path`` for node_exporter (see ``write_textfile``); returns its bytes.

    A journal that cannot be read is told by ``holdfast_up 0`` in the file, and raised afterwards.
    """
    from prometheus_client.exposition import generate_latest

    from holdfast.monitor.metrics.textfile import write_textfile

    failed: HoldfastError | None = None
    try:
        text = metrics_text(context)
    except HoldfastError as error:
        failed, text = error, generate_latest(registry(lambda: _view(context, None, 0.0)))
    write_textfile(path, text)
    if failed is not None:
        raise failed
    return len(text)


def served(context: Context, on_trouble: Callable[[str], None]) -> CollectorRegistry:
    """What a server shows: brought up to date at each scrape. A journal that cannot be read is ``holdfast_up 0``, and
    ``on_trouble`` hears why."""

    def view() -> View:
        started = context.clock.monotonic()
        try:
            found: State | None = _state(context)
        except HoldfastError as error:
            on_trouble(f"no metrics but holdfast_up 0: {error.message}")
            found = None
        return _view(context, found, context.clock.monotonic() - started)

    return registry(view)


def choice(context: Context) -> MetricsChoice:
    """What the configuration says about serving."""
    settings = _settings(context)
    return metrics_choice(None if settings is None else settings.loaded.configuration)


def places(settings: Settings | None, default_location: str) -> Places:
    """What labels vaults get: their names; ``default`` for the built-in one; ``other`` for every other location.

    A text that could be a name keeps it: it is one of another machine's, or was one.
    """
    by_location = {default_location: DEFAULT}
    locations: dict[str, str] = {}
    for name in [] if settings is None else settings.vault_names:
        vault = settings.vault(name) if settings is not None else None
        if vault is not None:
            by_location[vault.location] = name
            locations[name] = vault.location

    def label(text: str) -> str:
        return by_location.get(text) or (text if not text or is_name(text) else OTHER)

    return Places(label, lambda text: text_is_remote(locations.get(text, text)))


def _settings(context: Context) -> Settings | None:
    return None if context.configured is None else context.configured.settings()


def _state(context: Context) -> State:
    with open_journal(context) as journal:
        advance(journal, places(_settings(context), str(context.paths.default_vault)), context.clock)
        return state(journal)


def _view(context: Context, found: State | None, seconds: float) -> View:
    settings = _settings(context)
    expected = Expected(host=hostname())
    if settings is not None:
        expected = Expected(tuple(settings.plan_names), expected_seconds(settings.loaded.configuration), hostname())
    return View(found, expected, context.clock.now_ns(), __version__, seconds)
