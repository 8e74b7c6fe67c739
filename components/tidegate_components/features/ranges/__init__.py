"""Aggregates over many ranges [lo, hi) of one array at once, in numpy. Pure: arrays in, arrays out."""
