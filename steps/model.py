"""What a payment is asked for with: the input of the payment saga."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Payment(BaseModel):
    """Take an amount from a customer's card for a merchant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    amount: Annotated[
        int,
        Field(
            gt=0,
            le=99_999_999,
            description="amount in the smallest unit of the currency (cents, yen)",
        ),
    ]
    currency: Annotated[
        str, Field(pattern="^[a-z]{3}$", description="ISO 4217 code in small letters")
    ]
    merchant: Annotated[
        str, Field(min_length=1, max_length=100, description="whose ledger account is debited")
    ]
    customer: Annotated[
        str, Field(min_length=1, max_length=100, description="the provider's customer id (cus_...)")
    ]
    payment_method: Annotated[
        str,
        Field(min_length=1, max_length=100, description="the provider's id of the card (pm_...)"),
    ]
    email: Annotated[
        str | None,
        Field(
            max_length=254,
            pattern=r"^[^\s@<>,;]+@[^\s@<>,;]+$",
            description="where the confirmation goes; without it none is sent",
        ),
    ] = None
    sandbox_fault: Annotated[
        str | None,
        Field(
            max_length=500,
            description="trouble that the sandbox is to make, e.g. create:drop_after:1",
        ),
    ] = None
