"""Features: one definition (the FeatureView) for both stores: SQL, point-in-time join, materialization, reads."""
