"""`make bench`: the whole service under load, beside what its parts can do alone and what other servers do."""
