"""Write the numbers of docs/results/people/*.json into docs/people.md: python docs/results/people_tables.py"""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "people.md"


def load(name: str) -> dict | list:
    return json.loads((HERE / "people" / f"{name}.json").read_text(encoding="utf-8"))


def loop(runs: list[dict]) -> str:
    rows = [
        "| seed | comparisons | words an answer, before | after | held-out tokens, before | after | KL, nats | gold, before | after |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in runs:
        first, second = r["words"]["1"], r["words"]["2"]
        words = [f"{w['mean']:.1f} [{w['ci'][0]:.1f}, {w['ci'][1]:.1f}]" for w in (first, second)]
        old, new = r["held_out_before"], r["held_out_after"]
        rows.append(
            f"| {r['seed']} | {r['comparisons']} | {words[0]} | {words[1]} | {old['length']:.1f} | {new['length']:.1f} "
            f"| {new['kl']:.2f} | {old['gold']:.2f} | {new['gold']:.2f} |"
        )
    seconds = [r["seconds_rating"] for r in runs]
    return "\n".join(rows) + (
        "\n\nThe words are those of the responses that the rounds put to the rater, with 95 % bootstrap intervals; the tokens those of all held-out "
        f"prompts. The session clicked for {min(seconds):.0f} to {max(seconds):.0f} seconds. Gold rises too, since in this world short answers are mostly right ones, but nobody asked for that."
    )


def storm(result: dict) -> str:
    rows = [
        "| database | raters | acknowledged | stored | kills | requests without an answer | sent again | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ("sqlite", "postgresql"):
        r = result[name]
        rows.append(
            f"| {name} | {r['raters']} | {r['acknowledged']:,} | {r['stored']:,} | {r['kills']} | {r['requests_without_an_answer']:,} "
            f"| {r['sent_again']} | {r['seconds']:.0f} |"
        )
    return "\n".join(rows) + (
        f"\n\nRaters answer as fast as they can on {result['machine']}; 5 % of the answers are cut off, 5 % duplicated, 5 % sent again later, and the server is "
        "killed with signal 9 in between: `PYTHONPATH=tests python docs/results/nothing_lost.py`."
    )


def stops(r: dict) -> str:
    """Of a storm in which the database died, too."""
    told = [
        f"on {name} {one['raters']} raters stored {one['stored']:,} of {one['acknowledged']:,} acknowledged answers through {one['kills']} kills of the server"
        + (
            f" and {one['stops_of_the_database']} crashes of the database"
            if one["stops_of_the_database"]
            else ""
        )
        + f"; {one['histories_that_no_order_explains']} of the histories of {one['requests_in_the_history']:,} requests cannot be explained by any order"
        for name, one in (("SQLite", r.get("sqlite")), ("PostgreSQL", r.get("postgresql")))
        if one
    ]
    return f"\n\nEverything that was asked and answered is recorded and checked for linearizability: {'; '.join(told)} (`nothing_lost.py 20 100 6`)."


def speed(r: dict) -> str:
    rows = ["| | p50 | p95 | p99 |", "|---|---|---|---|"]
    for name, title in (("next_ms", "next question"), ("submit_ms", "submit")):
        q = r[name]
        rows.append(f"| {title}, ms | {q['p50']:.0f} | {q['p95']:.0f} | {q['p99']:.0f} |")
    for name, title in (("next_ms", "next question"), ("submit_ms", "submit")):
        q = r[f"{name}_while_the_lead_looks"]
        rows.append(
            f"| {title} while the lead opens page after page, ms | {q['p50']:.0f} | {q['p95']:.0f} | {q['p99']:.0f} |"
        )
    pages = ", ".join(f"{n} {max(s):.2f}" for n, s in r["dashboard_seconds_while_rating"].items())
    alone = ", ".join(
        f"{n} {s[1]:.2f} ({s[0]:.2f})" for n, s in r["dashboard_seconds_alone"].items()
    )
    return "\n".join(rows) + (
        f"\n\n{r['raters']} raters at work ({r['answers_a_second']} answers a second, two seconds of thought each) in a SQLite workspace with {r['judgments_before']:,} judgments "
        f"({r['database_mib']:,} MiB), on {r['machine']} that also run the raters; twenty million additions took Python {min(r['adding']):.2g} to {max(r['adding']):.2g} seconds of a processor there then, and {max(r['stolen']):.1%} of the processors' time went to other machines. The server needs at most {r['server_peak_mib']} MiB. The lead's pages take, in seconds (the first time after a start in brackets): {alone}; while all rate: {pages}. "
        "`PYTHONPATH=tests python docs/results/load.py`."
    )


def keyboard(r: dict) -> str:
    took = r["ms"]
    return (
        f"From Enter to the next question on the rater's screen: {took['median']:.0f} ms (median), {took['p95']:.0f} ms (95 %), by {r['answers']} answers by keys in Chromium, "
        f"which shares a core with the server (load {r['load']:g}, {r['machine']}): two responses of 400 words with a formula, a list and code. "
        "`PYTHONPATH=tests python docs/results/keyboard.py`."
    )


def bulk(r: dict) -> str:
    jobs = {
        "check": "`check --all`", "check_again": "`check` again", "export_comparisons": "`export comparisons`",
        "export_rankings": "`export rankings`", "import": "`import comparisons`",
        "import_samples": "`import samples --ask pair`", "backup": "`backup`", "restore": "`restore`",
    }  # fmt: skip
    rows = [
        "| | SQLite: seconds | a million would take | MiB at most | PostgreSQL: seconds | a million would take | MiB at most |",
        "|" + "---|" * 7,
    ]
    for name, title in jobs.items():
        if name not in r["sqlite"]:
            continue
        number = r["imported" if name.startswith("import") else "judgments"]
        cells = [
            cell
            for one in (r["sqlite"][name], r["postgresql"][name])
            for cell in (
                f"{one['seconds']:.1f}",
                f"{one['seconds'] * 1e6 / number:.0f}",
                str(one["peak_mib"]),
            )
        ]
        rows.append(f"| {title} | {' | '.join(cells)} |")
    adding = [seconds for name in ("sqlite", "postgresql") for seconds in r[name]["adding"]]
    rates = {
        name: f"{r['imported'] / seconds:,.0f} {name} a second"
        for name, job in (
            ("comparisons with their answers", "import"),
            ("samples", "import_samples"),
        )
        if (seconds := r["sqlite"].get(job, {}).get("seconds"))
    }
    load = max(n for name in ("sqlite", "postgresql") for n in r[name]["load"])
    return "\n".join(rows) + (
        f"\n\nWorkspaces with {r['judgments']:,} judgments (SQLite: {r['sqlite']['database_mib']:,} MiB), on {r['machine']}, load {load:g} at most. Twenty million additions take Python "
        f"{min(adding):.2g} to {max(adding):.2g} seconds of a processor there. Imports of {r['imported']:,} into SQLite: {' and '.join(rates.values())}. Half of `check` is SQLite's own look through its file, which "
        f"another core does at the same time. {bare(r)}`PYTHONPATH=tests:docs/results python docs/results/bulk.py {r['judgments']}`."
    )


def bare(r: dict) -> str:
    """What no program in Python and on SQLite takes less than."""
    if not (floor := r["sqlite"].get("floor")):
        return ""
    numbers = {name: r["imported" if name == "import" else "judgments"] for name in floor}
    of = {name: f"{seconds * 1e6 / numbers[name]:.0f}" for name, seconds in floor.items()}
    return (
        f"The bare work takes a processor, of a million, so many seconds: SQLite's own two checks {of['check']}, columns fetched and written as JSON "
        f"{of['export_comparisons']}, the rows of imported comparisons inserted as they are {of['import']}. "
    )


def soak(r: dict) -> str:
    names = {
        "memory_mib": "memory, MiB", "open_files": "open files", "threads": "threads",
        "wal_kib": "write-ahead log, KiB", "session_rows": "sessions", "leases": "leases",
        "exhausted_rows": "raters who have had everything",
    }  # fmt: skip
    rows = [
        "| most of each quarter | 1 | 2 | 3 | 4 | median of the 4th above the 3rd's |",
        "|---|---|---|---|---|---|",
    ]
    for name, title in names.items():
        each = " | ".join(f"{v:,.0f}" for v in r["most_of_each_quarter"][name])
        rows.append(f"| {title} | {each} | {r['rise_from_the_third_quarter'][name]:,g} |")
    return "\n".join(rows) + (
        f"\n\n{r['simulated_days']} days of six raters and a lead in {r['seconds']} seconds: {r['requests']:,} requests, {r['answers']:,} answers, {r['sign_ins']} sign-ins, "
        f"{r['pages']:,} of the lead's pages, a check and a backup each week, another project each month, on {r['machine']}{r.get('note', '')}. `PYTHONPATH=tests python docs/results/soak.py`."
    )


def study(r: dict) -> str:
    """The lead's minutes step by step, with what they are made of."""
    kinds = {
        "commands": "command{}", "pages": "page{}", "clicks": "click{}", "fields": "field{}",
        "characters": "character{} typed", "keys": "key{} in answers", "words": "word{} read",
    }  # fmt: skip
    rows = [
        "| step | what the lead does | seconds that the pages take | minutes |",
        "|---|---|---|---|",
    ]
    for step in r["steps"]:
        done = ", ".join(
            f"{step[kind]:,} {title.format('s' * (step[kind] > 1))}"
            for kind, title in kinds.items()
            if step[kind]
        )
        rows.append(
            f"| {step['name']} | {done or 'nothing'} | {step['waited']:.0f} | {step['minutes']:.1f} |"
        )
    rows.append(f"| **all of it** | | | **{r['minutes']:.1f}** |")
    people = r["raters"].values()
    keys, taps, requests = (
        sum(p[f"by {how}"] for p in people) for how in ("keys", "taps", "requests")
    )
    each = r["seconds_for_each"]
    prices = ", ".join(f"{each[kind]:g} a {one}" for kind, one in (
        ("clicks", "click"), ("fields", "field"), ("characters", "character"), ("keys", "key as an answer"),
        ("words", "word read"), ("pages", "page looked over"), ("commands", "command"),
    ))  # fmt: skip
    trained = ", then ".join(str(one["all_comparisons"]) for one in r["rounds"])
    return "\n".join(rows) + (
        f"\n\n{r['prompts']} prompts with two responses each, {len(r['raters'])} raters, {keys + taps + requests:,} answers to all of a screen: {keys} by keys on a laptop's screen, {taps} by taps on a phone's, "
        f"{requests:,} by the requests that the page would send. {r['exported']['judgments']:,} judgments and {r['exported']['comparisons']:,} comparisons exported; two rounds trained, on {trained} comparisons. "
        f"All of it took {r['seconds'] / 60:.0f} minutes on {r['machine']}. The minutes are a model, not a stopwatch: in seconds, {prices} (the keystroke-level model of Card, Moran and Newell; "
        "238 words a minute; pages and commands are guesses), and what the pages themselves took, which was measured. What one thinks before one types is not in it, nor the work of the raters. "
        f"`PYTHONPATH=tests python docs/results/study.py OUT --prompts {r['prompts']}`."
    )


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, make in (
        ("loop", loop),
        ("nothing_lost", storm),
        ("load", speed),
        ("keyboard", keyboard),
        ("bulk", bulk),
        ("soak", soak),
        ("study", study),
    ):
        if not (HERE / "people" / f"{name}.json").exists():
            continue
        text = make(load(name))  # type: ignore[arg-type]
        if name == "nothing_lost" and (HERE / "people" / "stops.json").exists():
            text += stops(load("stops"))  # type: ignore[arg-type]
        page = re.sub(
            rf"<!-- {name}: begin -->.*<!-- {name}: end -->",
            lambda _, name=name, text=text: f"<!-- {name}: begin -->\n{text}\n<!-- {name}: end -->",
            page,
            flags=re.DOTALL,
        )
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
