"""Where lines come from: files that grow; later connections and requests."""
