"""Metrics for Prometheus, counted from the facts in the journal."""
