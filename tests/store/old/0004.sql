-- What schema 0004 added: who had had everything, and since when slots were open.
INSERT INTO exhausted (rater, project, what, at, everything_at) SELECT rater.id, project.id, 'slot', 2.5, 1.5 FROM rater, project WHERE rater.role = 'rater';
UPDATE task_slot SET open_since = 1795960000.125 WHERE slot = 0;
