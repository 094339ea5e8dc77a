"""Words that every layer shares: ids, requests, model shapes, units, errors. Knows no torch and no sockets."""
