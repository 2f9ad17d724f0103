"""JobRecord: what a folder holds of a training by a service.

It is written before anything is sent, so that no crash can lose a job that is paid for, and none is begun twice.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneful.errors import StateError
from tuneful.finetune.training_set import TrainingSet, jsonl
from tuneful.finetune.tuned_model import TunedModel


@dataclass
class JobRecord:
    """What a folder holds of a training by a service.

    Args:
        folder: the folder.
        identity: what is trained, with what: data, base, settings, seed.
        name: our own name of the job, which the service is told.
        files: the service's names of what was uploaded, by part.
        begun: when the job was about to be begun, in seconds since 1970; None: not yet, or no more.
        remote: the service's name of the job, as long as it goes on.
        tuned: the tuned model, once there is one, as JSON.
        past: what became of earlier jobs.
    """

    folder: Path
    identity: dict[str, Any]
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    files: dict[str, str] = field(default_factory=dict)
    begun: float | None = None
    remote: str | None = None
    tuned: dict[str, Any] | None = None
    past: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> JobRecord | None:
        """Return what a folder holds, or None. Raises StateError for a file that cannot be read."""
        path = folder / "job.json"
        if not path.exists():
            return None
        try:
            return cls(folder, **json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise StateError(f"{str(path)!r} is no record of a job ({error}). Take another folder.") from error

    @classmethod
    def at(cls, folder: Path, identity: dict[str, Any]) -> JobRecord:
        """Return what a folder holds of a training, or a new one. Raises StateError where it holds another one."""
        found = cls.read(Path(folder)) or cls(Path(folder), identity)
        other = [name for name in identity if found.identity.get(name) != identity[name]]
        if other:
            raise StateError(
                f"{str(folder)!r} holds another training: {', '.join(other)} differ. Give each training a folder of "
                "its own. Nothing was sent."
            )
        return found

    def data(self) -> dict[str, str]:
        """Return the names of the files with the examples, by part."""
        return {
            part: f"{part}.jsonl" for part in ("training", "validation") if (self.folder / f"{part}.jsonl").exists()
        }

    def keep_data(self, parts: Mapping[str, TrainingSet]) -> None:
        """Write the examples as they are uploaded."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tools = any(e.tools or e.calls for part in parts.values() for e in part)
        for part, examples in parts.items():
            (self.folder / f"{part}.jsonl").write_bytes(jsonl(examples, "tool" if tools else "chat", paths=False))
        self._write()

    def uploaded(self, part: str, file: str) -> None:
        """Note that a file is there."""
        self.files[part] = file
        self._write()

    def begins(self) -> None:
        """Note that the job is about to be begun."""
        self.begun = time.time()
        self._write()

    def is_at(self, remote: str) -> str:
        """Note the service's name of the job, and return it."""
        self.remote = remote
        self._write()
        return remote

    def finished(self, tuned: TunedModel) -> None:
        """Note what came of it."""
        self.tuned, self.remote = tuned.to_json(), None
        self._write()

    def ended(self, why: str) -> None:
        """Note that nothing came of it, so that the next call begins anew."""
        self.past.append(why)
        self.name, self.files, self.begun, self.remote = uuid.uuid4().hex, {}, None, None
        self._write()

    def _write(self) -> None:
        body = {k: v for k, v in vars(self).items() if k != "folder"}
        partial = self.folder / ".job.json.partial"
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())  # it stands for money
        partial.replace(self.folder / "job.json")
