"""The benchmark: `bin/bench --help`. It is no test, and pytest collects nothing here."""
