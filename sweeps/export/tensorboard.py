"""TensorBoard: an event file a run, in a folder that says method, priorities and seed."""

from pathlib import Path

from tensorboardX import SummaryWriter

from sweeps.export.runs import ExportedRun, Written

HELD = "exported.json"


class TensorBoard:
    """Writes event files.

    Args:
        out: folder that `tensorboard --logdir` is given.
    """

    def __init__(self, out: Path) -> None:
        self._out = out

    def held(self, run: ExportedRun) -> Written:
        """Return what the run's folder says that it holds."""
        return Written.noted(self._out / run.name / HELD)

    def write(self, run: ExportedRun, held: Written) -> None:
        """Write the epochs that are new; of a run that is done also its hyper-parameters."""
        folder = self._out / run.name
        # A file is named by the second; two of one second would be one.
        suffix = f".from{held.epochs}.{run.run.state}"
        with SummaryWriter(str(folder), filename_suffix=suffix) as writer:
            for record in run.records[held.epochs :]:
                for name, value in run.scalars(record).items():
                    writer.add_scalar(name, value, record.epoch)
            for tag, text in run.tags.items():
                writer.add_text(tag, text, run.run.epochs)
            epoch, pictures = run.pictures()
            for name, picture in pictures.items():
                writer.add_image(name, picture, epoch, dataformats="HWC")
            if run.final:
                params = {n: v for n, v in run.params.items() if isinstance(v, int | float | str)}
                writer.add_hparams(params, run.final, name=".", global_step=run.final_epoch)
        run.note(folder / HELD)
