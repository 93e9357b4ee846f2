"""Airflow 3.1 or later: have files written back to long-term storage, without a worker slot while that takes time.

    flush = WritebackOperator(
        task_id="flush", cache="scratch", export="/exp1",
        directories=[{"path": "/run42", "include": ["*.h5"]}],
    )

Put this file where the workers and the triggerer import it, such as the plugins folder. The connection
`writeback_default` has the host (or URL), port and schema of the service, and as its password the token.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import urllib.error
import urllib.request
from typing import Any, AsyncIterator, Sequence

from airflow.sdk import BaseHook, BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

TIMEOUT_SECONDS = 30
ENDED = ("succeeded", "partial", "failed", "canceled", "expired")


def call(conn_id: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    """One request; its answer as JSON. Raises urllib.error.HTTPError for a refusal, URLError for no answer."""
    conn = BaseHook.get_connection(conn_id)
    base = conn.host if "://" in conn.host else f"{conn.schema or 'http'}://{conn.host}:{conn.port or 8080}"
    request = urllib.request.Request(base.rstrip("/") + path, method=method)
    request.add_header("Accept", "application/json")
    if conn.password:
        request.add_header("Authorization", f"Bearer {conn.password}")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    if body is not None:
        request.add_header("Content-Type", "application/json")
        request.data = json.dumps(body).encode()
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:
        return json.load(reply)


def cancel(conn_id: str, job_id: str) -> None:
    """Cancels a job; one that has ended stays as it is."""
    call(conn_id, "POST", f"/v1/jobs/{job_id}/cancel")


class WritebackOperator(BaseOperator):
    """Submits a flush and defers until it has ended. Fails unless every file was written back."""

    template_fields: Sequence[str] = ("cache", "export", "files", "directories")

    def __init__(
        self,
        *,
        cache: str,
        export: str,
        files: Sequence[str] = (),
        directories: Sequence[dict[str, Any]] = (),
        conn_id: str = "writeback_default",
        poll_seconds: float = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cache = cache
        self.export = export
        self.files = files
        self.directories = directories
        self.conn_id = conn_id
        self.poll_seconds = poll_seconds
        self.job_id: str | None = None

    def execute(self, context: Any) -> None:
        ti = context["ti"]
        # A worker that dies and is run again for the same try comes to the same job.
        run = [ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.try_number]
        key = hashlib.sha256(json.dumps(run).encode()).hexdigest()
        body = {
            "cache": self.cache,
            "export": self.export,
            "labels": {"airflow-dag": ti.dag_id, "airflow-task": ti.task_id},
            **({"files": list(self.files)} if self.files else {}),
            **({"directories": list(self.directories)} if self.directories else {}),
        }
        self.job_id = call(self.conn_id, "POST", "/v1/flushes", body, {"Idempotency-Key": key})["id"]
        self.log.info("Writeback job %s", self.job_id)
        self.defer(
            trigger=WritebackTrigger(self.conn_id, self.job_id, self.poll_seconds),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Any, event: dict[str, Any]) -> str:
        if event["state"] != "succeeded":
            raise RuntimeError(f"Writeback job {event['job_id']}: {event['state']}. {event['detail'] or ''}")
        return event["job_id"]

    def on_kill(self) -> None:
        """The task is killed while a worker runs it."""
        if self.job_id is not None:
            cancel(self.conn_id, self.job_id)


class WritebackTrigger(BaseTrigger):
    """Waits in the triggerer for the end of a job. A service that is away is waited for."""

    def __init__(self, conn_id: str, job_id: str, poll_seconds: float) -> None:
        super().__init__()
        self.conn_id = conn_id
        self.job_id = job_id
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        kwargs = {"conn_id": self.conn_id, "job_id": self.job_id, "poll_seconds": self.poll_seconds}
        return f"{type(self).__module__}.{type(self).__qualname__}", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        state, detail = None, None
        while state not in ENDED:
            try:
                job = await asyncio.to_thread(call, self.conn_id, "GET", f"/v1/jobs/{self.job_id}")
                state, detail = job["state"], job.get("statusDetail")
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code != 429:
                    yield TriggerEvent({"job_id": self.job_id, "state": "unknown", "detail": str(error)})
                    return
            except OSError as error:
                self.log.warning("No answer from the writeback service: %s", error)
            if state not in ENDED:
                await asyncio.sleep(self.poll_seconds)
        yield TriggerEvent({"job_id": self.job_id, "state": state, "detail": detail})

    async def on_kill(self) -> None:
        """The deferred task is killed, cleared or marked by a user (told to triggers from Airflow 3.3 on)."""
        await asyncio.to_thread(cancel, self.conn_id, self.job_id)
