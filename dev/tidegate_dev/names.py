"""Asking a name server, to know that the cluster's own one answers."""

import secrets
import socket

_TYPE_A, _CLASS_IN = 1, 1


def answers(server: str, name: str, timeout: float = 1.0) -> bool:
    """Tell whether the server has an address for the name (RFC 1035, one question over UDP)."""
    query = _query(name)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.settimeout(timeout)
            channel.sendto(query, (server, 53))
            answer = channel.recv(512)
    except OSError:
        return False
    return answer[:2] == query[:2] and int.from_bytes(answer[6:8], "big") > 0


def _query(name: str) -> bytes:
    header = secrets.token_bytes(2) + bytes([1, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return header + labels + bytes([0, 0, _TYPE_A, 0, _CLASS_IN])
