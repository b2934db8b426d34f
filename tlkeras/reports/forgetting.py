"""What a run with more classes forgot of the run that it extends."""

from tlkeras.reports.facts import Facts
from tlkeras.reports.page import Html, join, name, percent, table, tag
from tlkeras.run import read_json


def forgetting(facts: Facts) -> Html | None:
    """Recall per class before and after, from extend.json; None where the run extends no other."""
    if not facts.run.extended.is_file():
        return None
    found = read_json(facts.run.extended)
    a, rows = found["accuracy"], found["classes"]
    cells = [_row(name(r["class"]), r["n"], r["before"], r["after"], r["new"]) for r in rows]
    old, new = ([r["n"] for r in rows if r["new"] is which] for which in (False, True))
    cells += [
        _row(tag("b", "Old classes"), sum(old), a["old_before"], a["old_after"], False),
        _row(tag("b", "New classes"), sum(new), None, a["new"], False),
        _row(tag("b", "All together"), sum(old) + sum(new), None, a["all"], False),
    ]
    if a["old_before"] is None:
        said = f"No held-out {facts.things} of an old class are there, so nothing can be said."
    elif a["old_after"] < a["old_before"]:
        lost = (a["old_before"] - a["old_after"]) * sum(old)
        said = f"Of old classes {percent(a['old_before'])} were named right and {percent(a['old_after'])} are now: {lost:.0f} of {sum(old)} fewer."
    else:
        said = f"Nothing on the whole: of old classes {percent(a['old_after'])} are named right, and {percent(a['old_before'])} were before."
    return join(
        tag("p", said),
        table(
            ["Class", facts.things.capitalize(), "Before", "After", "Change"],
            cells,
            caption=join(
                f"Recall on the same {found['split']} {facts.things}, of ",
                name(found["from"]),
                " before and of this run after. The old run could not take anything for a new class; this one can.",
            ),
            numbers=(1, 2, 3, 4),
        ),
    )


def _row(title, n: int, before, after, new: bool) -> list:
    change = "new" if new and before is None else "" if None in (before, after) else f"{100 * (after - before):+.1f}"
    return [title, f"{n:,}", *("" if v is None else percent(v) for v in (before, after)), change]
