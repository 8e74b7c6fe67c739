"""The kopf operators that reconcile FeatureView and ModelDeployment."""
