-- What schema 0010 added: before which position a rater had had every slot.
INSERT INTO exhausted (rater, project, what, at, everything_at, position) SELECT rater.id, project.id, 'past', 2.5, 1.5, -0.5 FROM rater, project WHERE rater.role = 'rater';
