"""Features: one definition (the FeatureView) for training and serving: SQL, point-in-time join, materialization, reads."""
