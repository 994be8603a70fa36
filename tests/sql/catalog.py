"""What is in a schema, in words that two schemas can be compared by."""

from typing import Any

import psycopg

# The schema's own name is replaced, so that it may differ.
CATALOG = """
select 'routine' as kind, p.oid::regprocedure::text as name,
    pg_get_functiondef(p.oid) as what
from pg_proc p where p.pronamespace = %(schema)s::text::regnamespace
union all
select 'grant', p.oid::regprocedure::text, p.proacl::text
from pg_proc p where p.pronamespace = %(schema)s::text::regnamespace
    -- whoever may call a trigger's function cannot
    and p.prorettype <> 'trigger'::regtype
union all
select 'relation', c.relname::text,
    concat_ws(' ', c.relkind, c.reloptions, c.relacl, c.relpersistence)
from pg_class c where c.relnamespace = %(schema)s::text::regnamespace and c.relkind <> 'c'
union all
select 'column', format('%%s.%%s', a.attrelid::regclass, a.attname),
    concat_ws(' ', a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
              a.attstorage, pg_get_expr(d.adbin, d.adrelid))
from pg_attribute a join pg_class c on c.oid = a.attrelid
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where c.relnamespace = %(schema)s::text::regnamespace and a.attnum > 0 and not a.attisdropped
union all
select 'constraint', format('%%s.%%s', conrelid::regclass, conname), pg_get_constraintdef(oid)
from pg_constraint where connamespace = %(schema)s::text::regnamespace
union all
select 'index', indexname, indexdef from pg_indexes where schemaname = %(schema)s::text
union all
select 'view', viewname, definition from pg_views where schemaname = %(schema)s::text
union all
select 'trigger', tgname::text, concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
from pg_trigger t join pg_class c on c.oid = t.tgrelid
where c.relnamespace = %(schema)s::text::regnamespace and not tgisinternal
union all
select 'comment', concat_ws(' ', c.oid::regclass, d.objsubid), d.description
from pg_description d join pg_class c on c.oid = d.objoid and d.classoid = 'pg_class'::regclass
where c.relnamespace = %(schema)s::text::regnamespace
union all
select 'type', t.typname, (select string_agg(e.enumlabel, ',' order by e.enumsortorder)
                           from pg_enum e where e.enumtypid = t.oid)
from pg_type t where t.typnamespace = %(schema)s::text::regnamespace and t.typtype = 'e'
"""


def read_catalog(
    connection: psycopg.Connection[Any], schema: str
) -> dict[tuple[str, str], str | None]:
    """Every object of a schema by its kind and name, with all that makes it what it is."""
    rows = connection.execute(CATALOG, {"schema": schema}).fetchall()
    return {
        (kind, name.replace(schema, "<schema>")): what and what.replace(schema, "<schema>")
        for kind, name, what in rows
    }
