"""Parts of the prefix cache's benchmark."""
