"""What all typed settings share: their base class, and the kinds of number and name in them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


class Settings(BaseModel):
    """Base of every block of settings: unknown keys, infinities and NaN are refused, and nothing changes once made.

    The text under a field is its description, in docs/configuration.md and in the JSON schema.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    def deciding(self) -> dict[str, Any]:
        """The settings that decide a result, as builtins: what the key of a job digests."""
        return self.model_dump(mode="json")
