"""The report: what a day or a week brought, and what was expected and did not come, all from the journal."""
