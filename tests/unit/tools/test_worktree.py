"""Each unusual or broken state of a checkout, in real repositories: what the label says, or which error it is."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from drydock.errors import UsageError
from drydock.report import Revision
from drydock.tools import revision, worktree
from drydock.tools.worktree import Inputs
from tests.unit.tools.test_revision import git

# As a policy's build.context has them.
BUILT = Inputs(patterns=("Dockerfile", "service/*.py", "training/*"))
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"


@dataclass(frozen=True)
class State:
    """A state of a checkout, and what it comes to: `changes` of a dirty one, words of an error, or neither."""

    name: str
    prepare: Callable[[Path], Path | None]
    changes: tuple[str, ...] = ()
    error: str = ""

    def __str__(self) -> str:
        return self.name


def project(root: Path) -> Path:
    """A repository with one commit, tagged v1.0.0."""
    for name, content in {
        "Dockerfile": "FROM scratch\n",
        "service/app.py": "a = 1\n",
        "training/train.py": "b = 2\n",
        "notes.md": "none of the build's\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    git(root, "init", "--quiet", "--initial-branch", "main")
    commit(root)
    git(root, "tag", "v1.0.0")
    return root


def commit(root: Path, *files: str) -> None:
    git(root, "add", "--all", *files)
    git(root, "commit", "--quiet", "--message", "a change")


def write(root: Path, name: str, content: str = "evil = 1\n") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content)


def staged(root: Path) -> None:
    write(root, "x")
    git(root, "add", "x")


def renamed(root: Path) -> None:
    git(root, "mv", "notes.md", "n")


def untracked_is_hidden(root: Path) -> None:
    git(root, "config", "status.showUntrackedFiles", "no")
    write(root, "service/evil.py")


def excluded(root: Path) -> None:
    write(root, ".git/info/exclude", "evil.py\n__pycache__\n*.log\n")
    write(root, "service/evil.py")
    write(root, "training/__pycache__/train.pyc")
    write(root, "service/server.log")


def ignored_by_the_user(root: Path) -> None:
    write(root, ".git/ignore", "evil.py\n")
    git(root, "config", "core.excludesFile", str(root / ".git" / "ignore"))
    write(root, "service/evil.py")


def ignored_folder(root: Path) -> None:
    write(root, ".git/info/exclude", "training/data/\n")
    write(root, "training/data/rows/one.csv")


def ignored_outside(root: Path) -> None:
    write(root, ".git/info/exclude", "dist/\n.venv/\n")
    write(root, "dist/report.json")
    write(root, ".venv/service/evil.py")


def marked(mark: str) -> Callable[[Path], None]:
    def prepare(root: Path) -> None:
        git(root, "update-index", mark, "service/app.py")
        write(root, "service/app.py")

    return prepare


def marked_and_removed(root: Path) -> None:
    git(root, "update-index", "--assume-unchanged", "service/app.py")
    (root / "service" / "app.py").unlink()


def marked_outside(root: Path) -> None:
    git(root, "update-index", "--assume-unchanged", "notes.md")
    write(root, "notes.md")


def sparse_without_the_notes(root: Path) -> None:
    write(root, "docs/page.md", "a page")
    commit(root)
    git(root, "sparse-checkout", "set", "service", "training")


def sparse_without_training(root: Path) -> None:
    git(root, "sparse-checkout", "set", "service")


def same_size_and_time(root: Path) -> None:
    path = root / "service" / "app.py"
    before = path.stat()
    path.write_text("a = 2\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    git(root, "config", "core.trustctime", "false")


def executable_where_modes_do_not_count(root: Path) -> None:
    git(root, "config", "core.fileMode", "false")
    (root / "service" / "app.py").chmod(0o755)


def filesystem_monitor(root: Path) -> None:
    """A monitor that says that nothing ever changes."""
    monitor = root / ".git" / "monitor"
    monitor.write_text("#!/bin/sh\nprintf 'token\\0'\n")
    monitor.chmod(0o755)
    git(root, "config", "core.fsmonitor", str(monitor))
    git(root, "update-index", "--fsmonitor")
    git(root, "status")
    write(root, "service/app.py")


def replaced(root: Path) -> None:
    """The commit stands for another one, in whose tree the change is."""
    first = git(root, "rev-parse", "HEAD")
    write(root, "service/app.py")
    commit(root)
    second = git(root, "rev-parse", "HEAD")
    git(root, "reset", "--quiet", "--soft", first)
    git(root, "replace", first, second)


def line_ends_of_this_machine(root: Path) -> None:
    git(root, "config", "core.autocrlf", "true")
    (root / "service" / "app.py").unlink()
    git(root, "checkout", "--quiet", "service/app.py")
    assert (root / "service" / "app.py").read_bytes() == b"a = 1\r\n"
    assert git(root, "status", "--porcelain") == ""


def line_ends_of_the_commit(root: Path) -> None:
    write(root, ".gitattributes", "*.py text eol=crlf\n")
    commit(root)
    for path in (root / "service" / "app.py", root / "training" / "train.py"):
        path.unlink()
    git(root, "checkout", "--quiet", ".")
    assert (root / "service" / "app.py").read_bytes() == b"a = 1\r\n"


def filter_that_hides(root: Path) -> None:
    git(root, "config", "filter.hide.clean", "echo a = 1")
    write(root, ".git/info/attributes", "app.py filter=hide\n")
    write(root, "service/app.py")
    git(root, "add", "service/app.py")
    assert git(root, "diff", "--cached", "--name-only") == ""


def lfs_pointer(root: Path) -> None:
    write(root, "training/rows.npy", POINTER.format("0" * 64, 1))
    commit(root)


def lfs_content(root: Path) -> None:
    content = "one row\n"
    clean = POINTER.format(hashlib.sha256(content.encode()).hexdigest(), len(content))
    write(root, ".git/pointer", clean)
    git(root, "config", "filter.lfs.clean", f"cat {root / '.git' / 'pointer'}")
    write(root, ".gitattributes", "*.npy filter=lfs\n")
    write(root, "training/rows.npy", content)
    commit(root)
    assert git(root, "show", "HEAD:training/rows.npy") == clean.strip()


def export_ignored(root: Path) -> None:
    write(root, ".gitattributes", "service/app.py export-ignore\n")
    commit(root)


def submodule(root: Path) -> Path:
    inner = project(root / "inner")
    outer = project(root / "outer")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "training/inner")
    commit(outer)
    return outer


def submodule_not_checked_out(root: Path) -> Path:
    outer = submodule(root)
    git(outer, "submodule", "--quiet", "deinit", "--all", "--force")
    assert git(outer, "status", "--porcelain") == ""
    return outer


def submodule_with_an_ignored_file(root: Path) -> Path:
    outer = submodule(root)
    write(outer, ".git/modules/training/inner/info/exclude", "evil.py\n")
    write(outer, "training/inner/evil.py")
    return outer


def submodule_that_counts_for_nothing(root: Path) -> Path:
    outer = submodule(root)
    git(outer, "config", "submodule.training/inner.ignore", "all")
    write(outer, "training/inner/service/app.py")
    return outer


def repository_inside(root: Path) -> None:
    project(root / "training" / "other")
    write(root, ".git/info/exclude", "training/other/\n")


def linked_work_tree(root: Path) -> Path:
    git(project(root / "main"), "worktree", "add", "--quiet", str(root / "linked"))
    return root / "linked"


def linked_work_tree_of_nothing(root: Path) -> Path:
    linked = linked_work_tree(root)
    shutil.rmtree(root / "main")
    return linked


def subfolder(root: Path) -> Path:
    project(root / "models" / "iris")
    shutil.rmtree(root / "models" / "iris" / ".git")
    write(root, "other/notes.md")
    git(root, "init", "--quiet")
    commit(root)
    write(root, ".git/info/exclude", "evil.py\n")
    write(root, "other/evil.py")
    return root / "models" / "iris"


def subfolder_with_a_change_beside(root: Path) -> Path:
    folder = subfolder(root)
    write(root, "other/notes.md", "changed")
    return folder


def subfolder_that_is_ignored(root: Path) -> Path:
    folder = subfolder(root)
    git(root, "rm", "--quiet", "-r", "--cached", "models")
    git(root, "commit", "--quiet", "--message", "another repository's")
    write(root, ".git/info/exclude", "models\nevil.py\n")
    return folder


def shallow(root: Path) -> Path:
    source = project(root / "source")
    write(source, "notes.md", "more")
    commit(source)
    git(root, "clone", "--quiet", "--depth", "1", f"file://{source}", str(root / "shallow"))
    return root / "shallow"


def detached(root: Path) -> None:
    git(root, "checkout", "--quiet", "--detach")


def sha256_names(root: Path) -> Path:
    git(root, "init", "--quiet", "--object-format", "sha256", "other")
    project(root / "other")
    return root / "other"


def bare(root: Path) -> Path:
    git(root, "clone", "--quiet", "--bare", str(project(root / "source")), str(root / "bare"))
    return root / "bare"


def work_tree_elsewhere(root: Path) -> None:
    other = root.parent / f"{root.name}-elsewhere"
    shutil.copytree(root, other, ignore=shutil.ignore_patterns(".git"))
    git(root, "config", "core.worktree", str(other))
    write(root, "service/app.py")


def no_commit(root: Path) -> Path:
    (root / "new").mkdir()
    git(root / "new", "init", "--quiet", "--initial-branch", "main")
    return root / "new"


def index_cut_short(root: Path) -> None:
    index = root / ".git" / "index"
    index.write_bytes(index.read_bytes()[:20])
    write(root, "service/app.py")


def head_without_its_object(root: Path) -> None:
    write(root, ".git/refs/heads/main", "1" * 40 + "\n")


def tree_without_its_object(root: Path) -> None:
    name = git(root, "rev-parse", "HEAD:service")
    (root / ".git" / "objects" / name[:2] / name[2:]).unlink()


def configuration_that_is_broken(root: Path) -> None:
    write(root, ".git/config", "[core\n")


def git_folder_that_is_empty(root: Path) -> None:
    shutil.rmtree(root / ".git")
    (root / ".git").mkdir()


def name_that_is_no_text(root: Path) -> None:
    git(root, "config", "core.quotePath", "false")
    (root / "service" / os.fsdecode(b"\xff\x1b[2J\n.py")).write_text("evil = 1\n")


def name_that_is_no_text_in_the_commit(root: Path) -> None:
    name_that_is_no_text(root)
    commit(root)


def link_that_changed(root: Path) -> None:
    (root / "service" / "link.py").symlink_to("app.py")
    commit(root)
    git(root, "update-index", "--assume-unchanged", "service/link.py")
    (root / "service" / "link.py").unlink()
    (root / "service" / "link.py").symlink_to("/etc/passwd")


def loud_configuration(root: Path) -> None:
    """All that changes what git prints, and a signature that cannot be checked."""
    for setting, value in {
        "log.showSignature": "true",
        "gpg.format": "openpgp",
        "color.ui": "always",
        "color.status": "always",
        "column.ui": "always",
        "core.pager": "false",
        "pager.status": "false",
        "pager.log": "false",
        "status.branch": "true",
        "status.showStash": "true",
        "status.short": "true",
        "status.renames": "copies",
        "status.relativePaths": "true",
        "diff.external": "false",
        "diff.ignoreSubmodules": "all",
        "format.pretty": "%an",
        "log.date": "relative",
        "log.decorate": "full",
        "alias.status": "!false",
        "alias.log": "!false",
        "core.quotePath": "false",
    }.items():
        git(root, "config", setting, value)
    checker = root / ".git" / "gpg"
    checker.write_text("#!/bin/sh\necho 'Good signature from a' >&2\necho '[GNUPG:] GOODSIG 1 a'\n")
    checker.chmod(0o755)
    git(root, "config", "gpg.program", str(checker))
    head, _, message = git(root, "cat-file", "commit", "HEAD").partition("\n\n")
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n"
    write(root, ".git/signed", f"{head}\n{signature}\n{message}\n")
    git(root, "update-ref", "HEAD", git(root, "hash-object", "-t", "commit", "-w", ".git/signed"))
    assert "Good signature" in git(root, "log", "-1", "--format=%ct")


APP = "service/app.py (not the bytes of the commit)"
EVIL = "service/evil.py (not in the commit)"
STATES = [
    State("a clean checkout", lambda _: None),
    State("a changed file", lambda root: write(root, "service/app.py"), ("service/app.py (changed)",)),
    State("a new file", lambda root: write(root, "x"), ("x (new)",)),
    State("a file is missing", lambda root: (root / "notes.md").unlink(), ("notes.md (missing)",)),
    State("a staged change", staged, ("x (changed)",)),
    State(
        "a staged rename",
        renamed,
        ("n (changed)", "notes.md (missing)"),
    ),
    State("status.showUntrackedFiles=no", untracked_is_hidden, ("service/evil.py (new)",)),
    State("ignored in .git/info/exclude", excluded, (EVIL,)),
    State("ignored by core.excludesFile", ignored_by_the_user, (EVIL,)),
    State("an ignored folder in the context", ignored_folder, ("training/data/rows/one.csv (not in the commit)",)),
    State("ignored files outside of the context", ignored_outside),
    State("assume-unchanged", marked("--assume-unchanged"), (APP,)),
    State("skip-worktree", marked("--skip-worktree"), (APP,)),
    State("assume-unchanged, and removed", marked_and_removed, ("service/app.py (missing)",)),
    State("assume-unchanged outside of the context", marked_outside, ("notes.md (not the bytes of the commit)",)),
    State("sparse, with all that is built", sparse_without_the_notes),
    State("sparse, without what is built", sparse_without_training, ("training/train.py (missing)",)),
    State("changed with its size and time kept", same_size_and_time, ("service/app.py (changed)",)),
    State("chmod +x with core.fileMode=false", executable_where_modes_do_not_count, ("service/app.py (changed)",)),
    State("a monitor that sees nothing", filesystem_monitor, ("service/app.py (changed)",)),
    State("git replace", replaced, ("service/app.py (changed)",)),
    State("core.autocrlf=true", line_ends_of_this_machine, (APP,)),
    State("eol=crlf in .gitattributes", line_ends_of_the_commit),
    State("a filter that hides a change", filter_that_hides, (APP,)),
    State("a Git LFS pointer", lfs_pointer, ("training/rows.npy (a Git LFS pointer and not the file: git lfs pull)",)),
    State("a file from Git LFS", lfs_content),
    State("export-ignore", export_ignored),
    State("a submodule", submodule),
    State(
        "a submodule that is not checked out",
        submodule_not_checked_out,
        ("training/inner (a submodule that is not checked out: git submodule update --init)",),
    ),
    State(
        "an ignored file in a submodule",
        submodule_with_an_ignored_file,
        ("training/inner (a submodule with evil.py (not in the commit))",),
    ),
    State("submodule.ignore=all", submodule_that_counts_for_nothing, ("training/inner (changed)",)),
    State("another repository inside, ignored", repository_inside, ("training/other (not in the commit)",)),
    State("a linked work tree", linked_work_tree),
    State("a subfolder of a repository", subfolder),
    State(
        "a subfolder, with a change beside it",
        subfolder_with_a_change_beside,
        ("../../other/notes.md (changed)",),
    ),
    State(
        "a subfolder that its repository ignores",
        subfolder_that_is_ignored,
        (
            "Dockerfile (not in the commit)",
            "service/app.py (not in the commit)",
            "training/train.py (not in the commit)",
        ),
    ),
    State("a shallow clone", shallow),
    State("a detached HEAD", detached),
    State("names of SHA-256", sha256_names),
    State("a link that changed, assume-unchanged", link_that_changed, ("service/link.py (changed)",)),
    State("a name that is no UTF-8", name_that_is_no_text, (r"service/\xff\x1b[2J\n.py (new)",)),
    State("a name that is no UTF-8, committed", name_that_is_no_text_in_the_commit),
    State("log.showSignature, colours, pagers, aliases", loud_configuration),
    State("a bare repository", bare, error="this operation must be run in a work tree"),
    State(
        "core.worktree", work_tree_elsewhere, error="the repository of {} has its work tree elsewhere, in {}-elsewhere"
    ),
    State("no commit", no_commit, error="your current branch 'main' does not have any commits yet"),
    State("an index that was cut short", index_cut_short, error="index file smaller than expected"),
    State("HEAD without its object", head_without_its_object, error="bad object HEAD"),
    State("a tree without its object", tree_without_its_object, error="Could not read"),
    State("a configuration that is broken", configuration_that_is_broken, error="bad config line"),
    State(
        "an empty .git", git_folder_that_is_empty, error="not a git repository (or any of the parent directories): .git"
    ),
    State("a linked work tree of nothing", linked_work_tree_of_nothing, error="not a git repository: "),
]


def prepared(state: State, folder: Path) -> Path:
    """The checkout in its state; a state that needs another layout makes its own."""
    makes_its_own = {
        *(submodule, submodule_not_checked_out, submodule_with_an_ignored_file, submodule_that_counts_for_nothing),
        *(linked_work_tree, linked_work_tree_of_nothing, subfolder, subfolder_with_a_change_beside),
        *(subfolder_that_is_ignored, shallow, sha256_names, bare, no_commit),
    }
    folder.mkdir(exist_ok=True)
    root = folder if state.prepare in makes_its_own else project(folder)
    return state.prepare(root) or root


@pytest.mark.parametrize("state", STATES, ids=str)
def test_a_label_says_a_commit_alone_only_if_that_is_what_was_built(state: State, tmp_path: Path) -> None:
    root = prepared(state, tmp_path / "checkout")
    if state.error:
        with pytest.raises(UsageError) as refused:
            revision.read_revision(root, BUILT)
        assert state.error.format(root, root) in refused.value.message
        assert refused.value.next_step
        return
    read = revision.read_revision(root, BUILT)
    assert tuple(map(str, worktree.list_changes(root, BUILT))) == state.changes
    assert read.name == git(root, "rev-parse", "HEAD") + ("-dirty" if state.changes else "")


def test_an_index_that_git_reads_to_its_middle_hides_nothing(tmp_path: Path) -> None:
    root = project(tmp_path)
    index = root / ".git" / "index"
    index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])
    assert revision.read_revision(root, BUILT).dirty


SENTENCES = [
    (
        no_commit,
        "your current branch 'main' does not have any commits yet",
        "the repository is new",
        "git add the files and git commit them, then run again",
    ),
    (
        index_cut_short,
        ".git/index: index file smaller than expected",
        "git's index was cut short, or another git is at work",
        "wait for the other git; a broken index is made again by: rm .git/index && git reset",
    ),
    (
        head_without_its_object,
        "bad object HEAD",
        "the repository is damaged, or a part of it is missing",
        "git status says the same; repair it, or clone again",
    ),
]


@pytest.mark.parametrize(("prepare", "said", "likely_cause", "next_step"), SENTENCES)
def test_a_git_that_fails_is_an_error_with_its_own_sentence(
    prepare: Callable[[Path], Path | None], said: str, likely_cause: str, next_step: str, tmp_path: Path
) -> None:
    root = project(tmp_path)
    root = prepare(root) or root
    with pytest.raises(UsageError) as refused:
        revision.read_revision(root, BUILT)
    assert refused.value.message == f"git cannot say what is checked out in {root}: {said}"
    assert (refused.value.likely_cause, refused.value.next_step) == (likely_cause, next_step)
    assert refused.value.exit_code == 2


def git_as(folder: Path, script: str) -> str:
    """A PATH on which a script stands for git."""
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_a_folder_of_another_user_is_an_error_that_says_how_to_trust_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path / "checkout")
    real = shutil.which("git")
    # As git's own tests do it: root may not give a folder away everywhere, and nobody else may at all.
    different = f'GIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {real} "$@"'
    monkeypatch.setenv("PATH", git_as(tmp_path / "bin", different))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GIT_CONFIG_COUNT", raising=False)
    with pytest.raises(UsageError) as refused:
        revision.read_revision(root, BUILT)
    assert refused.value.message == (
        f"git cannot say what is checked out in {root}: detected dubious ownership in repository at '{root}'"
    )
    assert refused.value.next_step == (
        f"git config --global --add safe.directory {root}, or run as the owner of the folder"
    )
    # What a container sets for all that it runs.
    for name, value in {"COUNT": "1", "KEY_0": "safe.directory", "VALUE_0": "*"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    assert not revision.read_revision(root, BUILT).dirty


def test_without_git_a_repository_is_an_error_and_a_plain_folder_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path / "checkout")
    (tmp_path / "plain").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "plain"))
    with pytest.raises(UsageError) as refused:
        revision.read_revision(root, BUILT)
    assert refused.value.message == (f"git cannot be started to say which commit {root} is: No such file or directory")
    assert refused.value.next_step == "install git, then run again"
    assert revision.read_revision(tmp_path / "plain", BUILT) == Revision(commit="unknown", dirty=True)


def test_a_git_that_ends_without_a_word_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path / "checkout")
    monkeypatch.setenv("PATH", git_as(tmp_path / "bin", "exit 3"))
    with pytest.raises(UsageError, match="exit code 3, without a word"):
        revision.read_revision(root, BUILT)


@pytest.mark.parametrize(
    "variables",
    [
        ("GIT_DIR", "GIT_WORK_TREE"),
        ("GIT_INDEX_FILE",),
        ("GIT_OBJECT_DIRECTORY",),
        ("GIT_COMMON_DIR",),
        ("GIT_NAMESPACE",),
        ("GIT_LITERAL_PATHSPECS",),
        ("GIT_EXTERNAL_DIFF",),
    ],
    ids=str,
)
def test_the_environment_of_a_git_hook_names_no_other_repository(
    variables: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, other = project(tmp_path / "checkout"), project(tmp_path / "other")
    ours = git(root, "rev-parse", "HEAD")
    write(root, ".git/info/exclude", "evil.py\n")
    write(root, "service/evil.py")
    write(other, "notes.md", "another commit")
    commit(other)
    values = {
        "GIT_DIR": other / ".git",
        "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / ".git" / "index",
        "GIT_OBJECT_DIRECTORY": other / ".git" / "objects",
        "GIT_COMMON_DIR": other / ".git",
        "GIT_LITERAL_PATHSPECS": "1",
    }
    for name in variables:
        monkeypatch.setenv(name, str(values.get(name, "none")))
    assert revision.read_revision(root, BUILT).name == f"{ours}-dirty"
    assert list(map(str, worktree.list_changes(root, BUILT))) == [EVIL]


# As the engine reads them, but for a dot alone, of which it takes nothing.
CONTEXTS = [
    (("**", "!/service"), ("c.txt", "service/a.txt", "service/data/b.txt")),
    (("service/*", "!service/data", "service/data/b.txt"), ("service/a.txt", "service/data/b.txt")),
    (("service",), ("service/a.txt", "service/data/b.txt")),
    (("service/",), ("service/a.txt", "service/data/b.txt")),
    (("./service/*.txt",), ("service/a.txt",)),
    (("/service/*",), ("c.txt", "service/a.txt", "service/data/b.txt")),
    (("service/**",), ("service/a.txt", "service/data/b.txt")),
    (("**/b.txt",), ("service/data/b.txt",)),
    (("**", "!service/data"), ("c.txt", "service/a.txt")),
    (("**", "!service", "service/a.txt"), ("c.txt", "service/a.txt", "service/data/b.txt")),
    (("!service",), ()),
    ((".",), ("c.txt", "service/a.txt", "service/data/b.txt")),
    (("service/[ab].txt",), ("service/a.txt",)),
    (("service/?.txt",), ("service/a.txt",)),
    (("*.py",), ()),
]


@pytest.mark.parametrize(("patterns", "taken"), CONTEXTS, ids=str)
def test_an_ignored_file_counts_if_the_build_takes_it(
    patterns: tuple[str, ...], taken: tuple[str, ...], tmp_path: Path
) -> None:
    root = project(tmp_path)
    write(root, ".git/info/exclude", "*.txt\n__pycache__\n")
    for name in ("c.txt", "service/a.txt", "service/data/b.txt", "service/__pycache__/a.pyc"):
        write(root, name)
    found = worktree.list_changes(root, Inputs(patterns))
    assert tuple(map(str, found)) == tuple(f"{name} (not in the commit)" for name in taken)


def test_a_policy_and_a_lock_belong_to_the_commit_as_well(tmp_path: Path) -> None:
    root = project(tmp_path / "checkout")
    write(root, ".git/info/exclude", "mine.toml\n")
    write(root, "mine.toml")
    write(tmp_path, "other.toml")
    found = worktree.list_changes(root, Inputs(files=(root / "mine.toml", tmp_path / "other.toml", root / "none.toml")))
    assert list(map(str, found)) == [
        f"{tmp_path / 'other.toml'} (not in this repository)",
        "mine.toml (not in the commit)",
    ]


def test_git_writes_nothing_and_a_touched_file_is_the_same(tmp_path: Path) -> None:
    root = project(tmp_path)
    os.utime(root / "service" / "app.py", (1, 1))
    before = (root / ".git" / "index").stat().st_mtime_ns
    assert worktree.list_changes(root, BUILT) == ()
    assert (root / ".git" / "index").stat().st_mtime_ns == before


def test_an_image_is_refused_if_the_work_tree_changed_while_it_was_built(tmp_path: Path) -> None:
    root = project(tmp_path)
    clean = revision.read_revision(root, BUILT)
    revision.require_unchanged(root, clean, BUILT)
    write(root, "service/app.py")
    with pytest.raises(UsageError) as refused:
        revision.require_unchanged(root, clean, BUILT)
    assert refused.value.message == "the work tree changed while it was being built from: service/app.py (changed)"
    revision.require_unchanged(root, revision.read_revision(root, BUILT), BUILT)
    commit(root)
    with pytest.raises(UsageError) as refused:
        revision.require_unchanged(root, clean, BUILT)
    head = git(root, "rev-parse", "HEAD")
    assert refused.value.message.endswith(f": another commit is checked out, {head}")
    shutil.rmtree(root / ".git")
    with pytest.raises(UsageError, match="another commit is checked out, none"):
        revision.require_unchanged(root, clean, BUILT)


def test_the_refusal_of_a_release_names_the_first_files_and_how_many_more(tmp_path: Path) -> None:
    root = project(tmp_path)
    write(root, ".git/info/exclude", "*.py\n")
    for number in range(7):
        write(root, f"service/evil{number}.py")
    with pytest.raises(UsageError) as refused:
        revision.require_release(root, revision.read_revision(root, BUILT), "1.0.0", BUILT)
    names = ", ".join(f"service/evil{number}.py (not in the commit)" for number in range(5))
    assert refused.value.message == (
        f"v1.0.0 would be built from a work tree that is not the tag's commit: {names} and 2 more"
    )
