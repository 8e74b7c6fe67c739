"""The addresses of the cluster: fixed, and the same wherever it runs."""

NODE_NAME = "tidegate"
NODE = "10.0.99.1"
GATE = "10.0.98.1"
"""The cluster's end of the cable to the machine; the API server answers here."""
MACHINE = "10.0.98.2"
"""The machine's own end."""
CABLE = "10.0.98.0/30"
SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/24"
KUBERNETES_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
API_PORT = 6443
DOMAIN = "cluster.local"

REACHED_FROM_MACHINE = (SERVICES, PODS, f"{NODE}/32")
"""Networks that the machine reaches through the gate."""


def api_server(host: str) -> str:
    """Return the URL of the API server at one of its addresses."""
    return f"https://{host}:{API_PORT}"
