"""Rewriting snapshots: trees made anew without what is to go, and the snapshots that refer to them."""

from holdfast.vaults.archive.rewrite.exclude import RewriteOptions, RewriteSummary, rewrite

__all__ = ["RewriteOptions", "RewriteSummary", "rewrite"]
