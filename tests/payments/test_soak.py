"""Payments for minutes, while workers die one after the other; behind ``make soak``."""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.payments.world import World, all_is_well, make_payments
from tests.waiting import wait_until

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
BATCH = 200


@pytest.mark.soak
def test_workers_die_for_minutes_under_load(world: World) -> None:
    world.rows("update setting set max_deaths = 1000 returning 1")
    dice = random.Random(11)
    running = [world.worker() for _ in range(3)]
    end, batch, kills = time.monotonic() + SECONDS, 0, 0
    while time.monotonic() < end:
        payments = make_payments(BATCH)
        world.start({f"{batch}-{key}": payment for key, payment in payments.items()})
        batch += 1
        wait_until(lambda: world.unsettled() < BATCH // 2, 120, "half of a batch settled")
        running.pop(dice.randrange(len(running))).kill()
        running.append(world.worker())
        kills += 1
    world.wait_until_settled(180)
    all_is_well(world)
    assert kills > 0
