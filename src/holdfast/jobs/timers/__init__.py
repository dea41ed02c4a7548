"""Who on this machine starts work at its time: cron, systemd or launchd, each behind the protocol in ``base``."""
