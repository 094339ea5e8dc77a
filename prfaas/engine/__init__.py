"""One model, its cache memory and its step loop: schedule → run → commit. Knows no HTTP and no sockets."""
