"""A saga for the command line: an order that goes well, is refused, or stops for a person."""

from datetime import timedelta

from pydantic import BaseModel

from outbox import App, Command, Rejected, Retry, Saga


class Order(BaseModel):
    """How it is to end, and fields of several types."""

    end: str = "well"
    amount: int
    price: float | None = None
    gift: bool = False


order = Saga("order", input=Order)


@order.step(state="TAKEN")
async def take(cmd: Command[Order]) -> dict[str, int]:
    if cmd.input.end == "refused":
        raise Rejected("we [bold]do not[/bold] want it", code="unwanted")
    return {"amount": cmd.input.amount}


@take.compensation()
async def give_back(cmd: Command[Order]) -> None: ...


@order.step(state="SENT", pivot=True)
async def send(cmd: Command[Order]) -> str:
    return "sent"


@order.step(retry=Retry(attempts=1))
async def thank(cmd: Command[Order]) -> str:
    if cmd.input.end == "suspended":
        raise ValueError("no paper")
    return "thanks"


class Nothing(BaseModel):
    """No input."""


approval = Saga("approval", input=Nothing)
approval.wait_for("approve", timeout=timedelta(hours=1))


app = App([order])
approvals = App([approval])
