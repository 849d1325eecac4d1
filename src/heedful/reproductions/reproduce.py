"""The command: each seed once, then the verdict, the picture and the page."""

from __future__ import annotations

import json
import shutil
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from heedful.configs.reproduce import Config
from heedful.data.files import write_json
from heedful.disk import make_folder, write_text
from heedful.reproductions import Reproduction, load, names, pages, results


def run(config: Config) -> int:
    """Prints a line for each reproduction; 1 where a criterion is not met, else 0."""
    if config.list or not config.name:
        for name in names():
            print(line(load(name), results.committed(name)))
        return 0
    chosen = [load(name) for name in (names() if config.name == "all" else [config.name])]
    out = config.out / "quick" if config.quick else config.out
    failed = False
    for reproduction in chosen:
        result = reproduced(reproduction, out, config)
        print(line(reproduction, result))
        for criterion in result["criteria"]:
            print(f"  {pages.sentence(criterion)}")
        failed = failed or not all(c["pass"] for c in result["criteria"])
    print(pages.write(out, config.page or out / "index.md"))
    return int(failed and not config.quick)


def line(reproduction: Reproduction, result: dict[str, Any] | None) -> str:
    """Its name, verdict, date and command."""
    verdict, day = results.verdict_of(reproduction, result), result["date"] if result else "-"
    return f"{reproduction.name:<20} {verdict:<12} {day:<10}  {reproduction.command}"


def reproduced(reproduction: Reproduction, out: Path, config: Config) -> dict[str, Any]:
    """All seeds, those of an earlier call as they are, and what follows from them, in NAME.json and NAME.svg."""
    from heedful.recipes.demo import machine

    make_folder(out)
    count = 1 if config.quick else config.seeds or reproduction.seeds
    seeds = [
        of_seed(reproduction, seed, out / reproduction.name, config.quick) for seed in range(count)
    ]
    about = {"machine": machine(), "date": date.today().isoformat(), "quick": config.quick}
    result = results.result_of(reproduction, seeds, quick=config.quick, about=about)
    write_json(out / f"{reproduction.name}.json", result)
    if result["figure"]:
        write_text(
            out / f"{reproduction.name}.svg", pages.picture(reproduction.name, result["figure"])
        )
    return result


def of_seed(reproduction: Reproduction, seed: int, folder: Path, quick: bool) -> dict[str, Any]:
    """The result of a seed: of an earlier call where nothing has changed since, or made now."""
    kept, made_by = folder / f"{seed}.json", results.fingerprint(reproduction, quick)
    if kept.exists() and (before := results.read(kept)).get("made_by") == made_by:
        return before["result"]
    work = folder / str(seed)
    if (note := folder / f"{seed}.made_by").exists() and note.read_text(
        encoding="utf-8"
    ) != made_by:
        shutil.rmtree(work, ignore_errors=True)  # what another version left would be gone on from
    make_folder(work)
    write_text(note, made_by)
    print(f"reproduce: {reproduction.name}, seed {seed}", file=sys.stderr, flush=True)
    begun = time.monotonic()
    found = json.loads(json.dumps(reproduction.run(seed, work, quick)))
    result = {"seed": seed, **found, "seconds": round(time.monotonic() - begun, 1)}
    write_json(kept, {"made_by": made_by, "result": result})
    return result
