create view deliveries as
select d.saga_id, d.event, d.subscription, d.status, d.attempts, d.error, d.at
from delivery d;
comment on view deliveries is 'Each event on its way to each subscription: waiting, delivered, or dead.';
