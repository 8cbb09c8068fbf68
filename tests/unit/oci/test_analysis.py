from __future__ import annotations

import pytest

from drydock.oci import analysis
from drydock.oci.analysis import DUPLICATE_BYTES, Entry, FileChange, InstalledPackage
from drydock.report import Change, Comparison, Contributor, File, Package, Waste
from tests.support import examples

SITE = "opt/venv/lib/python3.13/site-packages"


def record(path: str, *lines: str) -> Entry:
    return Entry(path, content="".join(f"{line}\n" for line in lines).encode())


def lies(*layers: list[Entry]) -> tuple[tuple[analysis.LayerDiff, ...], analysis.FileSystem]:
    return analysis.apply_layers(layers)


def wasted(*layers: list[Entry]) -> list[tuple[str, int, int, str]]:
    return [(item.path, item.size_bytes, item.layer, item.why) for item in analysis.find_waste(*lies(*layers))]


# --- layers over layers ---------------------------------------------------------------------------------------------


def test_a_later_layer_adds_replaces_and_removes() -> None:
    written, file_system = lies(
        [Entry("a", 1), Entry("b", 2), Entry("c", 3)], [Entry("b", 20), Entry(".wh.c"), Entry("d", 40)]
    )
    assert {path: (placed.entry.size_bytes, placed.layer) for path, placed in file_system.items()} == {
        "a": (1, 1),
        "b": (20, 2),
        "d": (40, 2),
    }
    assert [(layer.size_bytes, layer.added, layer.replaced, layer.removed) for layer in written] == [
        (6, 3, 0, 0),
        (60, 1, 1, 1),
    ]
    assert analysis.list_changes(written[1]) == (
        FileChange("+", "d", 40),
        FileChange("~", "b", 20),
        FileChange("-", "c", 3),
    )
    assert analysis.find_waste(written, file_system) == (
        Waste(path="c", size_bytes=3, layer=1, why="removed"),
        Waste(path="b", size_bytes=2, layer=1, why="replaced"),
    )


@pytest.mark.parametrize(
    ("later", "left"),
    [
        ([Entry("opt/.wh.pip")], {"opt/pip.py", "opt/deep/a"}),
        ([Entry("opt/.wh..wh..opq")], set()),
        ([Entry(".wh..wh..opq")], set()),
        # A whiteout takes nothing of its own layer, wherever it stands in it.
        ([Entry("opt/new", 1), Entry("opt/.wh..wh..opq"), Entry("opt/pip.py", 1)], {"opt/new", "opt/pip.py"}),
        ([Entry("opt/.wh.pip"), Entry("opt/pip", is_folder=True), Entry("opt/pip/c", 1)],
         {"opt/pip.py", "opt/deep/a", "opt/pip/c"}),
        # A file or a link in the place of a folder, and the other way round.
        ([Entry("opt/pip")], {"opt/pip", "opt/pip.py", "opt/deep/a"}),
        ([Entry("opt/pip.py", is_folder=True), Entry("opt/pip.py/a", 1)],
         {"opt/pip/a", "opt/pip/b/c", "opt/pip.py/a", "opt/deep/a"}),
        # A folder that is said again keeps what it has.
        ([Entry("opt", is_folder=True), Entry("", is_folder=True)],
         {"opt/pip/a", "opt/pip/b/c", "opt/pip.py", "opt/deep/a"}),
    ],
)  # fmt: skip
def test_what_is_left_under_a_later_layer(later: list[Entry], left: set[str]) -> None:
    base = [Entry("opt/pip/a", 1), Entry("opt/pip/b/c", 2), Entry("opt/pip.py", 3), Entry("opt/deep/a", 4)]
    written, file_system = lies(base, later)
    assert set(file_system) == left
    assert written[1].removed == len({entry.path for entry in base} - left - written[1].files.keys())


def test_what_is_removed_and_written_again_in_one_layer_is_replaced() -> None:
    assert wasted([Entry("d/a", 5)], [Entry("d/.wh..wh..opq"), Entry("d/a", 6)]) == [("d/a", 5, 1, "replaced")]


def test_each_layer_wastes_what_the_next_one_hides() -> None:
    assert wasted([Entry("a", 1)], [Entry("a", 2)], [Entry(".wh.a")]) == [
        ("a", 2, 2, "removed"),
        ("a", 1, 1, "replaced"),
    ]


def test_of_several_copies_all_but_the_first_are_waste() -> None:
    big = DUPLICATE_BYTES
    copies = [Entry("z", big, sha256="same"), Entry("other", big, sha256="other")]
    later = [Entry("b", big, sha256="same"), Entry("a", big, sha256="same")]
    assert wasted(copies, later) == [("a", big, 2, "duplicate"), ("b", big, 2, "duplicate")]
    assert wasted(later) == [("b", big, 1, "duplicate")]


def test_a_copy_that_is_hidden_is_wasted_once() -> None:
    same = [Entry("a", 9, sha256="same"), Entry("b", 9, sha256="same")]
    assert wasted(same, [Entry(".wh.a")]) == [("a", 9, 1, "removed")]


def test_links_and_empty_files_are_no_waste() -> None:
    assert wasted([Entry("link"), Entry("other")], [Entry(".wh.link"), Entry("other")]) == []


def test_the_largest_files_are_named_and_empty_ones_never() -> None:
    _, file_system = lies([Entry(f"f{number:02}", number) for number in range(23)], [Entry("big", 99)])
    found = analysis.list_largest_files(file_system)
    assert found[:2] == (File(path="big", size_bytes=99, layer=2), File(path="f22", size_bytes=22, layer=1))
    assert len(found) == analysis.MAX_ITEMS
    assert analysis.list_largest_files(lies([Entry("link")])[1]) == ()


# --- whose they are -------------------------------------------------------------------------------------------------


def python(name: str, version: str, *listed: str, site: str = SITE, title: str = "") -> list[Entry]:
    info = f"{site}/{title or name}-{version}.dist-info"
    return [
        record(f"{info}/METADATA", "Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", "", "Name: words"),
        record(f"{info}/RECORD", *(f"{path},sha256=x,1" for path in listed)),
    ]


def owned_by(entries: list[Entry]) -> dict[str, str]:
    owners = analysis.index_packages(entries)
    return {
        entry.path: owner.name for entry in entries if (owner := owners.find_owner(entry.path)) and not entry.content
    }


def test_a_distribution_owns_what_its_record_lists() -> None:
    entries = [
        *python("scikit-learn", "1.7.0", "sklearn/a.so", '"odd,name.py"', "../../../bin/learn", title="scikit_learn"),
        Entry(f"{SITE}/sklearn/a.so", 1),
        Entry(f"{SITE}/odd,name.py", 1),
        Entry("opt/venv/bin/learn", 1),
        Entry(f"{SITE}/sklearn/__pycache__/b.cpython-313.pyc", 1),
        Entry(f"{SITE}/scikit_learn-1.7.0.dist-info/INSTALLER", 1),
    ]
    assert analysis.index_packages(entries).installed == {InstalledPackage("scikit-learn", "1.7.0", "python")}
    assert owned_by(entries) == {
        f"{SITE}/sklearn/a.so": "scikit-learn",
        f"{SITE}/odd,name.py": "scikit-learn",
        "opt/venv/bin/learn": "scikit-learn",
        f"{SITE}/scikit_learn-1.7.0.dist-info/INSTALLER": "scikit-learn",
    }


def test_libraries_beside_a_package_are_its_own() -> None:
    entries = [*python("numpy", "2.4", "numpy.libs/blas.so"), Entry(f"{SITE}/numpy.libs/blas.so", 1)]
    assert owned_by(entries) == {f"{SITE}/numpy.libs/blas.so": "numpy"}


def test_what_python_compiled_belongs_with_its_source() -> None:
    entries = [*python("joblib", "1.6", "joblib/a.py"), Entry(f"{SITE}/joblib/__pycache__/a.cpython-313.opt-1.pyc", 1)]
    assert owned_by(entries) == {f"{SITE}/joblib/__pycache__/a.cpython-313.opt-1.pyc": "joblib"}


def test_a_distribution_without_a_record_owns_its_folders() -> None:
    entries = [
        Entry(f"{SITE}/My.Package-2.0.dist-info/INSTALLER", 1),
        Entry(f"{SITE}/My_package/deep/a.py", 1),
        Entry(f"{SITE}/my_package_other/a.py", 1),
    ]
    owners = analysis.index_packages(entries)
    assert owners.installed == {InstalledPackage("My.Package", "2.0", "python")}
    assert set(owned_by(entries)) == {entries[0].path, entries[1].path}


def test_metadata_with_line_ends_of_windows() -> None:
    entry = Entry(f"{SITE}/a-1.dist-info/METADATA", content=b"Name: A\r\nVersion: 1.0\r\n\r\nName: words\r\n")
    assert analysis.index_packages([entry]).installed == {InstalledPackage("A", "1.0", "python")}


def test_what_is_bundled_in_a_distribution_is_no_package() -> None:
    bundled = f"{SITE}/setuptools/_vendor"
    entries = [
        *python("wheel", "0.46", "wheel/a.py", site=bundled),
        *python("setuptools", "80", "setuptools/_vendor/wheel-0.46.dist-info/METADATA"),
        Entry(f"{bundled}/wheel/a.py", 1),
    ]
    assert analysis.index_packages(entries).installed == {InstalledPackage("setuptools", "80", "python")}


def test_a_record_that_cannot_be_read_lists_what_comes_before() -> None:
    broken = Entry(f"{SITE}/a-1.dist-info/RECORD", content=b"a.py,,\n" + b"x" * 200_000 + b",,\nb.py,,\n")
    assert owned_by([broken, Entry(f"{SITE}/a.py", 1), Entry(f"{SITE}/b.py", 1)]) == {f"{SITE}/a.py": "a"}


STATUS = record(
    "var/lib/dpkg/status",
    *("Package: libc6", "Status: install ok installed", "Architecture: amd64", "Version: 2.41-12", ""),
    *("Package: gone", "Status: deinstall ok config-files", "Version: 1", ""),
    *("Package: meta", "Status: install ok installed", "Version: 1:2.0"),
)


def test_dpkg_owns_what_its_lists_say() -> None:
    entries = [
        STATUS,
        record("var/lib/dpkg/info/libc6:amd64.list", "/.", "/lib", "/lib/x86_64-linux-gnu/libc.so.6", "/etc/libc.conf"),
        record("var/lib/dpkg/info/libc6:i386.list", "/usr/lib/i386-linux-gnu/libc.so.6"),
        record("var/lib/dpkg/info/gone.list", "/etc/gone"),
        Entry("lib"),
        Entry("usr/lib/x86_64-linux-gnu/libc.so.6", 1),
        Entry("usr/lib/i386-linux-gnu/libc.so.6", 1),
        Entry("etc/libc.conf", 1),
        Entry("usr/etc/libc.conf", 1),
        Entry("etc/gone", 1),
    ]
    assert analysis.index_packages(entries).installed == {
        InstalledPackage("libc6", "2.41-12", "debian"),
        InstalledPackage("meta", "1:2.0", "debian"),
    }
    assert owned_by(entries) == {
        "lib": "libc6",
        "usr/lib/x86_64-linux-gnu/libc.so.6": "libc6",
        "usr/lib/i386-linux-gnu/libc.so.6": "libc6",
        "etc/libc.conf": "libc6",
    }


def test_distroless_images_have_a_file_for_each_package() -> None:
    entries = [
        record("var/lib/dpkg/status.d/python3.11", "Package: python3.11", "Version: 3.11.2-6"),
        record("var/lib/dpkg/status.d/python3.11.md5sums", "d41d8cd98f00b204e9800998ecf8427e  usr/bin/python3.11"),
        Entry("usr/bin/python3.11", 1),
    ]
    assert analysis.index_packages(entries).installed == {InstalledPackage("python3.11", "3.11.2-6", "debian")}
    assert owned_by(entries) == {"usr/bin/python3.11": "python3.11"}


def test_what_dpkg_installed_is_no_package_of_python() -> None:
    apt = "usr/lib/python3/dist-packages"
    entries = [
        *python("libc6-py", "1", "libc6/a.py", site=apt),
        STATUS,
        record("var/lib/dpkg/info/libc6.list", f"/{apt}/libc6-py-1.dist-info/METADATA", f"/{apt}/libc6/a.py"),
        Entry(f"{apt}/libc6/a.py", 1),
    ]
    assert {owner.kind for owner in analysis.index_packages(entries).installed} == {"debian"}
    assert owned_by(entries) == {f"{apt}/libc6/a.py": "libc6"}


def test_packages_and_other_folders_are_the_whole_file_system() -> None:
    entries = [
        STATUS,
        record("var/lib/dpkg/info/libc6.list", "/usr/lib/libc.so"),
        Entry("usr/lib/libc.so", 30),
        *python("scipy", "1.15.0", "scipy/a.so"),
        Entry(f"{SITE}/scipy/a.so", 50),
        Entry("app/model/v1/deep/m.pkl", 7),
        Entry("app/model/v1/n.pkl", 1),
        Entry("top", 2),
        Entry("usr/local/link"),
    ]
    _, file_system = lies(entries)
    owned = analysis.index_packages(entries)
    assert analysis.list_packages(file_system, owned) == (
        Package(name="scipy", version="1.15.0", kind="python", size_bytes=50),
        Package(name="libc6", version="2.41-12", kind="debian", size_bytes=30),
        Package(name="meta", version="1:2.0", kind="debian", size_bytes=0),
    )
    assert analysis.list_other_folders(file_system, owned) == (
        Contributor(name="/app/model/v1", size_bytes=8),
        Contributor(name="/", size_bytes=2),
    )


def test_a_layers_largest_contributors_are_packages_or_folders() -> None:
    layer = [*python("scipy", "1.15.0", "scipy/a.so"), Entry(f"{SITE}/scipy/a.so", 50)]
    layer += [Entry(f"data/{number}/file", number) for number in range(1, 6)]
    written, _ = lies(layer)
    assert analysis.list_contributors(written[0], analysis.index_packages(layer)) == (
        Contributor(name="scipy", size_bytes=50),
        Contributor(name="/data/5", size_bytes=5),
        Contributor(name="/data/4", size_bytes=4),
        Contributor(name="/data/3", size_bytes=3),
    )


# --- since the last record ------------------------------------------------------------------------------------------


def package(name: str, version: str, size_bytes: int) -> Package:
    return Package(name=name, version=version, kind="python", size_bytes=size_bytes)


def test_a_comparison_names_what_changed_the_largest_difference_first() -> None:
    before = (
        package("scipy", "1.15.0", 80_000_000),
        package("gone", "1.0", 5_000_000),
        package("rebuilt", "2.0", 1_000_000),
        package("noise", "2.0", 1_000_000),
        package("twice", "1.0", 10),
        package("bumped", "1.0", 70),
    )
    after = (
        package("scipy", "1.16.0", 91_000_000),
        package("new", "0.1", 5_000_000),
        package("rebuilt", "2.0", 990_000),
        package("noise", "2.0", 1_009_999),
        package("twice", "2.0", 20),
        package("twice", "1.0", 10),
        package("bumped", "1.1", 70),
    )
    previous = examples.release().model_copy(update={"packages": before, "size_bytes": 260_000_000})
    image = examples.image().model_copy(update={"packages": after})

    same = previous.model_copy(update={"digest": image.manifest_digest})
    assert analysis.compare_packages(image, (same,), examples.REPOSITORY) is None

    def change(name: str, before: str, after: str, difference_bytes: int) -> Change:
        return Change(
            name=name, kind="python", version_before=before, version_after=after, difference_bytes=difference_bytes
        )

    assert analysis.compare_packages(image, (same, previous), examples.REPOSITORY) == Comparison(
        image=previous.image,
        size_before_bytes=260_000_000,
        size_after_bytes=270_000_000,
        changes=(
            change("scipy", "1.15.0", "1.16.0", 11_000_000),
            change("gone", "1.0", "", -5_000_000),
            change("new", "", "0.1", 5_000_000),
            change("rebuilt", "2.0", "2.0", -10_000),
            change("twice", "1.0", "1.0, 2.0", 20),
            change("bumped", "1.0", "1.1", 0),
        ),
    )


def test_packages_of_one_name_but_two_kinds_are_two() -> None:
    previous = examples.release().model_copy(update={"packages": (package("attr", "1", 9),)})
    debian = package("attr", "1", 9).model_copy(update={"kind": "debian"})
    image = examples.image().model_copy(update={"packages": (debian,)})
    comparison = analysis.compare_packages(image, (previous,), examples.REPOSITORY)
    assert comparison
    changes = comparison.changes
    assert [(change.kind, change.difference_bytes) for change in changes] == [("debian", 9), ("python", -9)]


def test_an_image_of_another_repository_is_not_the_one_before() -> None:
    mine = examples.release("sha256:" + "b2" * 32)
    other = mine.model_copy(update={"image": f"127.0.0.1:5000/house-prices:1@{mine.digest}"})
    assert analysis.compare_packages(examples.image(), (other,), examples.REPOSITORY) is None
    found = analysis.compare_packages(examples.image(), (other, mine), examples.REPOSITORY)
    assert found and found.image == mine.image
