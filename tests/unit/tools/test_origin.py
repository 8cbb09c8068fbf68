from __future__ import annotations

import pytest

from drydock.tools import origin

GITHUB = "https://github.com/owner/name"
# Each has the word secret if, and only if, it has a credential.
ADDRESSES = [
    ("https://github.com/owner/name", GITHUB),
    ("https://github.com/owner/name.git", GITHUB),
    ("https://github.com/owner/name/", GITHUB),
    ("https://github.com/owner/name.git/", GITHUB),
    ("https://github.com/owner/name/.git", GITHUB),
    ("https://GitHub.com//owner//name.git", GITHUB),
    (f"  {GITHUB}\n", GITHUB),
    ("https://github.com:443/owner/name.git", GITHUB),
    ("http://git.example:80/owner/name", "http://git.example/owner/name"),
    ("https://git.example:8443/owner/name.git", "https://git.example:8443/owner/name"),
    ("http://gitserver:3000/owner/name", "http://gitserver:3000/owner/name"),
    ("https://user:secret@github.com/owner/name.git", GITHUB),
    ("https://secret@github.com/owner/name", GITHUB),
    ("https://user:p@secret@github.com/owner/name", GITHUB),
    ("https://me%40corp.example:secret@github.com/owner/name", GITHUB),
    ("https://x-access-token:secret@git.example:8443/owner/name", "https://git.example:8443/owner/name"),
    ("https://github.com/owner/name?access_token=secret", GITHUB),
    ("https://github.com/owner/name.git?private_token=secret#secret", GITHUB),
    ("https://user:1/secret@github.com/owner/name", ""),
    ("https://user:1#secret@github.com/owner/name", ""),
    ("https://user:1?secret@github.com/owner/name", ""),
    ("https://user:se/cret@github.com/owner/name", ""),
    ("https://[2001:DB8::1]:8443/owner/name.git", "https://[2001:db8::1]:8443/owner/name"),
    ("ssh://git@[2001:db8::1]:22/owner/name.git", "https://[2001:db8::1]/owner/name"),
    ("git@[2001:db8::1]:owner/name.git", "https://[2001:db8::1]/owner/name"),
    ("ssh://git@github.com/owner/name.git", GITHUB),
    ("ssh://github.com/owner/name", GITHUB),
    ("ssh://git@github.com:22/owner/name.git", GITHUB),
    ("ssh://git@git.example:2222/owner/name.git", "https://git.example/owner/name"),
    ("ssh://org-42@github.com/owner/name.git", GITHUB),
    ("ssh://user:secret@git.example/owner/name", "https://git.example/owner/name"),
    ("ssh://git@ssh.github.com:443/owner/name.git", GITHUB),
    ("git+ssh://git@github.com/owner/name", GITHUB),
    ("git://github.com/owner/name.git", GITHUB),
    ("git://git.example:9418/owner/name.git", "https://git.example/owner/name"),
    ("git+https://github.com/owner/name", GITHUB),
    ("git@github.com:owner/name.git", GITHUB),
    ("git@github.com:/owner/name.git/", GITHUB),
    ("org-42@github.com:owner/name.git", GITHUB),
    ("github.com:owner/name.git", GITHUB),
    ("git@gitlab.example:group/sub/name.git", "https://gitlab.example/group/sub/name"),
    ("user:secret@github.com:owner/name.git", ""),
    # What others cannot open: an alias, a home, a machine's own files.
    ("git@office:owner/name.git", ""),
    ("ssh://office/owner/name", ""),
    ("git@git.example:~user/name.git", ""),
    ("git@ssh.dev.azure.com:v3/org/project/name", ""),
    ("/srv/git/name.git", ""),
    ("../name.git", ""),
    ("./a:b", ""),
    ("C:\\\\git\\\\name", ""),
    ("file:///srv/git/name.git", ""),
    ("file://user:secret@git.example/name.git", ""),
    ("ext::ssh -i secret git.example %S owner/name", ""),
    ("codecommit::eu-central-1://secret@name", ""),
    ("ftp://git.example/owner/name", ""),
    ("https://github.com", ""),
    ("https://github.com/", ""),
    ("https://github.com/.git", ""),
    ("https://git.example:port/owner/name", ""),
    ("https://git.example:99999/owner/name", ""),
    ("https://[::1/owner/name", ""),
    ("https://git.example/owner/../../name", ""),
    ("https://git.example/owner/a name", ""),
    ("https://git.example/<script>", ""),
    ("https://git.\u00e9xample/owner/name", ""),
    ("javascript://git.example/%0aalert(1)", ""),
    ("", ""),
]


@pytest.mark.parametrize(("remote", "address"), ADDRESSES)
def test_a_remote_is_a_web_address_without_a_credential_or_nothing(remote: str, address: str) -> None:
    assert origin.parse_web_address(remote) == address
    assert "secret" not in address
    assert "user" not in address
