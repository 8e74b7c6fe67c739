"""Registry: runs, model versions and aliases in MLflow. Nothing else in components talks to it."""
