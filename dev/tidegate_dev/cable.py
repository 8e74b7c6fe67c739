"""The virtual cable between the machine and the cluster's private network, and the machine's routes over it."""

import ipaddress
import json
import shutil

from tidegate_dev import addresses, commands
from tidegate_dev.errors import CommandError, UnsupportedError

OUTSIDE = "tidegate0"
INSIDE = "uplink"


def inside_setup() -> list[list[str]]:
    """Return the commands that prepare the private network before the cable comes: loopback, node address, routing."""
    return [
        ["ip", "link", "set", "lo", "up"],
        ["ip", "link", "add", "node", "type", "bridge"],
        ["ip", "address", "add", f"{addresses.NODE}/24", "dev", "node"],
        ["ip", "link", "set", "node", "up"],
        ["ip", "route", "add", "default", "dev", "node"],
    ]


def plug_in(namespace_pid: int) -> None:
    """Lay the cable into the network namespace of the process and set the machine's routes."""
    unplug()
    peer = ["peer", "name", INSIDE, "netns", str(namespace_pid)]
    inside = ["nsenter", "-t", str(namespace_pid), "-n", "ip"]
    for command in [
        ["ip", "link", "add", OUTSIDE, "type", "veth", *peer],
        [*inside, "address", "add", f"{addresses.GATE}/30", "dev", INSIDE],
        [*inside, "link", "set", INSIDE, "up"],
        ["ip", "address", "add", f"{addresses.MACHINE}/30", "dev", OUTSIDE],
        ["ip", "link", "set", OUTSIDE, "up"],
        *(["ip", "route", "add", net, "via", addresses.GATE] for net in addresses.REACHED_FROM_MACHINE),
    ]:
        commands.run(command)


def is_plugged_in() -> bool:
    """Tell whether the machine's end of the cable is there and up with its address."""
    if not _exists():
        return False
    return addresses.MACHINE in commands.run(["ip", "-4", "address", "show", "dev", OUTSIDE])


def unplug() -> None:
    """Take the cable away, and with it the address and all routes; fine if there is none."""
    try:
        commands.run(["ip", "link", "delete", OUTSIDE])
    except CommandError:
        if _exists():  # else it went by itself, with the namespace at its other end
            raise


def _exists() -> bool:
    return commands.succeeds(["ip", "link", "show", "dev", OUTSIDE])


def check_addresses_free() -> None:
    """Raise UnsupportedError when the machine already routes one of our networks elsewhere."""
    if shutil.which("ip") is None:
        return
    ours = [ipaddress.ip_network(net) for net in (addresses.CABLE, *addresses.REACHED_FROM_MACHINE)]
    for route in json.loads(commands.run(["ip", "-json", "-4", "route", "show"])):
        taken = route["dst"] != "default" and ipaddress.ip_network(route["dst"], strict=False)
        if taken and route.get("dev") != OUTSIDE and any(net.overlaps(taken) for net in ours):
            raise UnsupportedError(
                f"the machine routes {route['dst']} by {route.get('dev')}, which overlaps the cluster's own networks: "
                "free it, start Docker so that kind can be used, or set KUBECONFIG to a cluster"
            )
