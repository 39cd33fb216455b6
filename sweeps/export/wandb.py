"""W&B, offline: folders that `wandb sync` sends, by whoever wants to, to an account."""

from pathlib import Path

import wandb

from sweeps.export.runs import ExportedRun, Written

HELD = "exported"


class WandB:
    """Writes offline runs.

    Args:
        out: folder for `wandb/offline-run-*`.
        project: its name there.
    """

    def __init__(self, out: Path, project: str) -> None:
        self._out, self._project = out, project
        self._notes = out / HELD / project
        self._notes.mkdir(parents=True, exist_ok=True)

    def held(self, run: ExportedRun) -> Written:
        """Return what has been written of the run."""
        return Written.noted(self._notes / f"{run.run_id}.json")

    def write(self, run: ExportedRun, held: Written) -> None:
        """Write an offline run of the same id with the epochs that are new; W&B joins them."""
        writing = wandb.init(
            mode="offline",
            dir=str(self._out),
            project=self._project,
            id=run.run_id,
            resume="allow",
            name=run.name,
            group=run.spec.method,
            tags=[f"{name}={value}"[:64] for name, value in run.tags.items() if name != "run_id"],
            config=run.params,
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, x_disable_meta=True
            ),
        )
        for record in run.records[held.epochs :]:
            writing.log(run.scalars(record), step=record.epoch)
        _, pictures = run.pictures()
        if pictures:
            images = {name: wandb.Image(picture) for name, picture in pictures.items()}
            writing.log(images, step=len(run.records))
        writing.summary.update({**run.final, "state": run.run.state})
        writing.finish(exit_code=int(run.run.state == "failed"))
        run.note(self._notes / f"{run.run_id}.json")
