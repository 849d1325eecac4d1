"""Everything that only makes things faster. A newcomer may ignore it: each way is tried beside the plain one."""
