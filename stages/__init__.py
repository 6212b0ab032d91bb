"""One script a DVC stage: read parameters, call the library, write outputs."""
