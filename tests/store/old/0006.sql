-- What schema 0006 added: who added a webhook.
UPDATE webhook SET added_by = (SELECT id FROM rater WHERE role = 'owner');
