"""Evaluation: metrics, baselines of the same run, slices, the champion gate, a report that people read."""
