"""`make bench`: the whole service under load, beside what its parts do alone and what other servers do."""
