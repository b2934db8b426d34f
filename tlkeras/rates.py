"""Finding a learning rate: it grows exponentially over some updates, and the loss tells where it is large enough and where
too large (Smith 2015, arXiv:1506.01186, section 3.3; growing exponentially is fastai's)."""

import itertools
import math
from pathlib import Path

import numpy as np

from tlkeras import plans, training
from tlkeras.config import document
from tlkeras.errors import DataError, UsageError, nearest
from tlkeras.reports.rates import picture
from tlkeras.run import write_text

STOP, SMOOTH = 0.9, 0.75  # what an update leaves of the running mean of the losses: for stopping, for the curve
WORSE = 4  # times the least loss: the rate is too large, and no larger one is tried (fastai's rule)
FEWEST = 10  # updates from which a curve can be read


def find_rate(
    path,
    phase: str | None = None,
    sets=(),
    updates: int = 100,
    lowest: float = 1e-7,
    highest: float = 10.0,
    out=None,
    offline: bool = False,
    quiet: bool = False,
) -> dict:
    """Trains a phase of a config for some updates while its learning rate grows, and draws the loss over the rate. Nothing
    is kept of it but the picture. Earlier phases are trained first: a head at random would tell nothing of later ones.

    Args:
        phase: its name. None: the first one.
        updates: at most so many; fewer when the loss becomes four times its least.
        lowest, highest: rates of the head; blocks below have them times their factor.
        out: the picture, an SVG. None: NAME-PHASE-rate.svg.

    Returns:
        {'phase', 'now', 'rates', 'losses', 'smoothed', 'steepest', 'diverged', 'suggested', 'picture', 'set', 'phases'}:
        rates at which the loss falls fastest and from which on it is too large (None: nowhere), the lower one of the first
        and a tenth of the second, and how a config takes it.

    Raises:
        UsageError: when there is no such phase, or the range is none.
        DataError: when the losses tell nothing.
    """
    if not 0 < lowest < highest < math.inf or updates < FEWEST:
        raise UsageError(
            f"Rates grow from more than 0 to something larger, over {FEWEST} updates or more; received {lowest:g} to {highest:g} over {updates}."
        )

    def look(fitting, phase_plans, phases):
        index = _index(phase, phase_plans, phases)
        one = phase_plans[index]
        fitting.all(phase_plans, resume=False, before=index)
        tried = search(fitting, index, one, plans.Growth(lowest, highest, updates))
        found = {"phase": one.phase.name, "now": one.phase.learning_rate, **judged(*tried)}
        file = Path(out or f"{fitting.cfg.name}-{found['phase']}-rate.svg")
        write_text(file, picture(found))
        return found | {"picture": str(file)} | _taken(found["suggested"], one.number, fitting.cfg, phases)

    return training.looked(path, look, sets, offline, quiet)


def search(fitting, index: int, one: plans.PhasePlan, growth: plans.Growth) -> tuple[list[float], list[float]]:
    """(rates, losses) of the updates of a phase under a growing rate; afterwards the weights are as they were."""
    before = [(v, np.array(v.numpy())) for v in fitting.net.model.variables]
    trained, stream, _, _, parts = fitting.compiled(index, one, growth=growth)
    batches = itertools.chain.from_iterable(stream(0) for _ in itertools.count())
    rates: list[float] = []
    losses: list[float] = []
    running, least = 0.0, math.inf
    fitting.progress.start()
    try:
        for n in range(growth.updates):
            some = [
                trained.train_on_batch(*batch, return_dict=True)["loss"] for batch in itertools.islice(batches, parts)
            ]
            loss = float(np.mean(some))
            if not math.isfinite(loss):
                break
            rates.append(growth.rate(n))
            losses.append(loss)
            running = STOP * running + (1 - STOP) * loss
            mean = running / (1 - STOP ** (n + 1))
            least = min(least, mean)
            fitting.progress.step("find rate", n + 1, growth.updates, f"rate {rates[-1]:.1e} loss {loss:.4f}")
            if n >= FEWEST and mean > max(WORSE * least, losses[0]):
                break
    finally:
        for variable, value in before:
            variable.assign(value)
    return rates, losses


def judged(rates: list[float], losses: list[float]) -> dict:
    """What the losses under growing rates say.

    Raises:
        DataError: when they are too few, or do not fall.
    """
    if len(rates) < FEWEST:
        raise DataError(
            f"The loss was no number after {len(rates)} updates, at a rate of {rates[-1] if rates else 0:.1e}; a curve needs {FEWEST}. Begin lower with --lowest, or take more updates."
        )
    # A loss that broke out would outweigh all that came before it in a mean from both ends.
    begun = float(np.mean(losses[:3]))
    smooth = smoothed(np.minimum(losses, begun + (begun - min(losses))).tolist())
    first = max(1, len(rates) // 20)  # at the ends the mean is of few
    bottom = int(np.argmin(smooth[first:])) + first
    steps = np.gradient(smooth, np.log10(rates))
    steepest = int(np.argmin(steps[first : bottom + 1])) + first
    if steps[steepest] >= 0:
        raise DataError(
            "The loss did not fall at any rate, so none can be told from it. Take more updates, or another range with --lowest and --highest."
        )
    above = [i for i in range(bottom, len(rates)) if smooth[i] > max(smooth[first], 1.5 * smooth[bottom])]
    diverged = rates[above[0]] if above else None
    return {
        "rates": rates,
        "losses": losses,
        "smoothed": [float(x) for x in smooth],
        "steepest": rates[steepest],
        "least": rates[bottom],
        "diverged": diverged,
        "suggested": float(f"{min(rates[steepest], diverged / 10 if diverged else math.inf):.1e}"),
    }


def smoothed(losses: list[float]) -> np.ndarray:
    """A running mean from both ends, so that nothing comes later than it was; without the weight of what was before the
    first loss."""

    def one_way(values):
        out, running = [], 0.0
        for n, value in enumerate(values, 1):
            running = SMOOTH * running + (1 - SMOOTH) * value
            out.append(running / (1 - SMOOTH**n))
        return np.array(out)

    return (one_way(losses) + one_way(losses[::-1])[::-1]) / 2


def text(found: dict) -> str:
    """What was found, for people."""
    much = f"{found['diverged']:.1e}" if found["diverged"] else "nowhere up to " + f"{found['rates'][-1]:.1e}"
    out = [
        f"phase {found['phase']}: {len(found['rates'])} updates, rates from {found['rates'][0]:.1e} to {found['rates'][-1]:.1e}",
        f"  the loss falls fastest at   {found['steepest']:.1e}",
        f"  it is least at              {found['least']:.1e}",
        f"  it is too large from        {much}",
        f"  to take                     {found['suggested']:.1e}   (now {found['now']:.1e})",
        f"Drawn into {found['picture']}",
    ]
    if found["phases"]:
        out += ["The phases come from a recipe. Written out, with that rate:", found["phases"]]
    return "\n".join(out)


def _index(name: str | None, phase_plans: list, phases: list) -> int:
    """The number of the phase of that name, or of the first stage of one that unfreezes."""
    stages = [p.phase.name for p in phase_plans]
    if name is None:
        return 0
    if name in stages:
        return stages.index(name)
    names = [p.name for p in phases]
    if name in names:
        return next(i for i, p in enumerate(phase_plans) if p.number == names.index(name))
    known = list(dict.fromkeys([*names, *stages]))
    raise UsageError(f"There is no phase {name!r}; there are {', '.join(known)}.{nearest(name, known)}")


def _taken(rate: float, number: int, cfg, phases: list) -> dict:
    """How a config takes a rate: {'set': an override} where it has phases, else {'phases': YAML of those of the recipe}."""
    if cfg.train.phases:
        return {"set": f"train.phases.{number}.learning_rate={rate:g}", "phases": None}
    rows = [p.model_dump(mode="json", exclude_defaults=True) for p in phases]
    rows[number]["learning_rate"] = rate
    return {"set": None, "phases": document.write({"train": {"phases": rows}}).rstrip()}
