-- What schema 0011 added: what a model suggested, and that it was shown.
INSERT INTO suggestion (id, task, source, version, ranks, created_at) SELECT '0192278c-0000-7000-8000-00000000000b', min(id), 'runs/reward', 'a1b2', '[1, 2]', 1.5 FROM task WHERE kind = 'pair';
INSERT INTO suggestion_shown (assignment, suggestion, project, shown) SELECT id, '0192278c-0000-7000-8000-00000000000b', project, (1 = 1) FROM assignment WHERE id = (SELECT min(id) FROM assignment);
