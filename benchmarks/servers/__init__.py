"""What `benchmarks/serving.py` asks, and what it asks with."""
