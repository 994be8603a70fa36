"""The dashboard: pages that show sagas and act on them, rendered by the server. Needs the extra
``outbox-saga[web]``."""
