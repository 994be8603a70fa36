"""What can be seen of sagas: the one way in which the command line, the pages and the metrics read,
so that they agree.

Every function takes a psycopg async connection of its caller's and the schema's name, changes
nothing, and returns frozen values. ``sagas`` finds them, ``saga`` tells all of one, ``fleet`` what
runs them and holds for all, ``rates`` how well and how fast they go, ``interventions`` what waits
for a person.
"""
