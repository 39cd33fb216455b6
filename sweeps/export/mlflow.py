"""MLflow: a run a run, in an experiment named after the sweep."""

import itertools
import logging
import os
import time
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param, RunTag
from PIL import Image

from sweeps.export.runs import ExportedRun, Written

TAG = "mtl."
"""Before the names of our tags; MLflow has some of its own."""
MAX_BATCH = 1000
"""Metrics that the server takes at a time."""
ENDED = ("FINISHED", "FAILED")
STATUS = {"done": "FINISHED", "failed": "FAILED", "paused": "SCHEDULED"}


class MLflow:
    """Writes to a tracking server, or to a database in its place.

    Args:
        out: address of the tracking server, or a path: of a SQLite database, beside which a folder
            gets the pictures.
        experiment: its name.
    """

    def __init__(self, out: str, experiment: str) -> None:
        place = None
        if "://" not in out:
            path = Path(out).absolute()
            path.parent.mkdir(parents=True, exist_ok=True)
            place = path.with_name(f"{path.stem}-artifacts").as_uri()
            out = f"sqlite:///{path}"
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # minutes otherwise
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._client = mlflow.MlflowClient(tracking_uri=out)
        found = self._client.get_experiment_by_name(experiment)
        self._experiment: str = (
            self._client.create_experiment(experiment, artifact_location=place)
            if found is None
            else found.experiment_id
        )
        self._ids: dict[str, str] = {}

    def held(self, run: ExportedRun) -> Written:
        """Return what the server's run of the same id says that it holds."""
        text = f"tags.`{TAG}run_id` = '{run.run_id}'"
        found = self._client.search_runs([self._experiment], text)
        if not found:
            return Written()
        self._ids[run.run_id] = found[0].info.run_id
        tags = found[0].data.tags
        return Written(int(tags.get(f"{TAG}epochs", 0)), tags.get(f"{TAG}exported", ""))

    def write(self, run: ExportedRun, held: Written) -> None:
        """Log the epochs that are new, what the run ended with, and its pictures."""
        tags = [RunTag(f"{TAG}{name}", value) for name, value in run.tags.items()]
        client, mlflow_id = self._client, self._ids.get(run.run_id)
        if mlflow_id is None:
            named = {tag.key: tag.value for tag in tags}
            made = client.create_run(self._experiment, run_name=run.name, tags=named)
            mlflow_id = self._ids[run.run_id] = made.info.run_id
            params = [Param(name, str(value)[:500]) for name, value in run.params.items()]
            for start in range(0, len(params), 100):
                client.log_batch(mlflow_id, params=params[start : start + 100])
        # Epochs say how long they took and not when: they end now, one after the other.
        ends = [1000 * s for s in itertools.accumulate(record.seconds for record in run.records)]
        now = time.time() * 1000
        times = [int(now - ends[-1] + end) for end in ends] if ends else []
        metrics = [
            Metric(name, value, at, record.epoch)
            for record, at in list(zip(run.records, times, strict=True))[held.epochs :]
            for name, value in run.scalars(record).items()
        ]
        metrics += [Metric(n, value, int(now), run.final_epoch) for n, value in run.final.items()]
        for start in range(0, len(metrics), MAX_BATCH):
            client.log_batch(mlflow_id, metrics=metrics[start : start + MAX_BATCH])
        epoch, pictures = run.pictures()
        for name, picture in pictures.items():
            image = Image.fromarray(picture)
            client.log_image(mlflow_id, image, artifact_file=f"epoch_{epoch:05d}/{name}.png")
        # Last, so that an export which was interrupted is done again.
        tags += [RunTag(f"{TAG}epochs", str(len(run.records)))]
        client.log_batch(mlflow_id, tags=[*tags, RunTag(f"{TAG}exported", run.run.state)])
        status = STATUS.get(run.run.state, "RUNNING")
        if status in ENDED:
            client.set_terminated(mlflow_id, status)
        else:
            client.update_run(mlflow_id, status=status)
