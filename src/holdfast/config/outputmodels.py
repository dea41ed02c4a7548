"""What ``holdfast.yaml`` may say about logs, metrics and Sentry."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from holdfast.config.fields import Address, Count, Section, Text, Variable


class Logs(Section):
    """The files of the log in the state folder."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is written.")
    keep: Count = Field(30, description="Days that are kept beside today's, or unlimited.")


class Metrics(Section):
    """Metrics for Prometheus."""

    listen: Address = Field("127.0.0.1:9797", description="Where 'holdfast metrics --listen' answers.")
    expose: bool = Field(False, description="Whether other machines may reach it; metrics ask for no password.")


class Sentry(Section):
    """Where errors are reported to. Needs the extra 'sentry'."""

    dsn_file: Text | None = Field(None, description="A file that holds the project's DSN.")
    dsn_env: Variable | None = Field(None, description="The name of an environment variable that holds the DSN.")
    level: Literal["warning", "error", "critical"] = Field("error", description="The least that is reported.")
    environment: Text | None = Field(None, description="Such as production.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.dsn_file is None) == (self.dsn_env is None):
            raise ValueError("one of dsn_file and dsn_env is wanted")
        return self
