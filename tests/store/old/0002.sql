-- What schema 0002 added, as its code wrote it.
UPDATE session SET used_at = 1795960000.5, user_agent = 'Firefox é ''x'' "y"; --', address = '203.0.113.0/24';
UPDATE api_token SET used_at = 1795960001.25, address = '2001:db8::/64';
INSERT INTO known_device (token_hash, rater, created_at, used_at) SELECT 'd000000000000000000000000000000000000000000000000000000000000000', id, 1.5, 2.5 FROM rater WHERE role = 'owner';
INSERT INTO password_link (token_hash, rater, made_by, created_at, expires_at) SELECT 'e000000000000000000000000000000000000000000000000000000000000000', id, id, 1.5, 1795970000.0 FROM rater WHERE role = 'owner';
