"""The fine-tuning API of OpenAI and of services that speak it: files up, a job over them, its state and events.

Source: OpenAI's API reference, "Files" and "Fine-tuning".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tuneful.errors import LMServerError
from tuneful.finetune.tuned_model import HistoryPoint

if TYPE_CHECKING:
    from tuneful.backends.http.backend import HTTPBackend
    from tuneful.backends.http.exchange import Reply

#: Name under which a job carries our own name of it.
_METADATA = "tuneful"
_OVER = ("succeeded", "failed", "cancelled")
#: Events and jobs of one page.
_PAGE = 100
#: A service's clock may differ from ours by so many seconds.
_CLOCKS_S = 3600.0


@dataclass(frozen=True)
class JobState:
    """What a service says of a job.

    Args:
        id: the service's name of it.
        status: "validating_files", "queued", "running", "paused", "succeeded", "failed" or "cancelled".
        created: when it was made, in seconds since 1970.
        model: the tuned model, once there is one.
        trained_tokens: tokens that are billed, once that is known.
        problem: why it failed, or "".
    """

    id: str
    status: str
    created: float = 0.0
    model: str = ""
    trained_tokens: int | None = None
    problem: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in _OVER


class FineTuningAPI:
    """The calls of the API, through a backend's address and keys. Each raises the typed error of a refusal.

    Args:
        backend: of the base model.
    """

    def __init__(self, backend: HTTPBackend) -> None:
        self._backend = backend

    async def upload(self, name: str, lines: bytes) -> str:
        """Upload a file of examples and return the service's name of it."""
        backend = self._backend
        reply = await backend.transport.post_file(
            f"{backend.base_url}/files", (name, lines), {"purpose": "fine-tune"}, backend.request_headers()
        )
        return str(self._object(reply)["id"])

    async def create(self, name: str, body: Mapping[str, Any]) -> JobState:
        """Begin a job that carries our name. It costs from here on."""
        return self._state(await self._post("/fine_tuning/jobs", {**body, "metadata": {_METADATA: name}}))

    async def find(self, name: str, since: float) -> JobState | None:
        """Return the job that carries our name, created after `since` (seconds since 1970), or None."""
        after = ""
        while True:
            page = self._object(await self._get(f"/fine_tuning/jobs?limit={_PAGE}{after}"), "data")
            for body in page["data"]:
                if (body.get("metadata") or {}).get(_METADATA) == name:
                    return self._state_of(body)
            last = page["data"][-1] if page["data"] else None
            if not page.get("has_more") or last is None or (last.get("created_at") or since) < since - _CLOCKS_S:
                return None
            after = f"&after={quote(last['id'])}"

    async def state(self, job: str) -> JobState:
        """Return how a job stands."""
        return self._state(await self._get(f"/fine_tuning/jobs/{quote(job)}"))

    async def cancel(self, job: str) -> JobState:
        """End a job, and return how it stands then."""
        return self._state(await self._post(f"/fine_tuning/jobs/{quote(job)}/cancel", {}))

    async def points(self, job: JobState, known: Mapping[int, HistoryPoint]) -> list[HistoryPoint]:
        """Return the points of its history that are not known yet, the earliest first."""
        found: dict[int, HistoryPoint] = {}
        after = ""
        while True:
            path = f"/fine_tuning/jobs/{quote(job.id)}/events?limit={_PAGE}{after}"
            page = self._object(await self._get(path), "data")  # the latest first
            points = [p for p in (_point(e, job.created) for e in page["data"]) if p]
            found |= {p.step: p for p in points if p.step not in known and p.step not in found}
            if not page.get("has_more") or not page["data"] or any(p.step in known for p in points):
                return [found[step] for step in sorted(found)]
            after = f"&after={quote(page['data'][-1]['id'])}"

    # --- reading ---

    async def _get(self, path: str) -> Reply:
        backend = self._backend
        return await backend.transport.get(backend.base_url + path, backend.request_headers())

    async def _post(self, path: str, body: Mapping[str, Any]) -> Reply:
        backend = self._backend
        return await backend.transport.post_json(backend.base_url + path, body, backend.request_headers())

    def _object(self, reply: Reply, name: str = "id") -> dict[str, Any]:
        """Return the object in a reply, which has something under `name`."""
        body = self._backend.json_of(reply)
        if not isinstance(body, dict) or not isinstance(body.get(name), (str, list)):
            text = self._backend.safe(str(body)[:300])
            raise LMServerError(
                f"the fine-tuning API of `{self._backend.model}` answered with something that has no `{name}`: "
                f"{text!r}. Does the server have a fine-tuning API?",
                model=self._backend.model,
                status=reply.status,
            )
        return body

    def _state(self, reply: Reply) -> JobState:
        return self._state_of(self._object(reply))

    def _state_of(self, body: Mapping[str, Any]) -> JobState:
        error = body.get("error") or {}
        where = f" (in the {str(error['param']).replace('_', ' ')})" if error.get("param") else ""
        problem = f"{error.get('message') or error.get('code')}{where}" if any(error.values()) else ""
        tokens = body.get("trained_tokens")
        return JobState(
            str(body["id"]),
            str(body.get("status")),
            float(body.get("created_at") or 0.0),
            str(body.get("fine_tuned_model") or ""),
            None if tokens is None else int(tokens),
            self._backend.safe(problem),
        )


def _point(event: Mapping[str, Any], begun: float) -> HistoryPoint | None:
    """Return the point that an event tells of, or None."""
    data = event.get("data")
    if event.get("type") != "metrics" or not isinstance(data, Mapping) or data.get("step") is None:
        return None
    held_out = data.get("full_valid_loss", data.get("valid_loss"))
    seconds = max(0.0, float(event.get("created_at") or begun) - begun)
    return HistoryPoint(int(data["step"]), data.get("train_loss"), held_out, seconds)
