"""Where noise comes from: one module per kind of source, and the URIs that name them."""
