"""The report: what a day or a week brought, what was expected and did not come, all from the journal; as text, JSON, HTML."""
