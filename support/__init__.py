"""What the paper does not speak of: see CONTRIBUTING.md for who may import whom."""
