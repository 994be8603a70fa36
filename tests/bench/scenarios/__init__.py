"""One module a scenario; each has a `SCENARIO`, and is found by being here."""
