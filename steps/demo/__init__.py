"""The demo: many sagas, two workers, and what must have come of them.

``command`` reads the command line, ``run`` is the order of events, a ``scenario`` says what is run
and how it must end. What it runs in: ``directory``, ``leftovers``, ``programs``, ``workers``,
``mailbox``, ``interrupts``. What it finds out: ``facts`` of the engine, the scenario of all else.
What it shows: ``progress`` meanwhile, ``report`` at the end. Where it stays: ``dashboard``, the
``life`` that goes on, and ``stay``, which waits for the end.
"""
