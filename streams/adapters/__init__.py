"""Events of other systems as Ebbtide's records: declarative mappings, and what applies them."""
