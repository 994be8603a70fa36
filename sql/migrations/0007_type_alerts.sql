-- Alerts that are of a whole type: it lags, or too few of its sagas complete.

alter table setting
    add column alert_lag interval default '1 minute',
    add column alert_completion_rate real,
    add column alert_window interval not null default '15 minutes',
    add column alert_least integer not null default 20,
    add constraint setting_alert_lag_is_positive check (alert_lag > '0'),
    add constraint setting_alert_completion_rate_is_a_share check (alert_completion_rate between 0 and 1),
    add constraint setting_alert_window_is_positive check (alert_window > '0'),
    add constraint setting_alert_least_is_positive check (alert_least > 0);
comment on column setting.alert_lag is 'A type of which a command has been due for longer than this lags; null: no such alerts.';
comment on column setting.alert_completion_rate is 'Alert when of the sagas started in alert_window and ended fewer than this share completed; null: no such alerts.';
comment on column setting.alert_least is 'So many sagas of a type have to have ended before their completion rate is looked at.';

-- One row an episode.
create table type_alert (
    id          bigint      generated always as identity primary key,
    type        text        not null,
    kind        text        not null,
    message     text        not null,
    raised_at   timestamptz not null,
    resolved_at timestamptz,
    constraint type_alert_kind_is_known check (kind in ('lag', 'completion_rate'))
);
create unique index type_alert_open on type_alert (type, kind) where resolved_at is null;
