"""Values without behaviour: what a run measured, judged and published. Each is frozen, and written as JSON.

Sizes are in bytes and MB is 10^6 bytes. The size of a layer is the sum of its files, uncompressed. The size of an
image is the sum of its layers, as `docker images` shows it. Ages are counted from the report's own times, so a report
always says the same.
"""

from drydock.report.base import MB as MB
from drydock.report.base import Day as Day
from drydock.report.base import Time as Time
from drydock.report.base import Value as Value
from drydock.report.drift import Drift as Drift
from drydock.report.image import Archive as Archive
from drydock.report.image import Change as Change
from drydock.report.image import Comparison as Comparison
from drydock.report.image import Contributor as Contributor
from drydock.report.image import File as File
from drydock.report.image import Image as Image
from drydock.report.image import Layer as Layer
from drydock.report.image import Package as Package
from drydock.report.image import Waste as Waste
from drydock.report.model import PLAIN_NAME as PLAIN_NAME
from drydock.report.model import Artifact as Artifact
from drydock.report.model import Contract as Contract
from drydock.report.model import Equivalence as Equivalence
from drydock.report.model import Feature as Feature
from drydock.report.model import GoldenAnswer as GoldenAnswer
from drydock.report.model import GoldenRow as GoldenRow
from drydock.report.model import Holdout as Holdout
from drydock.report.model import Label as Label
from drydock.report.model import Model as Model
from drydock.report.model import ModelDescription as ModelDescription
from drydock.report.model import Output as Output
from drydock.report.model import Task as Task
from drydock.report.run import Assessment as Assessment
from drydock.report.run import Failure as Failure
from drydock.report.run import Publication as Publication
from drydock.report.run import Release as Release
from drydock.report.run import Report as Report
from drydock.report.run import Signing as Signing
from drydock.report.run import Stage as Stage
from drydock.report.scan import Canary as Canary
from drydock.report.scan import Finding as Finding
from drydock.report.scan import PendingUpdate as PendingUpdate
from drydock.report.scan import Scan as Scan
from drydock.report.scan import Secret as Secret
from drydock.report.scan import Updates as Updates
from drydock.report.smoke import Answer as Answer
from drydock.report.smoke import Malformed as Malformed
from drydock.report.smoke import Smoke as Smoke
from drydock.report.source import Images as Images
from drydock.report.source import Revision as Revision
from drydock.report.verdict import CheckResult as CheckResult
from drydock.report.verdict import Disposition as Disposition
from drydock.report.verdict import Ignore as Ignore
from drydock.report.verdict import IgnoreState as IgnoreState
from drydock.report.verdict import JudgedFinding as JudgedFinding
from drydock.report.verdict import Verdict as Verdict
