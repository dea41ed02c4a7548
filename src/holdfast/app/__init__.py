"""Use cases, one a file, and the place where the rooms meet: what every face calls."""
