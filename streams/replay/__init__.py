"""``ebbtide replay``: logs of events from files, through the same core as live, with no broker and no Redis."""
