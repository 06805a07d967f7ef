"""One short file per node: a mailbox around one stage."""
