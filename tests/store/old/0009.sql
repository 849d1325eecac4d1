-- What schema 0009 added: groups, members of projects, named invitations, single sign-on, what comes before the real work.
INSERT INTO rater_group (id, name, created_at) VALUES ('0192278c-0000-7000-8000-000000000009', 'Lima é', 1.5);
INSERT INTO group_member (rater_group, rater, created_at) SELECT '0192278c-0000-7000-8000-000000000009', id, 1.5 FROM rater WHERE role = 'rater';
INSERT INTO project_member (project, rater, role, paused, created_at) SELECT project.id, rater.id, 'rater', (1 = 0), 1.5 FROM project, rater WHERE rater.role = 'rater';
INSERT INTO project_group (project, rater_group, role, created_at) SELECT id, '0192278c-0000-7000-8000-000000000009', 'reviewer', 1.5 FROM project;
INSERT INTO invitation_pii (invitation, name, email, sent_at, problem) SELECT min(id), 'Ana "A"', 'ana@example.org', 2.5, 'bounced' FROM invitation;
INSERT INTO identity (issuer, subject, rater, created_at) SELECT 'https://id.example.org', 'a|1', id, 1.5 FROM rater WHERE role = 'owner';
INSERT INTO gold_explanation (id, task, body, created_at) SELECT '0192278c-0000-7000-8000-00000000000a', task, 'Because.', 1.5 FROM gold_key;
INSERT INTO trial (assignment, project, rater, stage, attempt) SELECT id, project, rater, 'training', 1 FROM assignment WHERE id = (SELECT min(id) FROM assignment);
INSERT INTO qualification (project, rater, attempt, state, correct, asked, decided_by, decided_at) SELECT project.id, rater.id, 1, 'granted', 3, 4, NULL, 2.5 FROM project, rater WHERE rater.role = 'rater';
