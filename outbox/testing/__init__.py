"""For the tests of your own sagas: a real worker on a real Postgres, within the test::

    from outbox.testing import Workbench

    def test_an_order_is_labelled() -> None:
        with Workbench(app) as bench:
            ended = bench.run(order, Order(item="tea", quantity=2))
        assert ended.output == "2 x tea from shelf-3"

and :func:`command`, which makes what a single handler is given, for tests without a database.
"""

from outbox.testing.handler import command
from outbox.testing.workbench import Workbench

__all__ = ["Workbench", "command"]
