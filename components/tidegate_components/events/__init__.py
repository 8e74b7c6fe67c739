"""Events: ingest, cleaning and the sample join. Every row that comes in goes on or is quarantined with a reason."""
