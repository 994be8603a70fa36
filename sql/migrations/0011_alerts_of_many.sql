-- An outage suspends sagas by the thousand: a few of them are told of one by one, the rest by their number.
alter table alert add column told boolean not null default true;
comment on column alert.told is 'Whether it was an event: of many alike, most are only counted; see setting.alert_most.';
alter table setting
    add column alert_most integer default 20,
    add constraint setting_alert_most_is_positive check (alert_most > 0);
comment on column setting.alert_most is 'Of a type, at most so many suspended (or stuck) sagas are told of one by one as long as they are, then at each look one more with the number of the others; null: all are.';
