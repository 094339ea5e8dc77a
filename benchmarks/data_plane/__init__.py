"""The data plane's benchmark: both ends of every peer, and the processes that run them."""
