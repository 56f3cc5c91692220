"""The four claims, measured beside other systems: what is run, what came out, and the pages that say so."""
