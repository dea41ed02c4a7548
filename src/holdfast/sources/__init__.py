"""What is protected, as entries: trees of files (databases and command output come later)."""
