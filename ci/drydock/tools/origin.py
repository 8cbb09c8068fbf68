"""A remote of git's as a web address, as a public label says it: no credential stays in it. Pure."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

WEB = ("https", "http")
# https://git-scm.com/docs/git-clone#_git_urls
OTHERS = ("ssh", "git", "git+ssh", "ssh+git", "git+https", "git+http")
DEFAULT_PORTS = {"https": 443, "http": 80}
# host:path, which git takes for SSH if no slash comes before the colon.
SCP = re.compile(r"(?P<host>(?:[^/:]*@)?(?:\[[0-9A-Fa-f:.]+\]|[^/:@\[\]]+)):(?P<path>[^:].*)")
HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
PATH = re.compile(r"(/[A-Za-z0-9._~+%-]+)+")
# The hosts for SSH behind a firewall, each with the host of its pages. Empty if the paths there differ.
SSH_HOSTS = {
    "ssh.github.com": "github.com",
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
    "ssh.dev.azure.com": "",
}


def parse_web_address(remote: str) -> str:
    """The web address of a remote; empty if it cannot be read as one.

    User, password, query and fragment are dropped. The port is kept only if it is one of the web: 2222 is SSH's.
    """
    remote = remote.strip()
    if "://" not in remote:
        scp = SCP.fullmatch(remote)
        if scp is None:
            return ""
        remote = f"ssh://{scp['host']}/{scp['path'].removeprefix('/')}"
    try:
        parts = urlsplit(remote)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    # A password with a slash, a # or a ? in it ends the host too early, and the rest is all that follows.
    if "@" in f"{parts.path}?{parts.query}#{parts.fragment}":
        return ""
    scheme = parts.scheme.removeprefix("git+") if parts.scheme in OTHERS else parts.scheme
    path = re.sub(r"/{2,}", "/", parts.path).rstrip("/").removesuffix(".git").rstrip("/")
    if not PATH.fullmatch(path) or any(part in (".", "..") or part.startswith("~") for part in path.split("/")):
        return ""
    if scheme in WEB:
        web_host = _parse_host(host)
        suffix = f":{port}" if port not in (None, DEFAULT_PORTS[scheme]) else ""
        return f"{scheme}://{web_host}{suffix}{path}" if web_host else ""
    # A name without a dot is an alias of the user's own SSH configuration, and no host that others know.
    web_host = _parse_host(SSH_HOSTS.get(host, host)) if parts.scheme in OTHERS and re.search("[.:]", host) else ""
    return f"https://{web_host}{path}" if web_host else ""


def _parse_host(name: str) -> str:
    """The host as an address has it; empty if it is none."""
    if ":" not in name:
        return name if HOST.fullmatch(name) else ""
    try:
        return f"[{ipaddress.IPv6Address(name)}]"
    except ValueError:
        return ""
