"""The command line: ``bin/worker`` and ``bin/saga``."""
