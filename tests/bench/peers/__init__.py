"""The benchmark's saga on other engines and queues, one file each, on the same Postgres.

`peer` says what such a file gives; `payment` has the four steps that all of them run; `state_table`
is the saga by hand for those that are queues and know no saga; `measure` starts workers, sends them
payments, and checks that all came to their end.
"""
