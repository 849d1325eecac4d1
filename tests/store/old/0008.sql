-- What schema 0008 added: several questions on one screen, and what each was answered.
INSERT INTO question_answer (judgment, place, kind, outcome, strength, confidence, text, question) SELECT min(id), 0, 'pair', 'answer', 0.5, NULL, 'é ''x'' "y"', 'helpful' FROM judgment;
