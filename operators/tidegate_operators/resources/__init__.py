"""The objects that should be, as returned values. Pure: nothing here talks to a cluster."""
