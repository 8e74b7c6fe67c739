"""Both resources and model.json as typed values. Pure; every room may import it."""
