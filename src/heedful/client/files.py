"""Runs, files in and out, webhooks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from heedful.client.calls import Calls, Values, ascii_json

What = Literal["prompts", "demonstrations", "comparisons", "samples", "records"]
MANIFEST = "X-Heedful-Manifest"


class Files(Calls):
    # ── runs ─────────────────────────────────────────────────────────────────────────────────────

    def runs(self) -> list[Values]:
        return self._call("GET", "/api/runs")

    def metrics(self, run: str, after: int = 0) -> Values:
        """{rows, next}: what has been logged since."""
        return self._call("GET", f"/api/runs/{run}/metrics", params={"after": after})

    def report(self, run: str) -> str:
        """A run's report as HTML."""
        return self._send("GET", f"/api/runs/{run}/report").text

    # ── files ────────────────────────────────────────────────────────────────────────────────────

    def import_file(self, project: str, what: What, path: str | Path, **options: Any) -> Values:
        """Import a file, with the manifest beside it if there is one; `options` as of `heedful import`."""
        path = Path(path)
        headers = {"Content-Type": "application/octet-stream"}
        beside = Path(f"{path}.manifest.json")
        if beside.is_file():
            headers[MANIFEST] = json.dumps(json.loads(beside.read_text(encoding="utf-8")))
        given = {"what": what, "name": path.name, **options}
        params = {name: value for name, value in given.items() if value is not None}
        with path.open("rb") as file:
            response = self._send(
                "POST",
                f"/api/projects/{project}/import",
                params=params,
                content=file,
                headers=headers,
                timeout=None,
            )
        return response.json()

    def export(self, project: str, what: str, path: str | Path, **options: Any) -> Values:
        """Export to a file .jsonl, .csv (each also with .gz) or .parquet, and its manifest; returns the manifest."""
        params = {"what": what, "format": self._format(path), **options}
        return self._keep(f"/api/projects/{project}/export", Path(path), params=params)

    @staticmethod
    def _format(path: str | Path) -> str:
        suffixes = Path(path).suffixes
        return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])[1:]

    def _keep(
        self, address: str, path: Path, *, params: Values | None = None, body: Values | None = None
    ) -> Values:
        """A download as a file, whole or absent, and its manifest beside it."""
        asked: Values = {"params": params, "timeout": None}
        if body is not None:
            asked |= {
                "content": ascii_json(body), "headers": {"Content-Type": "application/json"},
            }  # fmt: skip
        response = self._send("GET" if body is None else "POST", address, **asked)
        manifest = json.loads(response.headers[MANIFEST]) | {"file": path.name}
        partial = path.with_name(f".{path.name}.partial")
        partial.unlink(missing_ok=True)
        partial.touch(0o600)  # what people said is for nobody else on the machine
        partial.write_bytes(response.content)
        partial.replace(path)
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        Path(f"{path}.manifest.json").write_text(text + "\n", encoding="utf-8")
        return manifest

    # ── webhooks ─────────────────────────────────────────────────────────────────────────────────

    def webhooks(self, project: str) -> list[Values]:
        return self._call("GET", f"/api/projects/{project}/webhooks")

    def add_webhook(self, project: str, url: str) -> Values:
        """{id, url, secret}: the secret that signs what is sent, shown this once."""
        return self._call("POST", f"/api/projects/{project}/webhooks", {"url": url})

    def deliveries(self, project: str, state: str = "failed") -> list[Values]:
        """The newest that are waiting, sent or failed, with what was answered last."""
        return self._call("GET", f"/api/projects/{project}/deliveries", params={"state": state})

    def send_again(self, webhook: str) -> Values:
        return self._call("POST", f"/api/webhooks/{webhook}/again", {})

    def remove_webhook(self, webhook: str) -> Any:
        return self._call("DELETE", f"/api/webhooks/{webhook}")
