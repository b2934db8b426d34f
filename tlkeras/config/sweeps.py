"""The section `sweep` of a config: what is tried, and how long."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from tlkeras.config.section import Count, Section, Seed


class Range(Section):
    """Numbers from low to high, both among them; whole ones where the key takes no others."""

    low: int | float = Field(description="The least.")
    high: int | float = Field(description="The largest.")
    log: bool = Field(False, description="As many below the geometric mean as above it: for rates and other factors.")
    step: int | float | None = Field(None, description="Distance from one value to the next. None: any.")

    @model_validator(mode="after")
    def _goes_up(self):
        if self.low >= self.high:
            raise ValueError(f"low must be less than high; received {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"with log, low must be more than 0; received {self.low}")
        if self.step is not None and (self.step <= 0 or self.log):
            raise ValueError("step must be more than 0, and goes without log")
        return self


# Told apart before they are checked, so that a mistake in one is not reported as one in the other too.
Tried = Annotated[
    Annotated[Range, Tag("range")] | Annotated[list[Any], Field(min_length=1), Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "range"),
]


class Sweep(Section):
    """A search over keys of the config, by `tlkeras sweep`; the other verbs pass it over."""

    over: dict[str, Tried] = Field(
        min_length=1,
        description="What is tried for which key, written as for --set: a list of values, or low and high of a range.",
    )
    trials: Count = Field(20, description="Runs that are made; fewer where a grid has fewer.")
    metric: str | None = Field(
        None,
        description="What is best on the validation split: a metric of the task, or val_loss. None: the task's main metric.",
    )
    sampler: Literal["auto", "tpe", "random", "grid"] = Field(
        "auto",
        description="tpe looks where it went well (Bergstra et al. 2011); grid: every combination of lists; auto: grid where trials are enough for it, else tpe.",
    )
    pruner: Literal["median", "halving", "none"] = Field(
        "median",
        description="Which trials end early: median: those below the middle of the others at that epoch; halving: all but the best third, again and again.",
    )
    startup: Count = Field(4, description="Trials that have to end before any is ended early by the median.")
    grace: Count = Field(2, description="Epochs that every trial gets.")
    seed: Seed = Field(0, description="Of what is drawn.")
