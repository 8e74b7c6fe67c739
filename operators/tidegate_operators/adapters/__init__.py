"""The only I/O of the operator: cluster, Prometheus and the registry, each a handful of verbs."""
