"""What a report says of a soup: which networks its weights are the mean of."""

from tlkeras.reports.page import Html, figure, file, join, plural, table, tag


def members(soup: dict) -> Html:
    """The members of a soup with their validation scores, from its manifest."""
    rows = [[file(m["name"]), _score(m["val"]), "taken" if m["taken"] else "left out"] for m in soup["members"]]
    taken = sum(m["taken"] for m in soup["members"])
    return join(
        tag(
            "p",
            f"A {soup['kind']} soup: the weights are the mean of {taken} of {plural(len(rows), 'network')}. The plan below is that of the first.",
        ),
        table(
            ["Network", f"Validation {soup['metric'].replace('_', ' ')}", ""],
            [*rows, ["their mean", _score(soup["val"]), ""]],
            numbers=(1,),
        ),
    )


def _score(value: float | None) -> str:
    return "" if value is None else figure(value)
