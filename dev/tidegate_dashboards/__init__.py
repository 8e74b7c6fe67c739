"""Grafana dashboards of Tidegate, as code. `make dashboards` writes them to manifests/monitoring/dashboards."""
