"""The steps that bring a journal of any age to the tables of this version."""
