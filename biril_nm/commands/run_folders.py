"""The folder of a run of ``biril train``: where it is, what it must not overwrite, how it goes on."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biril_nm.commands.sources import CONFIG, model_in
from biril_nm.errors import BirilError, ConfigError, bullet_list

__all__ = ["check_same", "interrupted_run", "kept", "refuse_existing", "usual_folder"]


def refuse_existing(
    folder: Path, resume: bool, force: bool, inputs: Sequence[Path | str | None]
) -> None:
    """Refuse to write over a run that is not resumed, and over the files and folders that a new one reads."""
    from biril_nm.storage import check_output, keep_inputs
    from biril_nm.training.run_folder import FILES

    if not resume:
        files = [folder / name for name in FILES]
        for path in files:
            check_output(path, force)
        keep_inputs(files, [model_in(Path(source)) for source in inputs if source])


def usual_folder(run: Any) -> Path:
    """Where a run with a configuration goes if it names no folder; also before its parent is taken over."""
    from biril_nm.models import load

    parent = Path(run.parent)
    model = load(model_in(parent)).name if run.parent and parent.exists() else run.model
    name = f"{run.dataset.partition(':')[0]}-{model}{'-integers' if run.integers else ''}"
    return Path("out") / name


def interrupted_run(folder: Path) -> Any:
    """The configuration of the run in a folder."""
    from biril_nm.training.run_config import RunConfig

    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"'{folder}' does not hold a run: {CONFIG} is missing; expected a folder of biril train. Check "
            f"--out, or leave --resume out to start a run"
        )
    return RunConfig.read(folder / CONFIG)


def check_same(run: Any, before: Any, folder: Path) -> None:
    """Refuse to resume a run with other settings."""
    findings = run.differences(before)
    if findings:
        raise ConfigError(
            bullet_list(
                f"'{folder}' belongs to another run. Resume with the same settings or choose another "
                f"output folder:",
                findings,
            )
        )


def kept(folder: Path, epochs: int) -> str:
    """What an interrupted run leaves, and how it goes on."""
    from biril_nm.storage import read_json_lines

    if not (folder / CONFIG).is_file():
        return "Nothing was written"
    resume = f"continue with: biril train --resume --out {shlex.quote(str(folder))}"
    if not (folder / "checkpoint.pt").is_file():
        return f"'{folder}' keeps {CONFIG}, and no epoch was finished; {resume}"
    try:
        done = len(read_json_lines(folder / "metrics.jsonl"))
    except BirilError:
        return f"'{folder}' keeps checkpoint.pt; {resume}"
    return f"'{folder}' keeps checkpoint.pt after epoch {done} of {epochs}; {resume}"
