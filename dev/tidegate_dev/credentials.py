"""Certificates, tokens and kubeconfig files, made anew for every cluster."""

import base64
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from tidegate_dev import addresses, commands, paths

_DAYS = "365"


@dataclass(frozen=True)
class User:
    """One who speaks to the API server by token; `groups` gives the rights."""

    name: str
    account: str
    groups: tuple[str, ...] = ()


ADMIN = User("admin", "tidegate-admin", ("system:masters",))
USERS = (
    ADMIN,
    User("controller-manager", "system:kube-controller-manager"),
    User("scheduler", "system:kube-scheduler"),
    User("kubelet", f"system:node:{addresses.NODE_NAME}", ("system:nodes",)),
    User("proxy", "system:kube-proxy"),
)


def create() -> None:
    """Make authority, certificates, service account key, token file and one kubeconfig for each user."""
    paths.PKI.mkdir(parents=True, exist_ok=True, mode=0o700)
    _authority()
    _certificate("api-server", "/CN=kube-apiserver", _api_server_names())
    _certificate("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
    _certificate("front-proxy", "/CN=front-proxy-client")
    service_account = str(paths.PKI / "service-account.key")
    _openssl("genrsa", "-out", service_account, "2048")
    _openssl("rsa", "-in", service_account, "-pubout", "-out", str(paths.PKI / "service-account.pub"))
    _tokens_and_kubeconfigs()


def kubeconfig(user: User) -> Path:
    """Return where the user's kubeconfig for use inside the cluster's network lies."""
    return paths.PKI / f"{user.name}.kubeconfig"


def by_name(name: str) -> User:
    """Return the user of that name."""
    return next(user for user in USERS if user.name == name)


def _authority() -> None:
    key, certificate = paths.PKI / "ca.key", paths.PKI / "ca.crt"
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
    subject = ["-subj", "/CN=tidegate", "-days", _DAYS]
    _openssl("req", "-x509", "-new", "-key", str(key), *subject, "-out", str(certificate))


def _certificate(name: str, subject: str, alternative_names: str = "DNS:localhost") -> None:
    key, request, extensions = (paths.PKI / f"{name}.{suffix}" for suffix in ("key", "csr", "ext"))
    extensions.write_text(f"subjectAltName={alternative_names}\nextendedKeyUsage=serverAuth,clientAuth\n")
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
    _openssl("req", "-new", "-key", str(key), "-subj", subject, "-out", str(request))
    signer = ["-CA", str(paths.PKI / "ca.crt"), "-CAkey", str(paths.PKI / "ca.key"), "-CAcreateserial"]
    made = ["-extfile", str(extensions), "-days", _DAYS, "-out", str(paths.PKI / f"{name}.crt")]
    _openssl("x509", "-req", "-in", str(request), *signer, *made)


def _api_server_names() -> str:
    hosts = ["127.0.0.1", addresses.GATE, addresses.NODE, addresses.KUBERNETES_SERVICE]
    service = "kubernetes.default.svc"
    names = ["localhost", "kubernetes", "kubernetes.default", service, f"{service}.{addresses.DOMAIN}"]
    return ",".join([*(f"IP:{host}" for host in hosts), *(f"DNS:{name}" for name in names)])


def _openssl(*words: str) -> None:
    commands.run_long(["openssl", *words])


def _tokens_and_kubeconfigs() -> None:
    lines = []
    for user in USERS:
        token = secrets.token_hex(20)
        lines.append(f'{token},{user.account},{user.name},"{",".join(user.groups)}"')
        _write_private(kubeconfig(user), _kubeconfig(user, token, "127.0.0.1"))
        if user is ADMIN:
            _write_private(paths.KUBECONFIG, _kubeconfig(user, token, addresses.GATE))
    _write_private(paths.PKI / "tokens.csv", "\n".join(lines) + "\n")


def _write_private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    os.chmod(file, 0o600)
    file.write_text(text)


def _kubeconfig(user: User, token: str, host: str) -> str:
    authority = base64.b64encode((paths.PKI / "ca.crt").read_bytes()).decode()
    return f"""\
apiVersion: v1
kind: Config
current-context: tidegate
clusters:
- name: tidegate
  cluster:
    server: {addresses.api_server(host)}
    certificate-authority-data: {authority}
contexts:
- name: tidegate
  context: {{cluster: tidegate, user: {user.name}, namespace: default}}
users:
- name: {user.name}
  user: {{token: {token}}}
"""
