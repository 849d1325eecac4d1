-- What schema 0012 added: what a model said against a response, that its rater could ask for it, and that they did.
INSERT INTO model_critique (id, task, completion, source, version, text, created_at) SELECT '0192278c-0000-7000-8000-00000000000c', min(task.id), (SELECT min(id) FROM completion), 'runs/critic', 'a1b2', 'Wrong city.', 1.5 FROM task WHERE kind = 'pair';
INSERT INTO critique_offered (assignment, project, source, offered) SELECT id, project, 'runs/critic', (1 = 1) FROM assignment WHERE id = (SELECT min(id) FROM assignment);
INSERT INTO critique_asked (assignment, critique, created_at) SELECT min(id), '0192278c-0000-7000-8000-00000000000c', 2.5 FROM assignment;
