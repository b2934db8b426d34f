"""Sections that name a finished run to learn from."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, create_model

from tlkeras.config.section import Section

# `from` is a word of Python's: a field of that name cannot be written down as the others are.
_From: Any = create_model(  # type: ignore[call-overload]
    "_From", __base__=Section, **{"from": (str, Field(min_length=1, description="The folder of a finished run."))}
)


def _none_is_0(value):
    return 0.0 if value is False else value


class Distill(_From):
    """A finished run that teaches this one: what it answers is learnt beside the labels."""

    temperature: Annotated[float, Field(ge=0.1, le=100)] = Field(
        2.0, description="Divides both networks' logits; higher shows more of what the teacher thinks of wrong classes."
    )
    weight: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="Part of the loss that is the teacher's; the rest is the labels'."
    )
    features: Annotated[float, BeforeValidator(_none_is_0, json_schema_input_type=Literal[False] | float)] = Field(
        0.0,
        ge=0,
        description="Weight of the distance between both networks' features, added to the loss; 0 or false: none.",
    )

    @property
    def run(self) -> str:
        return getattr(self, "from")


class Extend(_From):
    """A finished run whose classes this one keeps, with those of `data` beside them: see `tlkeras extend`."""

    old_rows: bool = Field(True, description="Train on the run's own training samples too.")

    @property
    def run(self) -> str:
        return getattr(self, "from")
