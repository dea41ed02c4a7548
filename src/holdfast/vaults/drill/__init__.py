"""Drills over any vault: choose, restore into a scratch place, and compare every byte that was written."""
