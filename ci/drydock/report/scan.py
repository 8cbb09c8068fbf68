"""What the scanner found, and the updates that apt-get offers."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from drydock.report.base import Time, Value


class PendingUpdate(Value):
    """A system package with a newer version, and whether that is a security update."""

    package: str
    installed_version: str
    available_version: str
    security: bool


class Updates(Value):
    """The pending updates, as the image's package manager lists them; `reason` if it could not be asked."""

    pending: tuple[PendingUpdate, ...] = ()
    reason: str = ""

    @property
    def security(self) -> tuple[PendingUpdate, ...]:
        """The pending security updates."""
        return tuple(update for update in self.pending if update.security)


class Finding(Value):
    """One vulnerability in one package.

    `fixed_version` is empty if no fix exists, `published_at` if it is not known.
    """

    id: str
    package: str
    installed_version: str
    fixed_version: str
    severity: str
    title: str = ""
    published_at: str = Field(default="", description="ISO 8601, as the advisory has it")
    url: str = ""


class Secret(Value):
    """A secret that the scanner found: its file and its rule, never its text."""

    rule: str
    target: str
    severity: str


class Canary(Value):
    """The self-test: what the scanner must find in a vulnerable image, and what it found."""

    expected: tuple[str, ...]
    found: tuple[str, ...]

    @property
    def missed(self) -> tuple[str, ...]:
        """What the scanner should have found and did not."""
        return tuple(name for name in self.expected if name not in self.found)


class Scan(Value):
    """The packages that the scanner saw, and its findings, with the database and its age."""

    scanned_at: Time
    scanner_version: str
    canary: Canary
    database_source: str
    database_is_sample: bool
    database_version: str
    database_updated_at: Time
    database_digest: str
    config_digest: str
    os_family: str
    os_version: str
    os_end_of_life: bool = Field(description="whether this version gets no advisories any more")
    os_packages: int = Field(description="the number of system packages that the scanner saw")
    python_packages: dict[str, str] = Field(description="name to version, from the scanner")
    locked_packages: dict[str, str] = Field(description="name to version, from the image's lock file")
    findings: tuple[Finding, ...]
    secrets: tuple[Secret, ...]
    # What is signed, and so never read again from a file that somebody else may write; a file of its own in the report.
    sbom: str = Field(default="", exclude=True, repr=False)

    @property
    def unseen_packages(self) -> tuple[str, ...]:
        """The locked packages that the scanner did not see in their locked version."""
        return tuple(
            sorted(name for name, version in self.locked_packages.items() if self.python_packages.get(name) != version)
        )

    @property
    def package_count(self) -> int:
        """The number of system and Python packages."""
        return self.os_packages + len(self.python_packages)

    @property
    def database_age_hours(self) -> float:
        """The age of the database at the time of the scan."""
        age = datetime.fromisoformat(self.scanned_at) - datetime.fromisoformat(self.database_updated_at)
        return age.total_seconds() / 3600
