"""DAGs made of the steps, and the tidegate command line."""
