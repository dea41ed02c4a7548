"""The words that all rooms share: errors, events, identifiers, time, cancelling, secrets, a process pool."""
