"""What kopf calls: parse, observe, decide, apply, write the status. triggers.py lists every trigger."""
