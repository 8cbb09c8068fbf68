"""Shows the progress of a run: a live line for each stage on a terminal, else plain lines."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from drydock.report import units

# The longest name of a stage: check-signing-key.
STAGE_WIDTH = 17


class ConsoleProgress:
    """One line a stage: a spinner with its time while it runs, its word when it has ended. Enter it for a run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ConsoleProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage_started(self, stage: str) -> None:
        """Show that a stage has begun."""
        if self._console.is_terminal:
            self._tasks[stage] = self._progress.add_task(f"{stage:<{STAGE_WIDTH}}", total=1)
        else:
            self._console.print(f"  {stage:<{STAGE_WIDTH}} …", highlight=False)

    def message(self, sentence: str) -> None:
        """Say what happens within a stage, such as another try."""
        self._console.print(f"    {units.sanitize(sentence)}", highlight=False, markup=False)

    def stage_finished(self, stage: str, duration_seconds: float, *, broken: bool) -> None:
        """Say how long a stage took; what broke it is the report's to say."""
        if stage in self._tasks:
            self._progress.remove_task(self._tasks.pop(stage))
        self._console.print(
            f"  {stage:<{STAGE_WIDTH}} {'broke after' if broken else 'took'} {duration_seconds:.1f} s", highlight=False
        )
