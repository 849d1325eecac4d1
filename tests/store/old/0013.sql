-- What schema 0013 added: how a question came next, what raters were told (nothing any more), agreed to, and took back.
INSERT INTO question_drawn (assignment, by_chance, propensity) SELECT id, (1 = 1), 0.125 FROM assignment WHERE id = (SELECT min(id) FROM assignment);
INSERT INTO disclosure (id, project, body, sha256, created_at) SELECT '0192278c-0000-7000-8000-00000000000c', id, '', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 1.5 FROM project;
INSERT INTO agreement (disclosure, rater, created_at) SELECT '0192278c-0000-7000-8000-00000000000c', id, 2.5 FROM rater WHERE role = 'rater';
INSERT INTO withdrawal (project, rater, withdrawn_by, created_at) SELECT project.id, rater.id, NULL, 2.5 FROM project, rater WHERE rater.role = 'owner';
