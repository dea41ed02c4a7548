"""The user's file system: entries and their metadata, what to leave out, and writing back without leaving the target.

Import from the modules themselves (``holdfast.files.rules``, ``holdfast.files.target``, ...): a program that only scans
does not pay for the code that restores.
"""
