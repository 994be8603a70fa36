"""The demo: a file of payments, two workers, and what must have come of it.

``command`` reads the command line, ``run`` is the order of events. What it runs in: ``directory``,
``leftovers``, ``programs``, ``workers``, ``mailbox``, ``interrupts``. What it finds out: ``facts``
reads it, ``verdict`` compares it with the inputs. What it shows: ``progress`` meanwhile, ``report``
at the end.
"""
