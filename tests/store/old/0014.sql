-- What schema 0014 added: whose response a question shows.
INSERT INTO own_response (task, rater) SELECT task.id, rater.id FROM task, rater WHERE rater.role = 'rater' AND task.kind = 'pair';
