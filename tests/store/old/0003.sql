-- What schema 0003 added: the guidelines shown beside a question are those that 0002 knew.
UPDATE assignment SET discounted = 'limit' WHERE id = (SELECT min(id) FROM assignment);
UPDATE webhook_delivery SET event = 'alert', status = 503, error = 'away; "for" a while' WHERE id = (SELECT max(id) FROM webhook_delivery);
