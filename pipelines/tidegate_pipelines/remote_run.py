"""Run a pipeline on a KFP server: submit it, and follow it with one progress line a step."""

from __future__ import annotations

import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from tidegate_pipelines.catalogue import Compiled, PipelineError
from tidegate_pipelines.local_run import Progress

__all__ = ["Server", "ServerError"]

_LOOK_SECONDS = 5.0
_ANSWER_SECONDS = 15.0
_ENDED = {"SUCCEEDED": "done", "FAILED": "failed", "CANCELED": "failed"}


class ServerError(PipelineError):
    """A KFP server that does not answer, or refuses. Trying again may help."""

    transient = True


class Server:
    """A KFP server at an address. Every call raises ServerError where it does not answer."""

    def __init__(self, host: str) -> None:
        import kfp

        self._host = host
        with self._speaking():
            _ask(host)
            self._client = kfp.Client(host=host)

    def submit(self, compiled: Compiled, arguments: dict[str, Any], experiment: str) -> str:
        """Start a run; returns its id."""
        with self._speaking():
            done = self._client.create_run_from_pipeline_package(
                str(compiled.file), arguments=arguments, experiment_name=experiment
            )
        return str(done.run_id)

    def page(self, run: str) -> str:
        """Where the UI shows a run."""
        return f"{self._host.rstrip('/')}/#/runs/details/{run}"

    def follow(self, run: str, titles: dict[str, str], tell: Callable[[Progress], None]) -> list[Progress]:
        """Wait until the run has ended; `tell` hears of each step that does. Raises PipelineError where it failed."""
        steps: dict[str, Progress] = {}
        while True:
            with self._speaking():
                found = self._client.get_run(run)
            for task, step in _ended(found, titles):
                if task not in steps:
                    steps[task] = step
                    tell(step)
            if found.state in _ENDED:
                break
            time.sleep(_LOOK_SECONDS)
        told = list(steps.values())
        if found.state != "SUCCEEDED":
            failed = ", ".join(step.title for step in told if step.state == "failed") or "none of the steps"
            raise PipelineError(
                resource=f"run {run}", field="outcome", value=str(found.state),
                expected=f"SUCCEEDED (failed: {failed})", remedy=f"its log is at {self.page(run)}",
            )  # fmt: skip
        return told

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Without what KFP's client says on its own: of its age, of links, a traceback for each look at the health."""
        from kfp_server_api.exceptions import ApiException  # type: ignore[import-untyped]
        from urllib3.exceptions import HTTPError

        logging.disable(logging.ERROR)
        try:
            with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        except (ApiException, HTTPError, OSError) as error:
            raise ServerError(
                resource="KFP server", field="host", value=self._host,
                expected=f"an API that answers ({str(error)[:300]})",
                remedy="check the address, e.g. with a port-forward to ml-pipeline-ui",
            ) from error  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)


def _ask(host: str) -> None:
    """Any answer at all: KFP's client waits for ever for a server that takes the connection and says nothing."""
    import urllib3

    with urllib3.PoolManager() as http:
        http.request("GET", f"{host.rstrip('/')}/apis/v2beta1/healthz", timeout=_ANSWER_SECONDS, retries=False)


def _ended(run: Any, titles: dict[str, str]) -> Iterator[tuple[str, Progress]]:
    """The steps that have ended, in that order; one from the cache took no time at all."""
    details = run.run_details.task_details if run.run_details else None
    tasks = [task for task in details or [] if task.display_name in titles and task.state in _ENDED]
    for task in sorted(tasks, key=lambda one: one.end_time):
        seconds = (task.end_time - task.start_time).total_seconds()
        state = "cached" if task.state == "SUCCEEDED" and not seconds else _ENDED[task.state]
        yield str(task.task_id), Progress(titles[task.display_name], state, seconds)
