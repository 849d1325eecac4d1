"""Training jobs, started and followed; the playground."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from heedful.client.calls import Values
from heedful.client.questions import Questions


class Training(Questions):
    def jobs(self) -> list[Values]:
        """Those that run and those that have ended, the newest first."""
        return self._call("GET", "/api/jobs")

    def start_iterate(self, project: str, name: str, model: str, **options: Any) -> Values:
        """Rounds of sampling, asking the project's raters and learning; options: method, rounds, prompts_per_round …"""
        body = {"command": "iterate", "name": name, "model": model, **options}
        return self._call("POST", f"/api/projects/{project}/jobs", body)

    def start_compare(
        self, project: str, name: str, model: str, reward: str, methods: list[str], **options: Any
    ) -> Values:
        """Methods over seeds, on the project's prompts and comparisons; options: seeds, checkpoints, learning_rate."""
        body = {"command": "compare", "name": name, "model": model, "reward": reward}
        body |= {"methods": list(methods), **options}
        return self._call("POST", f"/api/projects/{project}/jobs", body)

    def play(self, project: str, model: str, messages: list[Values]) -> Values:
        """{reply, text, html}: what a model replies to a conversation that ends with the user's message."""
        body = {"model": model, "messages": messages}
        return self._call("POST", f"/api/projects/{project}/playground", body)

    def thumb(self, project: str, reply: str, thumb: int) -> Values:
        """1 (up) or -1 (down) for a reply of `play`, kept as a judgment; another one turns it."""
        return self._call("PUT", f"/api/projects/{project}/playground/{reply}", {"thumb": thumb})

    def job(self, job: str, after: int = 0) -> Values:
        """{state, code, …, log: {text, next}}: what has been logged since the byte `after`."""
        return self._call("GET", f"/api/jobs/{job}", params={"after": after})

    def follow(self, job: str, seconds: float = 2.0) -> Iterator[str]:
        """A job's log as it grows, until it has ended."""
        import time

        after, running = 0, True
        while running:
            told = self.job(job, after)
            running, after = told["state"] == "running", told["log"]["next"]
            if told["log"]["text"]:
                yield told["log"]["text"]
            elif running:
                time.sleep(seconds)

    def stop_job(self, job: str, *, force: bool = False) -> Values:
        return self._call("POST", f"/api/jobs/{job}/stop", {"force": force})
