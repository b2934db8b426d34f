"""One phase of training: what is trained, how fast, and what is kept."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from tlkeras.config.section import Count, Fraction, Positive, Section


def listed_names(value):
    return [value] if isinstance(value, str) else value


class EarlyStopping(Section):
    patience: Count = Field(5, description="Epochs without improvement before the phase ends.")
    min_delta: float = Field(0.0, ge=0, description="What counts as improvement.")


def _averaged(value):
    return {"kind": value} if isinstance(value, str) else value


class Average(Section):
    """What a phase is judged by and ends with instead of its last weights: a mean over its course."""

    kind: Literal["ema", "swa"] = Field(
        description="ema: a moving average of all updates; swa: the mean of the weights at the ends of epochs."
    )
    decay: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.99, description="ema: what an update leaves of the average; less while there are few of them."
    )
    start: Count | None = Field(
        None, description="The first epoch that counts. None: ema 1, swa the first of the second half."
    )

    def first(self, epochs: int) -> int:
        """The first epoch that counts, from 0, in a phase of so many."""
        usual = 1 if self.kind == "ema" else epochs // 2 + 1
        return min(self.start or usual, epochs) - 1


class Phase(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = Field(description="Shown in plan, history and report.")
    train: Annotated[list[str], BeforeValidator(listed_names, json_schema_input_type=str | list[str])] = Field(
        min_length=1,
        description="Blocks to train: names, globs, ranges `block3..block5`, slices `blocks[-2:]`, `head`, `all`.",
    )
    epochs: Count = Field(description="Passes over the training data.")
    learning_rate: Positive = Field(description="The rate of the head; blocks below have it times their factor.")
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Factor from each trained block to the one below it; 0.7 protects early blocks."
    )
    unfreeze: Count | None = Field(
        None,
        description="Gradual unfreezing: epochs until the next block joins; it begins with the topmost one, and head and neck where they are trained. None: all at once.",
    )
    rates: dict[str, Positive] = Field(
        {}, description="Factor on the learning rate by block (names and patterns as in train); overrides layer_decay."
    )
    batchnorm: Literal["frozen", "train", "adapt"] | dict[str, Literal["frozen", "train", "adapt"]] = Field(
        "frozen",
        description="BatchNorm of trained blocks: frozen (but for neck and head, which begin at random); train (batch statistics); adapt (only its statistics move). Or per block.",
    )
    optimizer: Literal["adamw", "adam", "sgd", "lion", "rmsprop"] = Field(
        "adamw", description="adamw decays weights apart from the gradient."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Scaled with each block's learning rate; never on biases and normalisation."
    )
    schedule: Literal["constant", "cosine", "linear", "slanted", "cyclic"] = Field(
        "cosine",
        description="How the learning rate falls over the phase: not, along half a cosine or a line to 0, along a line to 1/32 (slanted), or in every epoch anew to 1/100 (cyclic).",
    )
    warmup: Fraction = Field(0.1, description="Part of the phase over which the learning rate rises from 0.")
    clip_norm: Positive | None = Field(
        None, description="Gradients are scaled down to this norm, per learning-rate group."
    )
    average: Annotated[
        Average | None,
        BeforeValidator(_averaged, json_schema_input_type=Literal["ema", "swa"] | Average | None),
    ] = Field(None, description="Judge and keep averaged weights: ema, swa, or a mapping. None: the last ones.")
    early_stopping: EarlyStopping | None = Field(
        None, description="Stop on the validation loss and keep the best weights. None: train all epochs."
    )

    @model_validator(mode="after")
    def _averages_an_epoch(self):
        if self.average and (self.average.start or 1) > self.epochs:
            raise ValueError(f"average.start: the phase has {self.epochs} epochs; received {self.average.start}")
        return self
