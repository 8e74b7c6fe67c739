"""Training: the time split, the loop, early stopping, seeds."""
