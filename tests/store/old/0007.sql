-- What schema 0007 added: answers beyond a question's overlap.
UPDATE task_slot SET added = (1 = 1) WHERE slot = 0;
